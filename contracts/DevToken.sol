// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// What the dev tokens share: balances, allowances and an optional fee on transfers.
/// Nothing is set by a constructor and nothing is immutable, so the runtime code can be put at any
/// address of a local chain; who owns what is written straight into storage.
/// For local chains only: anybody may set the fee.
abstract contract DevToken {
    // Balances lie at slot 9, where USDC has them, so that tools that write there work here too.
    uint256[9] private __reserved;
    mapping(address => uint256) internal _balances; // slot 9
    mapping(address => mapping(address => uint256)) internal _allowances; // slot 10
    uint256 internal _totalSupply; // slot 11

    /// What a transfer loses to the token itself, in hundredths of a percent. 0: no fee.
    uint256 public feeBasisPoints; // slot 12

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    function decimals() external pure returns (uint8) {
        return 6;
    }

    function totalSupply() external view returns (uint256) {
        return _totalSupply;
    }

    function balanceOf(address account) external view returns (uint256) {
        return _balances[account];
    }

    function allowance(address owner, address spender) external view returns (uint256) {
        return _allowances[owner][spender];
    }

    function setFeeBasisPoints(uint256 points) external {
        require(points <= 10_000, "DevToken: fee above 100%");
        feeBasisPoints = points;
    }

    function _approve(address owner, address spender, uint256 value) internal {
        _allowances[owner][spender] = value;
        emit Approval(owner, spender, value);
    }

    function _spendAllowance(address owner, address spender, uint256 value) internal {
        uint256 allowed = _allowances[owner][spender];
        require(value <= allowed, "ERC20: transfer amount exceeds allowance");
        _allowances[owner][spender] = allowed - value;
    }

    function _transfer(address from, address to, uint256 value) internal {
        require(from != address(0), "ERC20: transfer from the zero address");
        require(to != address(0), "ERC20: transfer to the zero address");
        require(value <= _balances[from], "ERC20: transfer amount exceeds balance");
        uint256 fee = value * feeBasisPoints / 10_000;
        _move(from, to, value - fee);
        if (fee > 0) _move(from, address(this), fee);
    }

    function _move(address from, address to, uint256 value) private {
        _balances[from] -= value;
        _balances[to] += value;
        emit Transfer(from, to, value);
    }
}
