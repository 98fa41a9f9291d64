"""A budget for payments, which is checked before anything is signed.

Whatever pays by this package has one: `Payer(budget=read_budget(os.environ))`. Its two variables
are MOORAGE_MAX_USD_PER_CALL and MOORAGE_BUDGET_USD. A limit for one call alone, such as the command
line's `--max-usd`, is the payer's `ceiling`; the lowest limit counts.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation

import msgspec

from moorage.money import MICRO_USD_PER_USD, AtomicUnits, MicroUsd, usd_text
from moorage.sdk.errors import BudgetExceeded, ClientMisconfigured
from moorage.sdk.journal import Payment, PaymentState
from moorage.sdk.payment import dollars_up

PER_CALL = "MOORAGE_MAX_USD_PER_CALL"
PER_DAY = "MOORAGE_BUDGET_USD"
DAY_MS = 24 * 3_600_000

_MAX_USD = 1_000_000
_MOVED_NOTHING = frozenset({PaymentState.REVERTED, PaymentState.REPLACED})
"""Seen on a chain; that an authorization was never carried out, the gateway alone says."""


class Budget(msgspec.Struct, frozen=True):
    """What may be paid: for one call, and in any 24 hours; None is no limit.

    The day's sum is that of the payments in the journal's directory, whatever wallet signed them
    and whatever they were for.
    """

    per_call: MicroUsd | None = None
    per_day: MicroUsd | None = None

    def check(self, price: MicroUsd, *, made: Iterable[Payment]) -> None:
        """Raises BudgetExceeded if `price`, after the payments of the last day, is too much."""
        if self.per_call is not None and price > self.per_call:
            raise BudgetExceeded(
                f"This costs {usd_text(price)}, and {PER_CALL} allows {usd_text(self.per_call)} "
                f"for one call. Ask the person who runs you to raise {PER_CALL}. Nothing was paid."
            )
        if self.per_day is None:
            return
        spent = MicroUsd(
            sum(
                dollars_up(AtomicUnits(payment.amount), decimals=payment.decimals)
                for payment in made
                if payment.state not in _MOVED_NOTHING
            )
        )
        if spent + price > self.per_day:
            raise BudgetExceeded(
                f"This costs {usd_text(price)}, and {usd_text(spent)} of the "
                f"{usd_text(self.per_day)} that {PER_DAY} allows in 24 hours are spent. Ask the "
                f"person who runs you to raise {PER_DAY}, or wait. Nothing was paid."
            )


def read_budget(environment: Mapping[str, str]) -> Budget:
    """Reads the two variables; unset or empty is no limit. Raises ClientMisconfigured."""

    def limit(name: str) -> MicroUsd | None:
        text = environment.get(name)
        return read_dollars(text, of=name, or_zero=True) if text else None

    return Budget(per_call=limit(PER_CALL), per_day=limit(PER_DAY))


def read_dollars(text: str, *, of: str, or_zero: bool = False) -> MicroUsd:
    """Returns `text` dollars in micro-USD, rounded down; `of` names where it stands.

    Raises ClientMisconfigured unless positive, or zero with `or_zero`.
    """
    try:
        dollars = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation:
        dollars = Decimal("NaN")
    is_amount = dollars.is_finite() and 0 <= dollars <= _MAX_USD and (dollars > 0 or or_zero)
    if not is_amount:
        raise ClientMisconfigured(f"{of}: {text!r} is no amount of dollars, such as 2.50")
    return MicroUsd(int(dollars * MICRO_USD_PER_USD))


def dollars_of(text: str, *, of: str) -> Decimal:
    """Returns `text` dollars, to the micro-USD below; zero is an amount too."""
    return Decimal(read_dollars(text, of=of, or_zero=True)) / MICRO_USD_PER_USD
