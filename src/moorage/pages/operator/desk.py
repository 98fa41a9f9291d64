"""What an operator's pages are about: the running gateway, its books, and its settings."""

from collections.abc import Callable
from dataclasses import dataclass

from moorage.chains.chain import Chain, Token
from moorage.clock import Clock
from moorage.ledger.metering import BilledTime
from moorage.money import decimal_text
from moorage.operate.books import OpenBooks
from moorage.pages.operator.health import HealthReader
from moorage.pages.operator.money.audits import Audits
from moorage.pages.operator.money.commands import Reports
from moorage.settings import Settings

_EXPLORERS = {42161: "https://arbiscan.io/tx/", 8453: "https://basescan.org/tx/"}


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A running gateway, as its operator's pages know it."""

    books: OpenBooks  # `View.books` says who looks into them
    in_force: Callable[[], Settings]  # returns the settings that the gateway goes by
    configured: Settings  # as they were written when the gateway started
    load: Callable[[], Settings]  # reads them again, as the next start would
    clock: Clock
    billed: BilledTime
    health: HealthReader
    audits: Audits
    reports: Reports

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.in_force()

    def chain_of(self, chain_id: int) -> Chain | None:
        """Returns a chain by its id; None if it is not configured any more."""
        chains = self.books.chains.values()
        return next((each for each in chains if each.chain_id == chain_id), None)

    def chain_name(self, chain_id: int) -> str:
        """Returns a chain's name, or its id if it is not configured any more."""
        chain = self.chain_of(chain_id)
        return str(chain_id) if chain is None else chain.name

    def explorer_url(self, chain_id: int, tx_hash: str) -> str | None:
        """Returns where strangers show a transaction; None for local chains and unknown ones."""
        prefix = _EXPLORERS.get(chain_id) if self.settings.chains else None
        return None if prefix is None else f"{prefix}{tx_hash}"

    def tokens_text(self, chain_id: int, token_address: str, amount: int) -> str:
        """Returns an amount of a token as it is written: 1.50 USDC."""
        chain = self.chain_of(chain_id)
        token = None if chain is None else chain.token_at(token_address)
        return f"{amount} units of {token_address}" if token is None else token_text(amount, token)


def token_text(amount: int, token: Token) -> str:
    """Returns an amount of a token, exactly, with two decimals or more."""
    whole, _, fraction = decimal_text(amount, decimals=token.decimals).partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2} {token.symbol}"
