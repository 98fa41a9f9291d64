"""The price of a deploy, and whether it must be paid first: the contract's table 1.2."""

import msgspec

from moorage.deploy.entrance.attempt import DeployAttempt, DryRun
from moorage.deploy.entrance.situation import Situation
from moorage.deploy.entrance.warnings import of_attempt
from moorage.ledger.burn import hour_of
from moorage.money import NOTHING, MicroUsd
from moorage.payments.price.quotes import PriceList, Size, honoured
from moorage.payments.protocols.demand import Purchase, purchase
from moorage.records.project import SHARING_STATUSES


class Shortfall(msgspec.Struct, frozen=True):
    """Why a payment is demanded."""

    shares: bool = False
    """Whether only because the existing credits would be shared."""
    lacking: MicroUsd = NOTHING
    """What credits that pay the price lack for an hour of all projects that would share them."""


class Pricing(msgspec.Struct, frozen=True):
    """Decides by the price list and the size of apps."""

    prices: PriceList
    size: Size

    def by_list(self, attempt: DeployAttempt) -> MicroUsd:
        """Returns today's price."""
        return self.prices.deploy(self.size, months=attempt.request.months)

    def price(self, attempt: DeployAttempt, situation: Situation) -> MicroUsd:
        """Returns today's price, or the lower one that a valid quote promises."""
        return honoured(
            situation.living, months=attempt.request.months, price=self.by_list(attempt)
        )

    def month(self, attempt: DeployAttempt, price: MicroUsd) -> MicroUsd:
        """Returns what a month burns: at most what was promised, so that `price` lasts."""
        promised = -(-price // attempt.request.months)
        return MicroUsd(min(self.prices.month(self.size), promised))

    def shortfall(
        self, attempt: DeployAttempt, situation: Situation, price: MicroUsd, *, paid: bool
    ) -> Shortfall | None:
        """Returns why a payment is demanded, or None; `paid`: the request brought one.

        One that speaks alone is settled only if it is for the whole price.
        """
        if attempt.is_open:
            return None if paid else Shortfall()
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
        """Returns what the credits lack for an hour of a new app and of all that share them."""
        if situation.own is not None:
            return NOTHING
        hour = hour_of(*situation.sharing, self.month(attempt, price))
        return MicroUsd(max(0, hour + situation.owes - situation.balance))

    def buys(
        self, attempt: DeployAttempt, situation: Situation, amount: MicroUsd, *, now_ms: int
    ) -> Purchase:
        """Returns what paying `amount` buys: how long the new app and all others run then."""
        left = MicroUsd(situation.balance + amount - situation.owes)
        monthly = list(situation.sharing)
        if situation.own is None or situation.own.status not in SHARING_STATUSES:
            monthly.append(self.month(attempt, self.price(attempt, situation)))
        return purchase(left, monthly, now_ms=now_ms, size=self.size)

    def dry_run(self, attempt: DeployAttempt, situation: Situation, *, now_ms: int) -> DryRun:
        """Returns what this deploy would cost, and whether a payment would be demanded."""
        price = self.price(attempt, situation)
        short = self.shortfall(attempt, situation, price, paid=False)
        amount = price if situation.own is None else NOTHING
        if short is not None:
            rest = due(price, received=situation.received, balance=situation.balance)
            amount = max(rest, short.lacking)
        told = situation.told(attempt)
        return DryRun(
            amount=amount,
            balance=told.balance,
            active_projects=told.active,
            payment_required=short is not None,
            shares=short is not None and short.shares,
            warnings=of_attempt(attempt, situation),
            variables=situation.now.with_settings(attempt.request.settings),
            volume=situation.will_have_volume(attempt),
            health_path=attempt.request.settings.health_path or situation.now.health_path,
            buys=self.buys(attempt, told, amount if short else NOTHING, now_ms=now_ms),
            redeploys=situation.own is not None,
            is_price=amount == price,
        )


def due(price: MicroUsd, *, received: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """Returns what to pay: the price, or the rest of it after a part payment, plus any debt."""
    return price if received <= 0 <= balance else missing(price, balance)


def missing(price: MicroUsd, balance: MicroUsd) -> MicroUsd:
    """Returns what the balance lacks for the price; the whole price if it lacks nothing."""
    return MicroUsd(price - balance) if balance < price else price
