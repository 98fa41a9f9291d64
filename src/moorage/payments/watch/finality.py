"""Reads credited payments again when their block is `safe`, and again when it is `finalized`.

A payment that a reorganisation moved is credited again from its new block. One that it removed is
reversed, and apps that are then unpaid are suspended. Every node is asked. Where their answers
leave doubt, nothing changes, and the operator is told.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain as chained
from typing import NamedTuple

import structlog

from moorage import metrics
from moorage.chains.chain import Token
from moorage.chains.heads import Heads, read_heads
from moorage.chains.receipt import balance_of_calldata, decode_uint256
from moorage.chains.rpc import AnswerTooLarge, Call, Pace, RpcClient, RpcError
from moorage.chains.transfer_search import find_transfers
from moorage.clock import Clock
from moorage.errors import ChainUnavailable, PaymentPending
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer, transfers_in
from moorage.ledger.metering import Metering
from moorage.payments.taking.screening import Screen, allow, held_back
from moorage.payments.taking.verification import Sighting, Stance, is_among, keyed, sightings
from moorage.records.payments import Finality, Payment, PaymentStatus, Place, Search
from moorage.storage.database import Database, Source
from moorage.storage.money import marks, payments
from moorage.storage.money.marks import BalanceMark


class BalanceCheck:
    """Checks the balances of `recipients` on one chain, token by token.

    What they held together at the last check, and what the books say of the blocks since, must be
    what they hold: payments came, and whatever left is seen by its logs at any node.
    """

    def __init__(self, *, db: Database, client: RpcClient, recipients: Collection[str]) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._recipients = frozenset(recipients)
        self._wrong: dict[str, str] = {}  # what is wrong, by the token's name

    @property
    def duty(self) -> str:
        """The name of the check's lease: only one gateway checks."""
        return f"balances of {self._chain.name}"

    async def require_agreement(self) -> None:
        """Raises ChainUnavailable if the last check found that a balance is not as it must be."""
        if self._wrong:
            raise ChainUnavailable(" ".join(self._wrong.values()))

    async def check(self) -> None:
        """Compares up to the newest block that is safe and was searched.

        Raises ChainUnavailable if no node tells the balances, DatabaseUnavailable.
        """
        chain_id = self._chain.chain_id
        searched = await marks.cursor(self._db, chain_id=chain_id, search=Search.SAFE)
        if searched is None:
            return
        views = await self._client.every(read_heads)
        heads = [view.safe for view in views if not isinstance(view, ChainUnavailable)]
        if not heads:
            raise self._client.silence(views)
        block = min(*heads, searched.block_number)
        held = await self._held(block)
        for number, token in enumerate(self._chain.tokens):
            said = {balances[number] for balances in held}
            await self._compare(token, said, block)

    async def _held(self, block: int) -> list[Sequence[int]]:
        """Returns what our addresses hold together of each token, as each node says."""
        owners = sorted(self._recipients)
        calls: list[Call] = [
            ("eth_call", [{"to": token.key, "data": balance_of_calldata(owner)}, hex(block)])
            for token in self._chain.tokens
            for owner in owners
        ]

        async def ask(node: RpcClient) -> list[int]:
            answers = await node.batch(calls)
            if refused := next((one for one in answers if isinstance(one, RpcError)), None):
                raise refused
            with node.reading():
                balances = [decode_uint256(answer) for answer in answers]
            count = len(owners)
            return [sum(balances[at : at + count]) for at in range(0, len(balances), count)]

        views = await self._client.every(ask)
        told = [view for view in views if not isinstance(view, ChainUnavailable)]
        if not told:
            raise self._client.silence(views)
        return list(told)

    async def _compare(self, token: Token, said: Collection[int], block: int) -> None:
        chain_id, name = self._chain.chain_id, f"{token.name} on {self._chain.name}"
        mark = await marks.balance(self._db, chain_id=chain_id, token_address=token.key)
        if mark is not None and mark.block_number >= block:
            return
        if len(said) > 1:
            self._tell(token, f"The nodes disagree on what pay_to holds of {name}.")
            return
        (now,) = said
        if mark is not None and mark.addresses == self._addresses:
            since = mark.block_number
            arrived = await payments.sum_arrived(
                self._db, chain_id=chain_id, token_address=token.key, after=since, last=block
            )
            more = now - mark.amount - arrived + await self._sent(token, since + 1, block)
            if more:
                units = abs(more)
                self._tell(
                    token,
                    f"pay_to holds {units} atomic units {'more' if more > 0 else 'less'} of {name} "
                    "than the books say: `moorage operator payments find "
                    f"{since + 1} {block} --chain {self._chain.name}`.",
                )
                return
        self._wrong.pop(token.name, None)
        async with self._db.transaction(durable=False) as tx:
            await marks.put_balance(
                tx,
                BalanceMark(
                    chain_id=chain_id,
                    token_address=token.key,
                    addresses=self._addresses,
                    block_number=block,
                    amount=now,
                ),
            )

    @property
    def _addresses(self) -> str:
        return " ".join(sorted(self._recipients))

    async def _sent(self, token: Token, first: int, last: int) -> int:
        """Returns what our addresses sent to others in these blocks, as any node shows it."""
        sent: dict[tuple[str, int], int] = {}
        with self._client.reading():
            for node in self._client.nodes:
                for found, transfer in await find_transfers(
                    node, senders=self._recipients, first=first, last=last
                ):
                    own = transfer.recipient in self._recipients
                    if transfer.token_address == token.key and not own:
                        sent[found.tx_hash, transfer.log_index] = transfer.value
        return sum(sent.values())

    def _tell(self, token: Token, problem: str) -> None:
        log.error("balance is not what the books say", problem=problem)
        self._wrong[token.name] = problem


log = structlog.get_logger()

_MAX_AT_ONCE = 50  # transactions that are read in one round trip
_OLDEST_A_CHECK = 200
_LARGEST_A_CHECK = 50
_HELD_SECONDS = 600.0  # nodes may be apart, or silent, for so long before the operator is told
_STANDING = (PaymentStatus.CREDITED, PaymentStatus.HELD)


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What a node says of a transaction's payments; the same of two nodes that agree."""

    stance: Stance  # HOLDS: and every payment of it; LOST: the block has others, or none
    transfers: tuple[Transfer, ...]  # to credit in their place


class _Doubt(NamedTuple):
    """A transaction on which nodes disagree, what they say, and at how many checks in a row."""

    place: Place
    why: str
    checks: int


_STANDS = _Told(stance=Stance.HOLDS, transfers=())
_UNSURE = _Told(stance=Stance.UNSURE, transfers=())


class FinalityCheck:
    """Moves the payments of one chain from provisional to finalized, or reverses them.

    `recipients` are `pay_to` and its former values, as `parse_address` spells them.

    A check reads a bounded number of transactions: those that bring the most, and the oldest, where
    each check continues after the one before.
    """

    def __init__(
        self,
        *,
        db: Database,
        client: RpcClient,
        recipients: Collection[str],
        metering: Metering,
        clock: Clock,
        screen: Screen = allow,
    ) -> None:
        self._db = db
        self._client = client
        self._chain = client.chain
        self._recipients = frozenset(recipients)
        self._metering = metering
        self._clock = clock
        self._screen = screen
        self._pace = Pace(first=_MAX_AT_ONCE, max_=_MAX_AT_ONCE)
        self._missed: set[tuple[Place, Stance]] = set()  # what was gone at the last check
        self._after: Place | None = None  # where the next check continues
        self._doubts: dict[Place, _Doubt] = {}
        self._checked: set[Place] = set()  # since the oldest was checked
        self._held_since: float | None = None  # monotonic; as nodes are apart, or silent

    @property
    def duty(self) -> str:
        """The name of the check's lease: only one gateway checks."""
        return f"finality of {self._chain.name}"

    async def check(self) -> None:
        """Checks payments whose block has become safe or finalized.

        Raises ChainUnavailable, DatabaseUnavailable; the next check does what is left.
        """
        heads = await self._heads()
        due = await self._due(heads)
        while due:
            some = due[: self._pace.size]
            views = await sightings(self._client, some)
            if len(some) > 1 and any(isinstance(view, AnswerTooLarge) for view in views):
                self._pace.refused(len(some))
                continue
            if all(isinstance(view, AnswerTooLarge) for view in views):
                log.warning("payment unreadable", tx_hash=some[0].tx_hash)
            self._pace.answered(len(some))
            due = due[len(some) :]
            await self._conclude(some, [v for v in views if not isinstance(v, ChainUnavailable)])
        metrics.PAYMENTS_DISPUTED.labels(self._chain.name).set(len(self._disputed))

    async def require_agreement(self) -> None:
        """Raises ChainUnavailable while nodes deny what others show, or hold finality up."""
        name, now = self._chain.name, self._clock.monotonic_seconds()
        if disputed := self._disputed:
            raise ChainUnavailable(
                f"The nodes of {name} disagree on {len(disputed)} transactions that paid, "
                f"{disputed[0].place.tx_hash} among them: {disputed[0].why}. "
                "What these brought does not become final."
            )
        if self._held_since is not None and now - self._held_since > _HELD_SECONDS:
            raise ChainUnavailable(
                f"For {now - self._held_since:.0f} s a node of {name} has not answered, or its "
                "finalized block is far behind another's: no payment becomes final."
            )

    @property
    def _disputed(self) -> list[_Doubt]:
        """The doubts of two checks in a row: nodes behind one address may differ for a moment."""
        return [doubt for doubt in self._doubts.values() if doubt.checks > 1]

    async def _heads(self) -> Heads:
        """Returns the safe and finalized blocks on which as many nodes agree as must.

        No block is finalized for fewer.
        """
        views = await self._client.every(read_heads)
        told = [view for view in views if not isinstance(view, ChainUnavailable)]
        if not told:
            raise self._client.silence(views)
        quorum = self._client.quorum
        safe = sorted((one.safe for one in told), reverse=True)[min(quorum, len(told)) - 1]
        finalized = sorted((one.finalized for one in told), reverse=True)
        agreed = finalized[quorum - 1] if len(told) >= quorum else -1
        apart = finalized[0] - agreed > self._chain.finality_blocks
        if len(told) >= quorum and not apart:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = self._clock.monotonic_seconds()
        return Heads(latest=max(one.latest for one in told), safe=safe, finalized=agreed)

    async def _due(self, heads: Heads) -> list[Place]:
        chain_id = self._chain.chain_id
        largest = await payments.largest_awaiting_finality(
            self._db, chain_id=chain_id, safe=heads.safe, limit=_LARGEST_A_CHECK
        )
        oldest = await payments.awaiting_finality(
            self._db,
            chain_id=chain_id,
            safe=heads.safe,
            finalized=heads.finalized,
            after=self._after,
            limit=_OLDEST_A_CHECK,
        )
        self._checked.update(largest, oldest)
        if len(oldest) == _OLDEST_A_CHECK:
            self._after = oldest[-1]
        else:  # all were checked; those that are due no more have an end
            self._after = None
            self._doubts = {at: one for at, one in self._doubts.items() if at in self._checked}
            self._checked.clear()
        return list(dict.fromkeys(chained(largest, oldest)))

    async def _conclude(self, places: Sequence[Place], views: Sequence[Sequence[Sighting]]) -> None:
        safe, finalized = list[Place](), list[Place]()
        for number, place in enumerate(places):
            seen = [view[number] for view in views]
            able = [one for one in seen if one.heads.safe >= place.block_number]
            paid = await self._paid(self._db, place)
            told = [self._told(place, paid, one) for one in able]
            if not paid:  # a request has credited it again, from elsewhere
                continue
            if set(told) != {_STANDS}:
                await self._reconsider(place, paid, told)
                continue
            self._settled(place)
            final = sum(one.heads.finalized >= place.block_number for one in able)
            (finalized if final >= self._client.quorum else safe).append(place)
        async with self._db.transaction(durable=False) as tx:
            for place in safe:
                await payments.set_finality(tx, place, Finality.SAFE)
            for place in finalized:
                await payments.set_finality(tx, place, Finality.FINALIZED)

    def _told(self, place: Place, paid: Sequence[Payment], seen: Sighting) -> _Told:
        own = {one.recipient for one in paid if one.recipient is not None}
        stance, transfers = seen.stance(place), tuple[Transfer, ...]()
        try:
            if seen.receipt is not None:
                recipients = self._recipients | own
                transfers = transfers_in(seen.receipt, self._chain, recipients=recipients)
        except ValueError:
            return _UNSURE
        if stance is Stance.HOLDS:
            shown = keyed(transfers)
            if all(is_among(shown, one) for one in paid):
                return _STANDS
            return _Told(stance=Stance.LOST, transfers=transfers)
        if stance is Stance.MOVED:
            moved = Stance.MOVED if transfers else Stance.GONE
            return _Told(stance=moved, transfers=transfers)
        return _Told(stance=stance, transfers=())

    async def _reconsider(
        self, place: Place, paid: Sequence[Payment], told: Sequence[_Told]
    ) -> None:
        """Acts on a transaction that moved or is gone, if enough nodes say the same.

        What is gone is reversed only if two checks in a row found it gone. A node may show a block
        without its receipts; then a second node must say the same.
        """
        verdicts = set(told)
        stance = told[0].stance if len(verdicts) == 1 else Stance.UNSURE
        was_missed = (place, stance) in self._missed
        self._missed -= {(place, Stance.GONE), (place, Stance.LOST)}
        if len(verdicts) > 1 or (stance is Stance.LOST and len(told) < 2):
            self._doubt(place, told)
            return
        self._settled(place)
        if stance is Stance.UNSURE or len(told) < self._client.quorum:
            return
        if stance is not Stance.MOVED and not was_missed:
            self._missed.add((place, stance))
            log.warning("payment missed", payment=paid[0].posting_id, was_in=place.block_hash)
        elif told[0].transfers:
            await self._follow(place, paid, told[0].transfers)
        else:
            await self._reverse(place, paid)

    def _doubt(self, place: Place, told: Sequence[_Told]) -> None:
        said = sorted({_WORDS[one.stance] for one in told})
        why = ", another ".join([f"one {said[0]}", *said[1:]])
        before = self._doubts.get(place)
        self._doubts[place] = _Doubt(place, why, before.checks + 1 if before else 1)
        if before is not None and before.checks == 1:
            log.error("nodes disagree on a payment", tx_hash=place.tx_hash, why=why)

    def _settled(self, place: Place) -> None:
        self._doubts.pop(place, None)

    async def _follow(
        self, place: Place, paid: Sequence[Payment], transfers: Sequence[Transfer]
    ) -> None:
        """Reverses the payments that are not there, and credits what is in their place.

        Earlier screening verdicts stay. Nothing changes until every other payer has a verdict.
        """
        booked = await payments.of_transaction(
            self._db, chain_id=place.chain_id, tx_hash=place.tx_hash
        )
        try:
            held = await held_back(transfers, self._screen, booked=booked)
        except PaymentPending as silence:
            log.warning("moved payment waits", tx_hash=place.tx_hash, error=silence.message)
            return
        shown = keyed(transfers)
        async with self._db.transaction(durable=True) as tx:
            if paid != await self._paid(tx, place):
                return
            now_ms = self._clock.now_ms()
            holders = {await ledger.holder_of(tx, each) for each in booked}
            for payment in paid:
                if payment.block_hash != transfers[0].block_hash or not is_among(shown, payment):
                    await ledger.reverse_payment(tx, payment, now_ms=now_ms)
            await ledger.credit_transfers(tx, transfers, held=held, now_ms=now_ms)
            for holder in holders:
                await self._metering.suspend_unpaid(tx, holder)
        metrics.PAYMENTS_MOVED.labels(self._chain.name).inc()
        log.warning("payment moved", payment=paid[0].posting_id, was_in=place.block_hash)

    async def _reverse(self, place: Place, paid: Sequence[Payment]) -> None:
        """Reverses payments, a bounded number in each database transaction.

        None of a transaction that a request credited again since.
        """
        for part in ledger.in_parts(paid):
            async with self._db.transaction(durable=True) as tx:
                now = await self._paid(tx, place)
                if not all(payment in now for payment in part):
                    return
                holders = {await ledger.holder_of(tx, payment) for payment in part}
                for payment in part:
                    await ledger.reverse_payment(tx, payment, now_ms=self._clock.now_ms())
                for holder in holders:
                    await self._metering.suspend_unpaid(tx, holder)
            metrics.PAYMENTS_REVERSED.labels(self._chain.name).inc(len(part))
            log.warning(
                "payment reversed",
                payment=part[0].posting_id,
                payments=len(part),
                payer=part[0].payer,
                micro_usd=sum(payment.credited_micro_usd for payment in part),
            )

    async def _paid(self, source: Source, place: Place) -> list[Payment]:
        """Returns the payments that were credited from `place`."""
        return [
            one
            for one in await payments.of_transaction(
                source, chain_id=place.chain_id, tx_hash=place.tx_hash
            )
            if one.status in _STANDING and one.block_hash == place.block_hash
        ]


_WORDS = {
    Stance.HOLDS: "shows it",
    Stance.LOST: "has its block without it",
    Stance.MOVED: "has it in another block",
    Stance.GONE: "has it in no block",
    Stance.UNSURE: "contradicts itself",
}
