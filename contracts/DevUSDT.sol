// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DevToken} from "DevToken.sol";

/// A stand-in for USDT on local chains, in its awkward form: its functions return nothing, so
/// whoever judges a payment by return data rather than by logs is found out.
contract DevUSDT is DevToken {
    string public constant name = "Tether USD";
    string public constant symbol = "USDT";

    function transfer(address to, uint256 value) external {
        _transfer(msg.sender, to, value);
    }

    function approve(address spender, uint256 value) external {
        _approve(msg.sender, spender, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        _spendAllowance(from, msg.sender, value);
        _transfer(from, to, value);
    }
}
