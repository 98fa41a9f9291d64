// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// A contract wallet for local chains: its owner has it call anything, and it accepts the owner's
/// signatures as its own (ERC-1271). The owner's address is written straight into slot 0.
contract DevWallet {
    address public owner; // slot 0

    receive() external payable {}

    function execute(address target, uint256 value, bytes calldata data)
        external
        returns (bytes memory)
    {
        require(msg.sender == owner, "DevWallet: caller is not the owner");
        (bool success, bytes memory answer) = target.call{value: value}(data);
        require(success, "DevWallet: call failed");
        return answer;
    }

    function isValidSignature(bytes32 digest, bytes calldata signature)
        external
        view
        returns (bytes4)
    {
        if (signature.length != 65) return 0xffffffff;
        bytes32 r = bytes32(signature[0:32]);
        bytes32 s = bytes32(signature[32:64]);
        address signer = ecrecover(digest, uint8(signature[64]), r, s);
        return signer != address(0) && signer == owner ? this.isValidSignature.selector : bytes4(0xffffffff);
    }
}
