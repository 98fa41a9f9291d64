// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Whether a wallet stands by a signature of a hash: ERC-1271, ERC-6492, or ECDSA by its own key.
///
/// Never deployed. An eth_call runs this as creation code, and what the constructor returns is the
/// answer: one word, 1 for yes and 0 for no. It asks code that strangers wrote and supply, so each
/// call out has its own share of the gas, and at most one word of what it returns is copied.
contract SignatureValidator {
    uint256 private constant WALLET_GAS = 1_000_000; // twice a P-256 signature checked in Solidity
    uint256 private constant FACTORY_GAS = 3_000_000; // a wallet's whole code, not just a proxy

    /// isValidSignature's selector, padded as ABI pads a bytes4. The whole word is compared, so that
    /// no contract that echoes what it is asked says yes.
    bytes32 private constant MAGIC = bytes32(bytes4(0x1626ba7e));
    uint256 private constant HALF_CURVE_ORDER =
        0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    /// `factory` is zero where the signature did not come wrapped (ERC-6492). Else it is called when
    /// the wallet as it is does not say yes: it deploys the wallet or prepares it.
    constructor(
        address wallet,
        bytes32 digest,
        bytes memory signature,
        address factory,
        bytes memory factoryCalldata
    ) {
        bool accepted = _accepts(wallet, digest, signature);
        if (!accepted && factory != address(0)) {
            assembly {
                let data := add(factoryCalldata, 32)
                pop(call(FACTORY_GAS, factory, 0, data, mload(factoryCalldata), 0, 0))
            }
            accepted = _accepts(wallet, digest, signature);
        }
        accepted = accepted || _isSigner(wallet, digest, signature);
        assembly {
            mstore(0, accepted)
            return(0, 32)
        }
    }

    /// Whether the wallet's own code says yes. Without code there is nobody to say so: a call would
    /// succeed all the same, and one of the precompiles returns whatever it is given.
    function _accepts(address wallet, bytes32 digest, bytes memory signature)
        private
        view
        returns (bool accepted)
    {
        if (wallet.code.length == 0) return false;
        bytes32 magic = MAGIC;
        bytes memory question = abi.encodeWithSelector(bytes4(magic), digest, signature);
        assembly {
            let success :=
                staticcall(WALLET_GAS, wallet, add(question, 32), mload(question), 0, 32)
            accepted := and(and(success, gt(returndatasize(), 31)), eq(mload(0), magic))
        }
    }

    /// Whether the wallet's own key signed. Accounts with code have one too (EIP-7702).
    function _isSigner(address wallet, bytes32 digest, bytes memory signature)
        private
        pure
        returns (bool)
    {
        if (signature.length != 65) return false;
        bytes32 r;
        bytes32 s;
        uint8 v;
        assembly {
            r := mload(add(signature, 32))
            s := mload(add(signature, 64))
            v := byte(0, mload(add(signature, 96)))
        }
        if (uint256(s) > HALF_CURVE_ORDER) return false;
        address signer = ecrecover(digest, v, r, s);
        return signer != address(0) && signer == wallet;
    }
}
