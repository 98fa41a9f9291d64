// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DevWallet} from "DevWallet.sol";

/// A DevWallet with its owner from the start.
contract DevOwnedWallet is DevWallet {
    constructor(address owner_) {
        owner = owner_;
    }
}

/// Deploys wallets for local chains at addresses that are known, and can sign, before there is any
/// code at them.
contract DevWalletFactory {
    function create(address owner, bytes32 salt) external returns (address) {
        return address(new DevOwnedWallet{salt: salt}(owner));
    }

    function addressOf(address owner, bytes32 salt) external view returns (address) {
        bytes32 code =
            keccak256(abi.encodePacked(type(DevOwnedWallet).creationCode, abi.encode(owner)));
        bytes32 place = keccak256(abi.encodePacked(bytes1(0xff), address(this), salt, code));
        return address(uint160(uint256(place)));
    }
}
