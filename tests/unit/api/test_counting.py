"""What a request counts for, and that a refused one leaves its nonce unused."""

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from starlette.requests import Request

from moorage.api.http.caller import PERSON, Front, Person, authenticate
from moorage.api.http.request_context import PAID
from moorage.auth.rate_limit import TrustedProxies
from moorage.errors import PaymentPending, RateLimited, SignatureInvalid
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.ledger.services import PaidWallets
from moorage.money import MicroUsd
from moorage.storage.database import Database
from moorage.storage.money import payments
from support.books.records_fixture import ALICE, ARBITRUM, BOB, fresh_hash, fund, transfer
from support.gateway.believed import NOBODY_RECOVERS, limiters_of
from support.gateway.clock import START_MS, MovableClock

LIMIT = 3
HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


class Entrance:
    """A gateway's counting: wallets are believed, whose signature is not `forged`."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.nonces_used = 0
        self.forged = False
        self.limiters = limiters_of(clock, limit=LIMIT, strangers=2, strangers_proofs=2)
        self._gateway = SimpleNamespace(
            db=db,
            authenticator=self,
            recoveries=NOBODY_RECOVERS,
            paid_wallets=PaidWallets(db=db, minimum_charge=MicroUsd(500_000), clock=clock),
            limiters=self.limiters,
            trusted_proxies=TrustedProxies(()),
            chains={"arbitrum": ARBITRUM},
        )

    async def verify(self, headers: dict[str, str], **_: object) -> SimpleNamespace:
        if self.forged:
            raise SignatureInvalid
        return SimpleNamespace(wallet=headers["x-wallet-address"], use_nonce=self.use_nonce)

    async def use_nonce(self) -> None:
        self.nonces_used += 1

    async def ask(
        self, wallet: str, at: str = HERE, *, tx_hash: str = "", by_page: bool = False
    ) -> str | None:
        """One request; the address it counts for beside its wallet."""
        headers = [(b"x-wallet-address", wallet.encode())]
        if tx_hash:
            headers.append((b"x-payment-tx", tx_hash.encode()))
        scope = {"type": "http", "method": "GET", "path": "/agent/projects", PAID: True}
        scope |= {"headers": headers, "client": (at, 1)}
        if by_page:
            scope[PERSON] = Person(wallet)
        caller = await authenticate(cast("Front", self._gateway), Request(scope))
        assert caller.wallet == wallet
        return caller.stranger_at


@pytest.fixture
def entrance(db: Database, clock: MovableClock) -> Entrance:
    return Entrance(db, clock)


def key(number: int) -> str:
    return f"0x{number:040x}"


async def test_refused_request_uses_up_no_nonce(entrance: Entrance) -> None:
    for _ in range(LIMIT):
        await entrance.ask(ALICE)
    with pytest.raises(RateLimited):
        await entrance.ask(ALICE)
    assert entrance.nonces_used == LIMIT


async def test_forged_request_counts_for_its_address_and_burns_nobodys_nonce(
    entrance: Entrance,
) -> None:
    entrance.forged = True
    for _ in range(LIMIT):
        with pytest.raises(SignatureInvalid):
            await entrance.ask(ALICE)
    with pytest.raises(RateLimited):
        await entrance.ask(BOB)
    entrance.forged = False
    for _ in range(LIMIT):
        await entrance.ask(ALICE)
    assert entrance.nonces_used == LIMIT


@pytest.mark.parametrize(
    ("first", "second", "other"),
    [
        (HERE, HERE, ELSEWHERE),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1"),
    ],
)
async def test_fresh_keys_of_one_address_are_counted_together(
    entrance: Entrance, first: str, second: str, other: str
) -> None:
    for number in range(2 * LIMIT):
        assert await entrance.ask(key(number), first if number % 2 else second) is not None
    with pytest.raises(RateLimited) as refused:
        await entrance.ask(key(99), first)
    assert refused.value.retry_after_seconds == 60
    assert await entrance.ask(key(99), other) is not None


async def test_pages_of_fresh_keys_count_for_their_address_with_all_else_that_it_asks(
    entrance: Entrance,
) -> None:
    for number in range(2 * LIMIT):
        assert await entrance.ask(key(number), by_page=bool(number % 2)) == HERE
    for by_page in (True, False):
        with pytest.raises(RateLimited):
            await entrance.ask(key(99), by_page=by_page)
    assert await entrance.ask(key(99), ELSEWHERE, by_page=True) == ELSEWHERE


async def test_pages_of_a_wallet_that_paid_count_for_no_address(
    db: Database, entrance: Entrance
) -> None:
    await fund(db, ALICE, 500_000)
    for number in range(2 * LIMIT):
        await entrance.ask(key(number))
    for _ in range(LIMIT):
        assert await entrance.ask(ALICE, by_page=True) is None


async def test_wallet_that_paid_is_not_held_up_by_strangers_at_its_address(
    db: Database, entrance: Entrance
) -> None:
    await fund(db, ALICE, 500_000)
    for number in range(2 * LIMIT):
        await entrance.ask(key(number))
    for _ in range(LIMIT):
        assert await entrance.ask(ALICE) is None


async def test_one_wallet_does_not_use_up_its_address(entrance: Entrance) -> None:
    for _ in range(10 * LIMIT):
        try:
            await entrance.ask(ALICE)
        except RateLimited:
            continue
    assert await entrance.ask(BOB) == HERE


async def test_made_up_payments_are_counted_for_their_address_and_never_answered_429(
    entrance: Entrance,
) -> None:
    for number in range(2 * LIMIT):
        await entrance.ask(key(number), tx_hash=fresh_hash())
    with pytest.raises(PaymentPending, match="do not pay again") as refused:
        await entrance.ask(key(99), tx_hash=fresh_hash())
    assert refused.value.retry_after_seconds == 60
    assert entrance.nonces_used == 2 * LIMIT
    assert await entrance.ask(key(99)) == HERE  # a bucket of its own


async def booked(db: Database, sent: Transfer) -> None:
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=START_MS)


async def test_payment_that_arrived_passes_however_full_the_buckets_are(
    db: Database, entrance: Entrance
) -> None:
    small = msgspec.structs.replace(transfer(ALICE), amount=100_000)  # a stranger's still
    await booked(db, small)
    for number in range(2 * LIMIT):
        await entrance.ask(key(number), tx_hash=fresh_hash())
    for _ in range(2 * LIMIT):
        assert await entrance.ask(ALICE, tx_hash=small.tx_hash) == HERE
    with pytest.raises(PaymentPending):
        await entrance.ask(BOB, tx_hash=small.tx_hash)  # somebody else's

    async with db.transaction(durable=True) as tx:
        await payments.add_use(
            tx,
            chain_id=small.chain_id,
            tx_hash=small.tx_hash,
            wallet=ALICE,
            project_id=None,
            deployment_id=None,
        )
    with pytest.raises(PaymentPending):
        await entrance.ask(ALICE, tx_hash=small.tx_hash)  # it bought what it is for
