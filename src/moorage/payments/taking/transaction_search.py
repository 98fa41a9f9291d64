"""Finds a payment's transaction on whichever chain it was made, whatever the client says."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from moorage.chains.chain import Chain, Token
from moorage.errors import ChainUnavailable, MoorageError, PaymentPending
from moorage.ledger.transfer import Transfer
from moorage.payments.taking.lookups import Lookup
from moorage.payments.taking.verification import Verifier
from moorage.records.payments import Payment
from moorage.storage.database import Source
from moorage.storage.money import payments


async def booked(
    source: Source, *, named: Chain, chains: Iterable[Chain], tx_hash: str
) -> tuple[Chain, list[Payment]]:
    """Returns the chain that the books have this transaction on, and its payments in log order.

    That is `named` if the books have it there, or nowhere.
    """
    for chain in (named, *(each for each in chains if each.name != named.name)):
        found = await payments.of_transaction(source, chain_id=chain.chain_id, tx_hash=tx_hash)
        if found:
            return chain, found
    return named, []


class TransactionSearch:
    """Looks for a transaction on the chain that the client names, then on the others."""

    def __init__(self, verifier: Verifier, chains: Mapping[str, Chain]) -> None:
        self._verifier = verifier
        self._chains = chains

    async def find(
        self, *, chain: Chain, token: Token, tx_hash: str, lookup: Lookup
    ) -> tuple[Transfer, ...]:
        """Returns what `Verifier.transfers` does, of `chain` or else of the one that has it.

        The others are asked, all at once, only when `chain` does not know the transaction, or can't
        be read. Each question counts. Raises as `Verifier.transfers` does: what the chain that
        knows the transaction says, else what `chain` says.
        """
        others = [each for each in self._chains.values() if each.name != chain.name]
        if not others:
            return await self._on(chain, token, tx_hash, lookup)
        try:
            return await self._on(chain, token, tx_hash, lookup.at_once())
        except PaymentPending as pending:
            if pending.seen:
                return await self._on(chain, token, tx_hash, lookup)
            return await self._anywhere([chain, *others], token, tx_hash, lookup, pending)
        except ChainUnavailable as unseen:
            return await self._anywhere(others, token, tx_hash, lookup.at_once(), unseen)

    async def _on(
        self, chain: Chain, token: Token, tx_hash: str, lookup: Lookup
    ) -> tuple[Transfer, ...]:
        same = chain.token(token.name) or chain.tokens[0]
        return await self._verifier.transfers(
            chain=chain, token=same, tx_hash=tx_hash, lookup=lookup
        )

    async def _anywhere(
        self,
        chains: Sequence[Chain],
        token: Token,
        tx_hash: str,
        lookup: Lookup,
        unseen: MoorageError,
    ) -> tuple[Transfer, ...]:
        """Asks `chains` at once. Raises `unseen` when none of them knows the transaction."""
        tasks = [asyncio.create_task(self._on(each, token, tx_hash, lookup)) for each in chains]
        try:
            return await _first(tasks, unseen)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _first(
    tasks: Sequence[asyncio.Task[tuple[Transfer, ...]]], unseen: MoorageError
) -> tuple[Transfer, ...]:
    """Returns the first result, or raises the first error of a chain that knows the transaction."""
    for done in asyncio.as_completed(tasks):
        try:
            return await done
        except ChainUnavailable:
            continue
        except PaymentPending as pending:
            if pending.seen:
                raise
    raise unseen
