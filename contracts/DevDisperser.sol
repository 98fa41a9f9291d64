// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// Makes several transfers in one transaction, out of the caller's allowance, so that a receipt
/// holds several Transfer logs whose `from` is not the contract that was called.
contract DevDisperser {
    function disperse(address token, address[] calldata recipients, uint256[] calldata values)
        external
    {
        require(recipients.length == values.length, "DevDisperser: lengths differ");
        for (uint256 i = 0; i < recipients.length; i++) {
            (bool success,) = token.call(
                abi.encodeWithSignature(
                    "transferFrom(address,address,uint256)", msg.sender, recipients[i], values[i]
                )
            );
            require(success, "DevDisperser: transfer failed");
        }
    }
}
