"""The price of a deploy, and whether it is to be paid first: the contract's table 1.2."""

import msgspec

from moorage.deploy.entrance.attempt import DeployAttempt, DryRun
from moorage.deploy.entrance.situation import Situation
from moorage.ledger.burn import hour_of
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.pricing import PriceList, Size
from moorage.payments.price.quotes import honoured


class Shortfall(msgspec.Struct, frozen=True):
    """Why a payment is demanded."""

    shares: bool = False
    """Whether only because the credits there are would be shared."""
    lacking: MicroUsd = NOTHING
    """To an hour of all that would share the credits, where they are enough for the price."""


class Pricing(msgspec.Struct, frozen=True):
    """Decides by the price list and the size of apps."""

    prices: PriceList
    size: Size

    def by_list(self, attempt: DeployAttempt) -> MicroUsd:
        """Today's price."""
        return self.prices.deploy(self.size, months=attempt.request.months)

    def price(self, attempt: DeployAttempt, situation: Situation) -> MicroUsd:
        """Today's price, or the better one that a living quote promises."""
        return honoured(
            situation.living, months=attempt.request.months, price=self.by_list(attempt)
        )

    def month(self, attempt: DeployAttempt, price: MicroUsd) -> MicroUsd:
        """What a month burns: never more than was promised, so that `price` lasts the months."""
        promised = -(-price // attempt.request.months)
        return MicroUsd(min(self.prices.month(self.size), promised))

    def shortfall(
        self, attempt: DeployAttempt, situation: Situation, price: MicroUsd, *, paid: bool
    ) -> Shortfall | None:
        """Why a payment is demanded, or None to deploy; `paid` is whether one came with it."""
        if situation.own is not None:
            return None if situation.balance > 0 else Shortfall()
        if situation.balance < price:
            return Shortfall()
        if lacking := self.lacking(attempt, situation, price):
            return Shortfall(lacking=lacking)
        if situation.active and not (paid or attempt.use_existing_credits):
            return Shortfall(shares=True)
        return None

    def lacking(self, attempt: DeployAttempt, situation: Situation, price: MicroUsd) -> MicroUsd:
        """What the credits lack to an hour of all that shares them, and of a new app."""
        if situation.own is not None:
            return NOTHING
        hour = hour_of(*situation.sharing, self.month(attempt, price))
        return MicroUsd(max(0, hour + situation.owes - situation.balance))

    def dry_run(self, attempt: DeployAttempt, situation: Situation) -> DryRun:
        """What this deploy would be answered."""
        price = self.price(attempt, situation)
        short = self.shortfall(attempt, situation, price, paid=False)
        amount = price if situation.own is None else NOTHING
        if short is not None:
            rest = due(price, received=situation.received, balance=situation.balance)
            amount = max(rest, short.lacking)
        return DryRun(
            amount=amount,
            balance=situation.balance,
            active_projects=situation.active,
            payment_required=short is not None,
            shares=short is not None and short.shares,
        )


def due(price: MicroUsd, *, received: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """What is to be paid: the price, or what is left of one that was begun, and debts as well."""
    return price if received <= 0 <= balance else missing(price, balance)


def missing(price: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """What a balance lacks to the price; the price, where it lacks nothing."""
    return MicroUsd(price - balance) if balance < price else price
