"""Says which money was earned: credits are used up in the order in which they were paid.

Credits of one wallet are alike, whatever chain they were paid on. To say what was earned of the
money on each chain, what an account pays is taken from its oldest lot: first in, first out. What
goes back to the chain that it came from (a refund, a reversed payment) is taken from lots of that
chain. Where these are used up, what was earned from them counts as earned from the account's other
lots instead; without any, the account is overdrawn, and its next lots are taken for it.

So at any time, for each source: received - gone back - earned = owed.
"""

from collections import Counter, defaultdict
from typing import NamedTuple

from moorage.errors import BooksWrong


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
