"""What is true of this gateway, as every document of this room tells it."""

from dataclasses import dataclass

from moorage.money import MicroUsd, decimal_text, usd_text
from moorage.payments.price.quotes import QUOTE_LIFETIME_MS, PriceList, Size
from moorage.payments.protocols.demand import Seller
from moorage.uploads.limits import UploadLimits
from moorage.uploads.request import MAX_MONTHS

NAME = "Moorage"
SUMMARY = "Deploy an app by paying for it: no account, no API key, only a crypto wallet."
UPLOAD_MIB = UploadLimits().body_bytes // 1024**2
QUOTE_MINUTES = QUOTE_LIFETIME_MS // 60_000


@dataclass(kw_only=True)
class Facts:
    """The gateway's address, its prices and its rules; some may change while it runs."""

    url: str  # without a slash at the end
    seller: Seller
    settles: bool  # whether it carries out signed authorizations, and pays the gas
    prices: PriceList
    size: Size
    volume_mib: int | None  # None: this gateway has no volumes
    build_minutes_per_usd: int
    requests_per_minute: int
    retention_days: int

    @property
    def month(self) -> MicroUsd:
        """The price of one month of an app."""
        return self.prices.month(self.size)

    @property
    def most(self) -> MicroUsd:
        """The price of the longest deploy."""
        return self.prices.deploy(self.size, months=MAX_MONTHS)

    @property
    def size_text(self) -> str:
        """What an app has, for a person."""
        cores = decimal_text(self.size.cpu_millis, decimals=3).rstrip("0").rstrip(".")
        memory, disk = self.size.memory_mib, self.size.disk_mib
        return f"{memory} MiB of memory, {cores} CPU cores, {disk} MiB of disk"

    @property
    def price_text(self) -> str:
        """What it costs, for a person."""
        return (
            f"{usd_text(self.month)} a month for an app of {self.size_text}; "
            f"a payment is {usd_text(self.prices.minimum_charge)} or more"
        )

    @property
    def chains_text(self) -> str:
        """What may be paid with, for a person."""
        return "; ".join(
            f"{' or '.join(token.symbol for token in chain.tokens)} on {chain.name} "
            f"(chain id {chain.chain_id})"
            for chain in self.seller.chains
        )
