"""RPC calls that install tokens on a local chain, at the real addresses, and fund wallets.

`devtokens.json` contains the compiled contracts; `contracts/compile.mjs` makes it. This module only
builds the calls; `devchain` sends them.
"""

from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

import msgspec

from moorage.chains.chain import Chain
from moorage.signing.keccak import keccak256

GAS_WEI: Final = 10_000 * 10**18
TOKENS_EACH: Final = 1_000

_BALANCES_SLOT = 9  # of contracts/DevToken.sol
_CONTRACTS = {"usdc": "DevUSDC", "usdt": "DevUSDT"}

RpcCall = tuple[str, Sequence[Any]]


class Contract(msgspec.Struct, frozen=True):
    """A compiled contract, which can be put at any address."""

    runtime: str  # bytecode, hex with 0x
    selectors: dict[str, str]  # by signature: "transfer(address,uint256)" → "a9059cbb"


class _Artifact(msgspec.Struct, frozen=True):
    compiler: str
    settings: dict[str, Any]
    sources: dict[str, str]  # SHA-256 of each source, hex
    contracts: dict[str, Contract]


def artifact() -> _Artifact:
    """Returns the content of `devtokens.json`."""
    content = resources.files("moorage.chains.local").joinpath("devtokens.json").read_bytes()
    return msgspec.json.decode(content, type=_Artifact)


def token_contracts(chain: Chain) -> dict[str, str]:
    """Returns the runtime bytecode by token address. Raises KeyError for a token without one."""
    contracts = artifact().contracts
    return {token.address: contracts[_CONTRACTS[token.name]].runtime for token in chain.tokens}


def funding_calls(
    chain: Chain, *, gas_for: Iterable[str], tokens_for: Iterable[str]
) -> list[RpcCall]:
    """Returns calls that set balances: TOKENS_EACH of each token, then GAS_WEI.

    Gas comes last, so that a wallet with gas was funded completely. Needs `anvil_*` methods.
    """
    tokens: list[RpcCall] = [
        ("anvil_setStorageAt", [token.address, _balance_slot(wallet), _word(amount)])
        for wallet in tokens_for
        for token in chain.tokens
        for amount in (TOKENS_EACH * 10**token.decimals,)
    ]
    gas: list[RpcCall] = [("anvil_setBalance", [wallet, hex(GAS_WEI)]) for wallet in gas_for]
    return tokens + gas


def _balance_slot(account: str) -> str:
    """Returns the slot of `account`'s value in the mapping at slot 9 (Solidity's layout)."""
    key = bytes.fromhex(account.removeprefix("0x")).rjust(32, b"\0")
    return "0x" + keccak256(key + _BALANCES_SLOT.to_bytes(32, "big")).hex()


def _word(value: int) -> str:
    return f"0x{value:064x}"
