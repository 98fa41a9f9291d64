"""Wallets that are contracts: their own code says whether a signature is theirs."""

import asyncio
from collections.abc import Mapping
from typing import Final

from moorage.auth.contract_signature import read_verdict, unwrap, validation_call
from moorage.auth.rate_limit import RateLimiter
from moorage.auth.wallet import Wallet
from moorage.chains.rpc import RpcClient
from moorage.errors import ChainUnavailable, InvalidField

AT_ONCE: Final = 4
"""Questions under way; more of them wait. Payments are verified by the same nodes."""


class ContractWallets:
    """Asks a chain about signatures (ERC-1271, ERC-6492): one `eth_call` each, bounded in gas.

    What the node runs is code that strangers wrote, so each client address may have it run only so
    often, and that is counted before the node is asked. Answers are not kept: a nonce makes each
    question a new one, and a wallet's owner may change with any block.
    """

    def __init__(
        self, clients: Mapping[str, RpcClient], *, default_chain: str, limiter: RateLimiter
    ) -> None:
        self._clients = clients
        self._default_chain = default_chain
        self._limiter = limiter
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def accept(
        self, wallet: Wallet, digest: bytes, signature: bytes, *, chain: str | None, client: str
    ) -> bool:
        """Whether `wallet`, as it is on `chain` or would be once deployed, signed `digest`.

        `chain` is a header's text, None for the default; `client` is whom the question counts for.
        Raises SignatureInvalid for a broken ERC-6492 wrapper and InvalidField for an unknown chain,
        before anything is counted; RateLimited before anything is asked; ChainUnavailable.
        """
        rpc = self._clients.get((chain or self._default_chain).strip().lower())
        if rpc is None:
            raise InvalidField("X-Wallet-Chain", f"must be one of {', '.join(self._clients)}")
        call = validation_call(wallet, digest, unwrap(signature))
        await self._limiter.check(client)
        try:
            async with self._turns:
                return read_verdict(await rpc.call("eth_call", [call, "latest"]))
        except ValueError as error:
            raise ChainUnavailable(
                f"The chain {rpc.chain.name} does not say now whether this wallet signed."
            ) from error
