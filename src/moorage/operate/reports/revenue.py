"""What came in, what was earned and what is still owed: by period, chain and token."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

from moorage.chains.chain import Chain
from moorage.chains.heads import block_call, parse_block
from moorage.chains.rpc import RpcClient
from moorage.errors import BooksWrong, ChainUnavailable
from moorage.ledger.ledger import COMPENSATED, EARNED, GRANTED, REFUNDED
from moorage.money import decimal_text
from moorage.operate.books import open_books
from moorage.records.payments import Payment
from moorage.settings import Settings
from moorage.storage.database import Transaction
from moorage.storage.money import accounts, payments, refunds

_ENTRIES_AT_ONCE = 5_000


class Movement(NamedTuple):
    """One posting: when it was booked, and what it added to which account."""

    at_ms: int
    posting_id: str
    amounts: dict[str, int]  # micro-USD; they sum to zero


async def movements(snapshot: Transaction) -> AsyncIterator[Movement]:
    """Yields the ledger's movements in the order of commits.

    Entries of several writers may lie between each other: a posting comes when it is whole.
    """
    begun: dict[str, Movement] = {}
    place = 0
    while some := await accounts.entries_after(
        snapshot, place, since_ms=0, until_ms=2**62, wallet="", limit=_ENTRIES_AT_ONCE
    ):
        place = some[-1].place
        for entry in some:
            movement = begun.setdefault(
                entry.posting_id, Movement(entry.created_at_ms, entry.posting_id, {})
            )
            movement.amounts[entry.account] = entry.amount_micro_usd
            if len(movement.amounts) > 1 and sum(movement.amounts.values()) == 0:
                yield begun.pop(entry.posting_id)


_BLOCKS_AT_ONCE = 50

ValueDates = Mapping[tuple[int, str], int]
"""Unix milliseconds by chain id and block hash; of blocks alone that the chain still has."""


async def value_dates(clients: Iterable[RpcClient], payments: Iterable[Payment]) -> ValueDates:
    """Asks each payment's chain for the time of its block.

    Of a chain that can't be read, or is not configured any more, the times are missing.
    """
    numbers: defaultdict[int, set[int]] = defaultdict(set)
    for payment in payments:
        numbers[payment.chain_id].add(payment.block_number)
    found: dict[tuple[int, str], int] = {}
    for client in clients:
        chain_id = client.chain.chain_id
        try:
            for number in _groups(sorted(numbers[chain_id])):
                answers = await client.batch([block_call(each) for each in number])
                blocks = filter(None, map(parse_block, answers))
                found |= {(chain_id, block.hash): block.time * 1000 for block in blocks}
        except (ChainUnavailable, ValueError):
            continue
    return found


def _groups(numbers: list[int]) -> Iterable[list[int]]:
    return (numbers[at : at + _BLOCKS_AT_ONCE] for at in range(0, len(numbers), _BLOCKS_AT_ONCE))


class Source(NamedTuple):
    """Where credits came from: a token on a chain; the chain 0 is the operator's own hand."""

    chain_id: int
    token: str


class Lot(NamedTuple):
    """Credits of one source, in micro-USD."""

    source: Source
    amount: int


class Lots:
    """The credits of all accounts that are not used up, and what was earned of each source."""

    def __init__(self) -> None:
        self.earned: Counter[Source] = Counter()  # micro-USD
        self._unused: defaultdict[str, list[Lot]] = defaultdict(list)  # oldest first
        self._overdrawn: defaultdict[str, list[Lot]] = defaultdict(list)

    def add(self, account: str, source: Source, amount: int) -> None:
        """Adds a lot to an account; what the account is overdrawn by is taken from it."""
        paid, left = _taken(self._overdrawn[account], amount)
        for debt in paid:
            self._earned_instead(source, of=debt.source, amount=debt.amount)
        if left:
            self._unused[account].append(Lot(source, left))

    def use(self, account: str, amount: int) -> None:
        """Uses an account's credits, the oldest first. Raises BooksWrong if it has too few."""
        used, lacking = _taken(self._unused[account], amount)
        if lacking:
            raise BooksWrong
        for lot in used:
            self.earned[lot.source] += lot.amount

    def take_back(self, account: str, source: Source, amount: int) -> None:
        """Takes credits of a source out of an account; it may be overdrawn."""
        lots = self._unused[account]
        _, lacking = _taken(lots, amount, of=source)
        others, overdrawn = _taken(lots, lacking)
        for lot in others:
            self._earned_instead(lot.source, of=source, amount=lot.amount)
        if overdrawn:
            self._overdrawn[account].append(Lot(source, overdrawn))

    def move(self, giver: str, taker: str, amount: int) -> None:
        """Moves credits, the oldest first; what the giver lacks it owes for the taker from then on.

        Raises BooksWrong if the taker owes less than that.
        """
        given, lacking = _taken(self._unused[giver], amount)
        for lot in given:
            self.add(taker, lot.source, lot.amount)
        owed, lacking = _taken(self._overdrawn[taker], lacking)
        if lacking:
            raise BooksWrong
        self._overdrawn[giver] += owed

    def owed(self) -> Counter[Source]:
        """Returns what customers have left, by source; below zero where they owe it."""
        total: Counter[Source] = Counter()
        for lots in self._unused.values():
            for source, amount in lots:
                total[source] += amount
        for debts in self._overdrawn.values():
            for source, amount in debts:
                total[source] -= amount
        return total

    def _earned_instead(self, source: Source, *, of: Source, amount: int) -> None:
        self.earned[source] += amount
        self.earned[of] -= amount


def _taken(lots: list[Lot], amount: int, *, of: Source | None = None) -> tuple[list[Lot], int]:
    """Removes up to `amount` from `lots`, the oldest first; returns it, and what is lacking.

    `of` limits it to lots of that source.
    """
    taken, kept = [], []
    for lot in lots:
        part = min(lot.amount, amount) if of in (None, lot.source) else 0
        amount -= part
        if part:
            taken.append(Lot(lot.source, part))
        if part < lot.amount:
            kept.append(Lot(lot.source, lot.amount - part))
    lots[:] = kept
    return taken, amount


async def source_of_postings(snapshot: Transaction) -> Callable[[str], Source]:
    """Returns the function from such a posting's id to its source. It raises BooksWrong."""
    tokens = {
        (payment.chain_id, payment.tx_hash, payment.log_index): Source(
            payment.chain_id, payment.token
        )
        for payment in await payments.every(snapshot)
    }
    refunded = {
        refund.id: (refund.chain_id, refund.tx_hash, refund.log_index)
        for refund in await refunds.every(snapshot)
    }

    def source_of(posting_id: str) -> Source:
        match posting_id.split(":"):
            case ["refund" | "refund-undone" | "refund-gas-undone", refund_id]:
                key = refunded.get(refund_id)
            case ["release" | "given", "payment", chain_id, tx_hash, log_index, *_]:
                key = int(chain_id), tx_hash, int(log_index)
            case _:
                key = None
        if key is None or key not in tokens:
            raise BooksWrong
        return tokens[key]

    return source_of


SourceOf = Callable[[str], Source]
"""From the id of a refund's, a release's or a gift's posting to where the payment came from."""

BY_HAND = Source(0, "by hand")
GIVEN_BACK = Source(0, "compensated")


_GIVEN = {GRANTED: BY_HAND, COMPENSATED: GIVEN_BACK}


class Period(StrEnum):
    """How long a line of the report is; days and months are those of UTC."""

    DAY = "day"
    MONTH = "month"

    def of(self, at_ms: int) -> str:
        """Returns the period of a time: 2026-04-07, or 2026-04."""
        day = datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
        return day if self is Period.DAY else day[:7]


class RevenueLine(msgspec.Struct, frozen=True):
    """One period of one source, in micro-USD.

    Over all periods up to a line: received - reversed - refunded - earned = owed.
    """

    period: str
    source: Source
    received: int  # what payments brought, those included that screening holds
    reversed: int  # of that, what reorganised chains took away again
    refunded: int
    earned: int  # what apps and builds used; below zero where it is another source's after all
    owed: int  # what customers have left at the period's end


COLUMNS = (
    "period",
    "chain",
    "token",
    "received_usd",
    "reversed_usd",
    "refunded_usd",
    "earned_usd",
    "owed_usd",
)
_FLOWS = ("received", "reversed", "refunded")


async def run_revenue(
    settings: Settings, *, by: Period
) -> tuple[list[RevenueLine], Mapping[int, Chain]]:
    """Returns the lines of all periods, and the chains that are configured. Raises BooksWrong."""
    async with open_books(settings) as books, books.db.snapshot() as snapshot:
        source_of = await source_of_postings(snapshot)
        lines = await revenue(movements(snapshot), source_of, by=by)
        return lines, {chain.chain_id: chain for chain in books.chains.values()}


def cells(lines: Iterable[RevenueLine], chains: Mapping[int, Chain]) -> Iterator[tuple[str, ...]]:
    """Yields the table's cells, amounts in dollars."""
    for line in lines:
        chain_id, token = line.source
        chain = chains[chain_id].name if chain_id in chains else str(chain_id or "")
        amounts = (*(getattr(line, name) for name in _FLOWS), line.earned, line.owed)
        yield line.period, chain, token, *(decimal_text(each, decimals=6) for each in amounts)


async def revenue(
    moved: AsyncIterator[Movement], source_of: SourceOf, *, by: Period
) -> list[RevenueLine]:
    """Returns the lines of all periods in which something moved, the oldest first.

    A source has a line in each of them from its first one on. Raises BooksWrong.
    """
    report = _Report(source_of)
    lines: list[RevenueLine] = []
    current = ""
    async for movement in moved:
        # A clock may step back: what is booked later belongs to no earlier line.
        period = max(current, by.of(movement.at_ms))
        if current and period != current:
            lines += report.lines(current)
        current = period
        report.book(movement)
    return lines + (report.lines(current) if current else [])


class _Report:
    def __init__(self, source_of: SourceOf) -> None:
        self._source_of = source_of
        self._lots = Lots()
        self._flows = _no_flows()
        self._known: dict[Source, None] = {}

    def lines(self, period: str) -> list[RevenueLine]:
        """Returns the period's lines, and begins the next one."""
        owed, earned, flows = self._lots.owed(), self._lots.earned, self._flows
        self._lots.earned, self._flows = Counter(), _no_flows()
        return [
            RevenueLine(
                period=period,
                source=each,
                received=flows["received"][each],
                reversed=flows["reversed"][each],
                refunded=flows["refunded"][each],
                earned=earned[each],
                owed=owed[each],
            )
            for each in sorted(self._known)
        ]

    def book(self, movement: Movement) -> None:
        """Counts one movement, by the accounts that it moves."""
        owners = {
            name: amount
            for name, amount in movement.amounts.items()
            if name.startswith(("wallet:", "project:", "held:"))
        }
        others = {name: amount for name, amount in movement.amounts.items() if name not in owners}
        match list(owners.items()), list(others.items()):
            case [_, _], [(other, _)] if other == EARNED:  # of a purse, and of its wallet
                for owner, amount in owners.items():
                    self._lots.use(owner, -amount)
            case [(owner, _)], [(other, amount)]:
                self._with(owner, other, amount, movement.posting_id)
            case [(first, amount), (second, _)], []:
                giver, taker = (first, second) if amount < 0 else (second, first)
                if movement.posting_id.startswith(("purse:", "transfer:")):
                    self._lots.move(giver, taker, abs(amount))
                    return
                source = self._source_of(movement.posting_id)
                self._lots.take_back(giver, source, abs(amount))
                self._lots.add(taker, source, abs(amount))
            case _:
                raise BooksWrong

    def _with(self, owner: str, other: str, amount: int, posting_id: str) -> None:
        """Counts what moved between a customer's account and one of the gateway's."""
        if other == EARNED and amount < 0:  # for the gas of a refund that was not sent
            source = self._source_of(posting_id)
            self._lots.earned[source] += amount
            self._lots.add(owner, source, -amount)
            return
        if other == EARNED:
            self._lots.use(owner, amount)
            return
        if other == REFUNDED:
            source, flow, sign = self._source_of(posting_id), "refunded", 1
        else:
            source = _GIVEN.get(other) or _received(other)
            flow, sign = ("received", -1) if amount < 0 else ("reversed", 1)
        self._known.setdefault(source)
        self._flows[flow][source] += sign * amount
        if amount < 0:
            self._lots.add(owner, source, -amount)
        else:
            self._lots.take_back(owner, source, amount)


def _no_flows() -> dict[str, Counter[Source]]:
    return {name: Counter() for name in _FLOWS}


def _received(account: str) -> Source:
    """Returns the source that a `received:<chain id>:<token>` account mirrors."""
    match account.split(":"):
        case ["received", chain_id, token]:
            return Source(int(chain_id), token)
    raise BooksWrong
