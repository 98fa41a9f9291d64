"""Reads the token balances of an address from a chain."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from moorage.chains.chain import Chain, Token
from moorage.chains.receipt import balance_of_calldata, decode_uint256
from moorage.chains.rpc import RpcClient, RpcError
from moorage.errors import ChainUnavailable, RateLimited
from moorage.money import AtomicUnits


class ConcurrencyLimit:
    """Limits how many questions of strangers run at once, so that other work need not wait."""

    def __init__(self, *, limit: int = 16) -> None:
        self._left = limit

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Counts one question while it runs. Raises RateLimited when `limit` are running."""
        if self._left == 0:
            raise RateLimited(1)
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1


async def token_balances(
    client: RpcClient, chain: Chain, address: str
) -> list[tuple[Token, AtomicUnits]]:
    """Returns the balance of every token of `chain`, in the chain's order. One round trip.

    Raises ChainUnavailable if any balance can't be read; an unknown balance is never zero. Raises
    ValueError for a bad address.
    """
    data = balance_of_calldata(address)
    answers = await client.batch(
        [("eth_call", [{"to": token.key, "data": data}, "latest"]) for token in chain.tokens]
    )
    return [
        (token, _balance(chain, token, answer))
        for token, answer in zip(chain.tokens, answers, strict=True)
    ]


def _balance(chain: Chain, token: Token, answer: object) -> AtomicUnits:
    try:
        if not isinstance(answer, RpcError):
            return AtomicUnits(decode_uint256(answer))
    except ValueError:
        pass
    raise ChainUnavailable(f"The chain {chain.name} does not say the balance of {token.name} now.")
