"""Wallets that are contracts: their own code decides whether a signature is theirs."""

import asyncio
from collections.abc import Mapping
from typing import Final

from moorage.auth.contract_signature import read_verdict, unwrap, validation_call
from moorage.auth.rate_limit import RateLimiter
from moorage.auth.wallet import Wallet
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable, InvalidField

AT_ONCE: Final = 4
"""Questions at once; others wait, as payments are verified by the same nodes."""


class ContractWallets:
    """Asks a chain about signatures (ERC-1271, ERC-6492): one `eth_call` each, with a gas limit.

    The node runs code that strangers wrote. So the calls of each client address are limited, and
    counted before the node is asked. Answers are not cached: a nonce makes each question a new one,
    and a wallet's owner may change with any block.

    A yes opens whatever the wallet has, and a node that lies can say it of any wallet, a key's as
    well. So two nodes must say it where a chain has two.
    """

    def __init__(
        self, clients: Mapping[str, RpcClient], *, default_chain: str, limiter: RateLimiter
    ) -> None:
        self._clients = clients
        self._default_chain = default_chain
        self._limiter = limiter
        self._turns = asyncio.Semaphore(AT_ONCE)

    def asked(self, chain: str | None) -> str:
        """Returns the name of the chain that `accept` asks, in the form that clients send."""
        return (chain or self._default_chain).strip().lower()

    def name_of(self, chain_id: int) -> str | None:
        """Returns the name of a chain by its id, if it can be asked."""
        found = (name for name, rpc in self._clients.items() if rpc.chain.chain_id == chain_id)
        return next(found, None)

    async def accept(
        self, wallet: Wallet, digest: bytes, signature: bytes, *, chain: str | None, client: str
    ) -> bool:
        """Whether `wallet`, deployed on `chain` or yet to be deployed there, signed `digest`.

        `chain` is a header's text, None for the default; `client` is whom the question counts for.
        Raises, before it counts, SignatureInvalid for a broken ERC-6492 wrapper and InvalidField
        for an unknown chain; before it asks, RateLimited; then ChainUnavailable.
        """
        rpc = self._clients.get(self.asked(chain))
        if rpc is None:
            raise InvalidField("X-Wallet-Chain", f"must be one of {', '.join(self._clients)}")
        call = validation_call(wallet, digest, unwrap(signature))
        await self._limiter.check(client)
        try:
            async with self._turns:
                says_yes = await _verdict(rpc, call)
                if says_yes and rpc.quorum > 1:
                    await _require_quorum(rpc, call)
        except ValueError as error:
            raise _unknown(rpc) from error
        return says_yes


async def _verdict(rpc: RpcClient, call: dict[str, str]) -> bool:
    return read_verdict(await rpc.call("eth_call", [call, "latest"]))


async def _require_quorum(rpc: RpcClient, call: dict[str, str]) -> None:
    """Raises ChainUnavailable unless so many nodes say yes as must agree."""

    async def is_yes(node: RpcClient) -> bool:
        try:
            return await _verdict(node, call)
        except ValueError as error:
            raise _unknown(rpc) from error

    views = await rpc.every(is_yes)
    if sum(view is True for view in views) < rpc.quorum:
        raise _unknown(rpc)


def _unknown(rpc: RpcClient) -> ChainUnavailable:
    return ChainUnavailable(
        f"The chain {rpc.chain.name} does not say now whether this wallet signed."
    )
