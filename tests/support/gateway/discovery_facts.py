"""Facts of an imagined gateway, and how well it is."""

from moorage.api.discovery.documents import PublicStatusBoard
from moorage.api.discovery.guide import Facts
from moorage.chains.chain import KNOWN_CHAINS
from moorage.payments.taking.payment_required import Seller
from moorage.records.size import PriceList
from support.gateway.clock import MovableClock

PAY_TO = "0x7EA5000000000000000000000000000000000001"

FACTS = Facts(
    url="https://moor.example.com",
    seller=Seller(
        pay_to=PAY_TO,
        chains=(KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"]),
        settles=lambda _chain, _token: True,
        terms_url="https://moor.example.com/terms",
        contact="operator@example.com",
    ),
    settles=True,
    prices=PriceList(),
    sizes=PriceList().sizes(),
    build_minutes_per_usd=60,
    requests_per_minute=30,
    retention_days=30,
    min_sleep_seconds=60,
)


async def no_notices() -> dict[str, str]:
    return {}


BOARD = PublicStatusBoard(
    no_notices, chains=("arbitrum", "base"), clock=MovableClock(1_800_000_000_000)
)
