"""The paywall: turns the evidence of a payment into credit.

An authorization is settled into a transaction first. Then every transaction is verified on chain,
each of its transfers is claimed once, and its payer is credited. Money that arrived is credited in
a database transaction of its own, before it is compared with the price.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from moorage.chains.chain import Chain, Token
from moorage.clock import Clock
from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    ChallengeExpired,
    ChallengeInvalid,
    CommitUnknown,
    DatabaseUnavailable,
    MoorageError,
    PayerMismatch,
    PaymentAlreadyUsed,
    PaymentError,
    PaymentHeld,
    PaymentNotFound,
    PaymentPending,
)
from moorage.ledger import ledger
from moorage.ledger.ledger import Filling, Transfer
from moorage.metrics import PAYMENTS, refusal_label
from moorage.money import MicroUsd
from moorage.payments.protocols.evidence import AuthorizationEvidence, Evidence, TransactionEvidence
from moorage.payments.relay.settlements import Settlements
from moorage.payments.taking.outcome import (
    PaymentOutcome,
    PaymentReceipt,
    outcome_of,
    state_after,
    state_in_books,
    tokens_of,
)
from moorage.payments.taking.payment_required import Challenges
from moorage.payments.taking.screening import Screen, held_back
from moorage.payments.taking.verification import Lookup, Lookups, Verifier
from moorage.records.payments import Payment, PaymentStatus
from moorage.storage.apps import projects
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts, payments, quotes
from moorage.wire.problems import PaymentState


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
        be read. Each question counts. Raises what `Verifier.transfers` raises for the chain that
        knows the transaction, else for `chain`.
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


NOTHING_CREDITED = (
    PaymentNotFound,
    PayerMismatch,
    ChallengeInvalid,
    ChallengeExpired,
    AuthorizationRefused,
)
"""Refusals of a payment that credited the caller nothing: the caller may be asked to pay."""
_NOT_YOURS = (
    "This authorization was signed by another wallet than the request. It was not spent: "
    "only its own wallet can pay with it."
)
_BEING_SETTLED = (
    "A payment that you authorized is being settled. Do not pay again: "
    "send the same request again in a few seconds."
)
_NOT_KNOWN = (
    "Whether your payment is recorded is not known yet. Do not pay again: "
    "send the same request again in a few seconds."
)
_MOVED = (
    "This payment is credited from another block than it is in now, and the chain's nodes do not "
    "agree on it yet. Do not pay again: send the same request again."
)
_SENT_BACK = (
    "The operator has sent this payment back to you, or is about to: it pays for nothing any more."
)
_FOR_ANOTHER = (
    "This payment has paid for your project {}. For another project send the request without it: "
    "credits that are left count, and the answer says what is due."
)
_TOPPED_UP = (
    "This transaction has topped up your credits already. Send the request without it: "
    "your credits pay."
)


class OpenUse(NamedTuple):
    """The deployment that a payment has opened which spoke alone."""

    project_id: str
    deployment_id: str
    receipt: PaymentReceipt | None
    """None once its money was sent back, or has left the chain."""


@dataclass(eq=False, kw_only=True)
class Paywall:
    """Turns evidence of payments into credits."""

    db: Database
    chains: Mapping[str, Chain]
    verifier: Verifier
    settlements: Settlements
    challenges: Challenges
    screen: Screen
    lookups: Lookups
    clock: Clock

    def __post_init__(self) -> None:
        self._search = TransactionSearch(self.verifier, self.chains)

    async def take(
        self,
        evidence: Evidence,
        *,
        wallet: str,
        body_digest: str,
        unique_name: str | None = None,
        purse: str | None = None,
    ) -> PaymentReceipt:
        """Credits what `evidence` shows, once; returns what it brought `wallet` in all.

        `unique_name` is the app whose deploy it pays for; without one it is a top-up. `purse` is
        the project whose purse it fills, if it is an authorization that was not sent before: then
        the receipt names it. A transaction's hash, which everybody can read, fills none. A payment
        that was credited before, for example by the watcher, is accepted unless it has paid for
        something; one that was used for a top-up is accepted for a top-up again.

        Raises PaymentAlreadyUsed, PayerMismatch (the payer of a transaction is credited even so; an
        authorization is not spent), PaymentPending, PaymentNotFound, PaymentHeld, ChainUnavailable,
        DatabaseUnavailable; and with nothing spent ChallengeInvalid, ChallengeExpired,
        AuthorizationRefused, RateLimited.
        """
        chain, token = evidence.means.chain.name, evidence.means.token.name
        try:
            tx_hash = await self._transaction(
                evidence,
                wallet=wallet,
                body_digest=body_digest,
                unique_name=unique_name,
                purse=purse,
            )
            filling = await self._filling(evidence) if purse else None
            receipt = await self._take(
                evidence, tx_hash, wallet=wallet, unique_name=unique_name, filling=filling
            )
        except CommitUnknown as unknown:
            pending = PaymentPending(_NOT_KNOWN)
            pending.payment = PaymentOutcome(
                tx_hash=None, chain=chain, token=token, state=PaymentState.PENDING
            )
            PAYMENTS.labels(chain, token, "payment_pending").inc()
            raise pending from unknown
        except MoorageError as error:
            PAYMENTS.labels(chain, token, refusal_label(error)).inc()
            raise
        PAYMENTS.labels(chain, token, "credited").inc()
        return receipt

    async def _filling(self, evidence: Evidence) -> Filling | None:
        """Returns what an authorization fills, as its first sender said."""
        if not isinstance(evidence, AuthorizationEvidence):
            return None
        one = evidence.authorization
        purse = await self.settlements.purse_of(one)
        return None if purse is None else Filling(one.payer, one.token_address, one.value, purse)

    async def fill(self, tx: Transaction, receipt: PaymentReceipt) -> bool:
        """Moves what a payment brought to the purse that its receipt names, unless it is there.

        Returns False if there is none to fill, and if the payer may have used the credits: they are
        in the wallet for more than MAX_ENTRY_MS.
        """
        if receipt.purse is None:
            return False
        for payment in await self._credited(tx, receipt):
            if payment.amount == receipt.authorized:
                now_ms = self.clock.now_ms()
                holder = await ledger.holder_of(tx, payment)
                is_old = now_ms - payment.claimed_at_ms > ledger.MAX_ENTRY_MS
                if holder == payment.payer and is_old:
                    return False
                return await ledger.fill_purse(tx, payment, receipt.purse, now_ms=now_ms)
        return False

    async def gather(self, tx: Transaction, receipt: PaymentReceipt) -> None:
        """Moves what a payment brought to its wallet, if it waits in a purse of no project.

        For requests that the wallet has signed: others who sent the payment before opened nothing.
        """
        for payment in await self._credited(tx, receipt):
            project_id = payment.purse
            if project_id is None or await projects.by_id(tx, project_id) is not None:
                continue
            if await accounts.balance(tx, accounts.purse_of(project_id)) >= 0:
                await ledger.empty_purse(tx, project_id, now_ms=self.clock.now_ms())

    async def give(
        self, tx: Transaction, receipt: PaymentReceipt, taker: str, *, is_new: bool
    ) -> bool:
        """Moves what a payment brought to another wallet's credits; returns whether that has it.

        For requests that the payer has signed. What is not `is_new` was used, and stays.
        """
        now_ms = self.clock.now_ms()
        found = await self._credited(tx, receipt)
        return bool(found) and all(
            [
                each.given_to == taker
                or (is_new and await ledger.give(tx, each, taker, now_ms=now_ms))
                for each in found
            ]
        )

    async def pour(self, tx: Transaction, receipt: PaymentReceipt, project_id: str) -> bool:
        """Moves what a payment brought to its wallet's credits to the purse of a project.

        For requests that the wallet has signed. Returns whether the purse has it.
        """
        now_ms = self.clock.now_ms()
        return any(
            [
                await ledger.fill_purse(tx, payment, project_id, now_ms=now_ms)
                for payment in await self._credited(tx, receipt)
                if payment.purse == project_id
                or await ledger.holder_of(tx, payment) == payment.payer
            ]
        )

    async def _credited(self, tx: Transaction, receipt: PaymentReceipt) -> list[Payment]:
        known = await payments.of_transaction(
            tx, chain_id=receipt.chain_id, tx_hash=receipt.tx_hash
        )
        return _credited_to(receipt.payer, known)

    def settles(self) -> bool:
        """Whether any payment by authorization can be settled right now."""
        return any(
            self.settlements.offered(chain, token)
            for chain in self.chains.values()
            for token in chain.tokens
        )

    async def may_have_moved(self, evidence: Evidence | None) -> bool:
        """Returns whether the money of a payment has moved, or may have: it is credited then."""
        if evidence is None:
            return False
        return isinstance(evidence, TransactionEvidence) or await self.knows(evidence)

    async def knows(self, offered: AuthorizationEvidence) -> bool:
        """Whether this authorization was ever accepted: then it may be spent, whatever fails."""
        return await self.settlements.known(offered.authorization)

    def check(self, offered: AuthorizationEvidence) -> None:
        """Raises AuthorizationRefused for one that pays somebody else, or is not valid now."""
        self.settlements.check(
            offered.authorization, chain=offered.means.chain, token=offered.means.token
        )

    async def settled_by(self, offered: AuthorizationEvidence) -> str | None:
        """Returns the hash of the transaction that has settled this authorization, if one has."""
        return await self.settlements.settled_by(offered.authorization)

    async def used_openly(
        self, offered: AuthorizationEvidence, *, body_digest: str
    ) -> OpenUse | None:
        """Returns what an authorization that spoke alone has opened, if it came with this body.

        What its wallet has used it for since, by its signature, is the wallet's to know.
        """
        authorization, chain = offered.authorization, offered.means.chain
        tx_hash = await self.settlements.settled_by(authorization, open_body=body_digest)
        if tx_hash is None:
            return None
        uses = await payments.uses_of(self.db, chain_id=chain.chain_id, tx_hash=tx_hash)
        project_id, deployment_id = uses.get(authorization.payer, (None, None))
        if project_id is None or deployment_id is None:
            return None
        if project_id != await self.settlements.purse_of(authorization):
            return None
        known = await payments.of_transaction(self.db, chain_id=chain.chain_id, tx_hash=tx_hash)
        credited = _credited_to(authorization.payer, known)
        receipt = self._receipt(offered, credited, project_id) if credited else None
        return OpenUse(project_id, deployment_id, receipt)

    async def refuse_while_unsettled(self, wallet: str, *, source: Source | None = None) -> None:
        """Raises PaymentPending while the outcome of an authorization of the wallet is unknown.

        Until it is known, the wallet must not be asked to pay again.
        """
        if await self.settlements.unresolved(wallet, source=source):
            raise PaymentPending(_BEING_SETTLED)

    async def refuse_used(
        self, *, chain_id: int, tx_hash: str, wallet: str, unique_name: str | None
    ) -> None:
        """Raises PaymentAlreadyUsed if the transaction has paid for a deployment.

        The error tells a payer the ids. `unique_name` is the app that the request is for; None is a
        top-up. If several wallets paid in one transaction, each uses its own share once. One that
        was used for a top-up pays for no deployment, but may be sent again for a top-up.
        """
        uses = await payments.uses_of(self.db, chain_id=chain_id, tx_hash=tx_hash)
        if not uses:
            return
        if wallet in uses:
            project_id, deployment_id = uses[wallet]
            if project_id is not None:
                paid_for = await projects.by_id(self.db, project_id)
                name = None if paid_for is None else paid_for.unique_name
                is_other = unique_name not in (None, name)
                raise PaymentAlreadyUsed(
                    _FOR_ANOTHER.format(name or "that is deleted") if is_other else "",
                    project_id=project_id,
                    deployment_id=deployment_id,
                    for_another=is_other,
                )
            if unique_name is not None:
                raise PaymentAlreadyUsed(_TOPPED_UP)
        known = await payments.of_transaction(self.db, chain_id=chain_id, tx_hash=tx_hash)
        if all(item.payer != wallet for item in known):
            raise PaymentAlreadyUsed

    async def credit(
        self,
        *,
        chain: Chain,
        token: Token,
        tx_hash: str,
        wallet: str,
        unique_name: str | None,
        stranger_at: str | None = None,
        anywhere: bool = False,
        filling: Filling | None = None,
    ) -> list[Payment]:
        """Verifies the transaction and credits each of its transfers that was not credited before.

        With `anywhere`, one that is not on `chain` is looked for on the others too. What it brings
        `wallet` is noted on its quotes for `unique_name`. Returns all payments of this transaction
        in the books. `stranger_at` is as for `Lookups.of`.
        """
        look = self._search.find if anywhere else self.verifier.transfers
        with self.lookups.of(stranger_at, tx_hash) as lookup:
            transfers = await look(chain=chain, token=token, tx_hash=tx_hash, lookup=lookup)
        chain = self._chain(transfers[0].chain_id, chain)
        known = await payments.of_transaction(self.db, chain_id=chain.chain_id, tx_hash=tx_hash)
        if ledger.moves(known, transfers) and not await self.verifier.is_agreed(transfers):
            raise PaymentPending(_MOVED)
        held = await held_back(transfers, self.screen, booked=known)
        now_ms = self.clock.now_ms()
        # In another block a transaction may have paid for others: what it brought them is reversed.
        payers = {each.payer for each in transfers} | {each.payer for each in known}
        payers |= {each.given_to for each in known if each.given_to is not None}

        async def book(tx: Transaction, part: Sequence[Transfer]) -> None:
            gained = await ledger.credit_transfers(
                tx, part, held=held, filling=filling, now_ms=now_ms
            )
            if unique_name is not None and gained.get(wallet, 0) > 0:
                await quotes.receive(
                    tx,
                    wallet=wallet,
                    unique_name=unique_name,
                    amount=gained[wallet],
                    now_ms=now_ms,
                )

        own_first = sorted(transfers, key=lambda one: (one.payer != wallet, -one.worth))
        first, *rest = ledger.in_parts(own_first)
        async with self.db.transaction(durable=True, of={tx_hash, wallet, *payers}) as tx:
            await book(tx, first)
            await self.settlements.conclude(
                tx, chain=chain, tx_hash=tx_hash, block_number=transfers[0].block_number
            )
            # Read within the transaction, as nothing may fail after the commit.
            credited = await payments.of_transaction(tx, chain_id=chain.chain_id, tx_hash=tx_hash)
        with contextlib.suppress(DatabaseUnavailable):  # else the watcher credits what is left
            for part in rest:
                async with self.db.transaction(durable=True, of={tx_hash, wallet, *payers}) as tx:
                    await book(tx, part)
            if rest:
                return await payments.of_transaction(
                    self.db, chain_id=chain.chain_id, tx_hash=tx_hash
                )
        return credited

    async def _transaction(
        self,
        evidence: Evidence,
        *,
        wallet: str,
        body_digest: str,
        unique_name: str | None,
        purse: str | None,
    ) -> str:
        """Returns the hash of the transaction that pays; settles an authorization first."""
        if isinstance(evidence, TransactionEvidence):
            # Its challenge is not checked, as its money has moved: only the chain decides.
            return evidence.tx_hash
        if evidence.authorization.payer != wallet:
            raise PayerMismatch(_NOT_YOURS)
        if not await self.knows(evidence):
            if evidence.credential is not None:
                self.challenges.check(evidence.credential, wallet=wallet, body_digest=body_digest)
            if evidence.stranger_at is not None:  # the simulation asks a node
                await self.lookups.count(evidence.stranger_at)
        try:
            return await self.settlements.settle(
                chain=evidence.means.chain,
                token=evidence.means.token,
                authorization=evidence.authorization,
                unique_name=unique_name,
                open_body=body_digest if evidence.openly else None,
                purse=purse,
            )
        except PaymentAlreadyUsed as used:
            if used.used_by is not None:  # it is its payer's, also if another asks
                await self._credit(
                    evidence,
                    used.used_by,
                    chain=evidence.means.chain,
                    wallet=wallet,
                    unique_name=None,
                )
            raise

    async def _take(
        self,
        evidence: Evidence,
        tx_hash: str,
        *,
        wallet: str,
        unique_name: str | None,
        filling: Filling | None,
    ) -> PaymentReceipt:
        chain, known = await self._booked(evidence, tx_hash)
        await self.refuse_used(
            chain_id=chain.chain_id, tx_hash=tx_hash, wallet=wallet, unique_name=unique_name
        )
        claimed = _standing(known)
        if not claimed:
            claimed = _standing(
                await self._credit(
                    evidence,
                    tx_hash,
                    chain=chain,
                    wallet=wallet,
                    unique_name=unique_name,
                    filling=filling,
                )
            )
        elif isinstance(evidence, AuthorizationEvidence):
            await self._conclude(chain, claimed[0])
        own = [item for item in claimed if item.payer == wallet]
        if not own:
            raise PayerMismatch
        credited = _credited_to(wallet, own)
        if all(item.status is PaymentStatus.REFUNDED for item in own):
            raise PaymentAlreadyUsed(_SENT_BACK)
        if not credited:
            raise PaymentHeld
        purse = None if filling is None else filling.project_id
        return self._receipt(evidence, credited, purse)

    def _receipt(
        self, evidence: Evidence, credited: Sequence[Payment], purse: str | None
    ) -> PaymentReceipt:
        return PaymentReceipt(
            chain_id=credited[0].chain_id,
            tx_hash=credited[0].tx_hash,
            payer=credited[0].payer,
            credited=MicroUsd(sum(item.credited_micro_usd for item in credited)),
            at_ms=self.clock.now_ms(),
            way=evidence.way,
            challenge_id=evidence.credential.challenge.id if evidence.credential else None,
            reference=evidence.credential.request.reference if evidence.credential else "",
            authorized=(
                evidence.authorization.value
                if isinstance(evidence, AuthorizationEvidence)
                else None
            ),
            chain=self._chain(credited[0].chain_id, evidence.means.chain).name,
            token=tokens_of(credited),
            purse=purse,
        )

    async def _credit(
        self,
        evidence: Evidence,
        tx_hash: str,
        *,
        chain: Chain,
        wallet: str,
        unique_name: str | None,
        filling: Filling | None = None,
    ) -> list[Payment]:
        try:
            return await self.credit(
                chain=chain,
                token=evidence.means.token,
                tx_hash=tx_hash,
                wallet=wallet,
                unique_name=unique_name,
                stranger_at=evidence.stranger_at,
                anywhere=isinstance(evidence, TransactionEvidence),
                filling=filling,
            )
        except PaymentNotFound as reverted:
            if isinstance(evidence, AuthorizationEvidence):  # it may still be used
                raise PaymentPending(_BEING_SETTLED) from reverted
            raise

    async def _conclude(self, chain: Chain, found: Payment) -> None:
        """Ends the settlement of a payment that the watcher credited first.

        If that fails, the follow-up does it later.
        """
        with contextlib.suppress(DatabaseUnavailable):
            if await self.settlements.unresolved(found.payer):
                async with self.db.transaction(durable=False) as tx:
                    await self.settlements.conclude(
                        tx, chain=chain, tx_hash=found.tx_hash, block_number=found.block_number
                    )

    async def _booked(self, evidence: Evidence, tx_hash: str) -> tuple[Chain, list[Payment]]:
        """Returns the chain that has the transaction, as far as the books know, and its payments.

        An authorization is for one chain alone.
        """
        chains = self.chains.values() if isinstance(evidence, TransactionEvidence) else ()
        return await booked(self.db, named=evidence.means.chain, chains=chains, tx_hash=tx_hash)

    def _chain(self, chain_id: int, named: Chain) -> Chain:
        chains = (named, *self.chains.values())
        return next(chain for chain in chains if chain.chain_id == chain_id)


def _credited_to(wallet: str, known: Iterable[Payment]) -> list[Payment]:
    return [
        item for item in known if item.payer == wallet and item.status is PaymentStatus.CREDITED
    ]


def _standing(known: Iterable[Payment]) -> list[Payment]:
    """The payments that were not reversed."""
    return [item for item in known if item.status is not PaymentStatus.REVERSED]


_OF_THE_PAYMENT = (PaymentError, ChainUnavailable, DatabaseUnavailable)
"""Refusals that say what became of the payment, or that this is not known now."""

_NOT_LOOKED = PaymentPending()


class Outcomes:
    """Tells the outcomes of payments."""

    def __init__(self, *, db: Database, paywall: Paywall, chains: Mapping[str, Chain]) -> None:
        self._db = db
        self._paywall = paywall
        self._chains = chains

    async def after_refusal(
        self, evidence: Evidence, *, wallet: str, refusal: MoorageError
    ) -> PaymentOutcome:
        """Returns what became of a payment that came with a refused request of `wallet`.

        Unless the payment itself was refused, a transaction is credited first, as for a top-up: its
        money has moved, whatever is wrong with the request. An authorization is not spent.
        """
        is_open = refusal.receipt is None and not isinstance(refusal, _OF_THE_PAYMENT)
        if is_open and isinstance(evidence, TransactionEvidence):
            refusal = await self._credited(evidence, wallet) or _NOT_LOOKED
        return await self.known(evidence, wallet=wallet, refusal=refusal)

    async def of_repeated(
        self, evidence: Evidence, *, wallet: str, unique_name: str | None = None
    ) -> PaymentOutcome:
        """Returns what became of the payment of a repeated request, whose answer stays the first.

        A transaction is credited; one that can't be now is credited later, by the watcher or when
        its hash comes again. An authorization is not spent.
        """
        failure: MoorageError | None = None
        if isinstance(evidence, TransactionEvidence):
            failure = await self._credited(evidence, wallet, unique_name)
        return await self.known(evidence, wallet=wallet, refusal=failure or _NOT_LOOKED)

    async def known(
        self, evidence: Evidence, *, wallet: str, refusal: MoorageError
    ) -> PaymentOutcome:
        """Returns the outcome that the books show; where they don't, that of the refusal.

        Asks no chain, and credits nothing. Without a `wallet` a transaction is nobody's yet.
        """
        if isinstance(refusal.payment, PaymentOutcome):
            return refusal.payment
        if isinstance(refusal.receipt, PaymentReceipt):
            return outcome_of(refusal.receipt)
        if isinstance(evidence, TransactionEvidence):
            return await self._in_books(
                evidence, evidence.tx_hash, wallet, otherwise=state_after(refusal)
            )
        return await self._of_authorization(evidence, wallet, refusal)

    async def _credited(
        self, evidence: TransactionEvidence, wallet: str, unique_name: str | None = None
    ) -> MoorageError | None:
        """Credits a transaction; returns why it could not be, if so."""
        try:
            await self._paywall.take(
                evidence, wallet=wallet, body_digest="", unique_name=unique_name
            )
        except MoorageError as failure:
            return failure
        return None

    async def _of_authorization(
        self, evidence: AuthorizationEvidence, wallet: str, refusal: MoorageError
    ) -> PaymentOutcome:
        state = PaymentState.PENDING
        with contextlib.suppress(DatabaseUnavailable):
            settled_by = await self._paywall.settled_by(evidence)
            if settled_by is None and isinstance(refusal, PaymentAlreadyUsed):
                settled_by = refusal.used_by
            if settled_by is not None:
                return await self._in_books(evidence, settled_by, wallet, otherwise=state)
            is_new = not await self._paywall.knows(evidence)
            was_used = isinstance(refusal, PaymentAlreadyUsed)  # perhaps by somebody else
            if isinstance(refusal, NOTHING_CREDITED) or (is_new and not was_used):
                state = PaymentState.UNUSED
        chain, token = evidence.means.chain.name, evidence.means.token.name
        return PaymentOutcome(tx_hash=None, chain=chain, token=token, state=state)

    async def _in_books(
        self, evidence: Evidence, tx_hash: str, wallet: str, *, otherwise: PaymentState
    ) -> PaymentOutcome:
        chain, found = evidence.means.chain, list[Payment]()
        with contextlib.suppress(DatabaseUnavailable):
            chain, found = await booked(
                self._db, named=chain, chains=self._chains.values(), tx_hash=tx_hash
            )
        own = [one for one in found if one.payer == wallet]
        brought = [one for one in own if one.status is PaymentStatus.CREDITED]
        return PaymentOutcome(
            tx_hash=tx_hash,
            chain=chain.name,
            token=tokens_of(brought or own) or evidence.means.token.name,
            state=(wallet and state_in_books(found, wallet)) or otherwise,
            credited=MicroUsd(sum(one.credited_micro_usd for one in brought)),
        )
