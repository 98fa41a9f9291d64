"""What came in, what was earned and what is still owed: by period, chain and token."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from moorage.chains.chain import Chain
from moorage.errors import BooksWrong
from moorage.ledger.ledger import EARNED, GRANTED, REFUNDED
from moorage.money import decimal_text
from moorage.operate.books import open_books
from moorage.operate.reports.lots import Lots, Source
from moorage.operate.reports.movements import Movement, movements
from moorage.operate.reports.sources import source_of_postings
from moorage.settings import Settings

SourceOf = Callable[[str], Source]
"""From the id of a refund's or a release's posting to where the payment came from."""

BY_HAND = Source(0, "by hand")


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
            case [(owner, _)], [(other, amount)]:
                self._with(owner, other, amount, movement.posting_id)
            case [(first, amount), (second, _)], []:
                giver, taker = (first, second) if amount < 0 else (second, first)
                if movement.posting_id.startswith("purse:"):
                    self._lots.move(giver, taker, abs(amount))
                    return
                source = self._source_of(movement.posting_id)
                self._lots.take_back(giver, source, abs(amount))
                self._lots.add(taker, source, abs(amount))
            case _:
                raise BooksWrong

    def _with(self, owner: str, other: str, amount: int, posting_id: str) -> None:
        """Counts what moved between a customer's account and one of the gateway's."""
        if other == EARNED:
            self._lots.use(owner, amount)
            return
        if other == REFUNDED:
            source, flow, sign = self._source_of(posting_id), "refunded", 1
        else:
            source = BY_HAND if other == GRANTED else _received(other)
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
