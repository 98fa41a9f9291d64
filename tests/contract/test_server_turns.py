"""Which write transactions wait for which, of gateways that share a PostgreSQL server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import asyncpg
import pytest
from sqlalchemy import bindparam, func, select

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import MoorageError, RateLimited
from moorage.hosting.entrance.admission import Admission, Pricing
from moorage.hosting.entrance.attempt import DeployAttempt
from moorage.hosting.entrance.capacity import Quotas
from moorage.hosting.sources import Sources
from moorage.ledger.ledger import Transfer, credit_transfers
from moorage.ledger.metering import Metering
from moorage.money import AtomicUnits
from moorage.payments.price.quotes import MAX_NAMES_HELD, Quotes
from moorage.payments.protocols.evidence import PaymentMeans
from moorage.payments.taking.payment_required import PaymentRequired
from moorage.planning.plan import Settings
from moorage.records.size import PriceList
from moorage.storage.database import Database, Statement
from moorage.storage.money import relays
from moorage.storage.opening import open_database
from moorage.storage.schema import entries, names, quotes, wallets
from moorage.storage.vault import Vault
from moorage.uploads.reader import Upload
from moorage.uploads.request import DeployRequest
from support.books.postgres_fixture import PostgresServer
from support.books.records_fixture import ALICE, ARBITRUM, BOB, PLAN, USDC
from support.gateway.clock import MovableClock
from support.gateway.fakes import FakeVerifier, paywall_of, roomy
from support.gateway.waiting import until

pytestmark = pytest.mark.root  # the server's package is installed with the sandbox's

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
BALANCE = Statement(
    select(wallets.c.balance_micro_usd).where(wallets.c.address == bindparam("of_wallet"))
)
ENTRIES = Statement(select(func.count(), func.sum(entries.c.amount_micro_usd)))
TX = "0x" + "ab" * 32
MANY = [f"0x{number:040x}" for number in range(31)]
HELD = Statement(select(func.count()).select_from(names).where(names.c.wallet == ALICE))
QUOTED = Statement(select(func.count()).select_from(quotes))


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)


@pytest.fixture
async def gateways(url: str) -> AsyncIterator[tuple[Database, Database]]:
    one, two = open_database(url), open_database(url)
    yield one, two
    for each in (one, two):
        each.close()
    await asyncio.sleep(0)  # a closed connection's transport is done in the loop's next turn


@pytest.fixture
async def outsider(url: str) -> AsyncIterator["asyncpg.Connection"]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def write(db: Database, *about: str) -> None:
    async with db.transaction(durable=True, of=about):
        pass


async def test_transactions_that_name_nothing_of_the_same_run_beside_each_other(
    gateways: tuple[Database, Database],
) -> None:
    one, two = gateways
    async with one.transaction(durable=True, of=[ALICE, TX]):
        await write(two, BOB)
        await write(one, BOB)


@pytest.mark.parametrize(
    ("first", "second"),
    [([ALICE], [BOB, ALICE]), ([ALICE], []), ([], [ALICE]), ([], []), (MANY, [ALICE])],
    ids=["of-the-same", "of-all-after-some", "of-some-after-all", "of-all", "of-very-many"],
)
async def test_transaction_waits_for_one_that_may_concern_it(
    gateways: tuple[Database, Database],
    outsider: "asyncpg.Connection",
    first: list[str],
    second: list[str],
) -> None:
    one, two = gateways

    async def one_waits() -> bool:
        return bool(await outsider.fetchval(WAITING) == 1)

    async with one.transaction(durable=True, of=first):
        waiting = asyncio.create_task(write(two, *second))
        await until(one_waits)
        assert not waiting.done()
    await waiting


async def test_names_in_any_order_never_wait_for_each_other_in_a_circle(
    gateways: tuple[Database, Database],
) -> None:
    one, two = gateways
    wanted = [f"0x{number:040x}" for number in range(8)]
    both = ((one, wanted), (two, wanted[::-1]))
    await asyncio.gather(*(write(db, *order) for db, order in both for _ in range(20)))


async def test_chain_transaction_that_two_payers_claim_at_once_is_credited_once(
    gateways: tuple[Database, Database],
) -> None:
    """Each comes to another gateway; what it brings all payers is credited by who is first."""
    rounds = 10
    for number in range(rounds):
        tx_hash = f"0x{number:064x}"
        brought = [transfer(payer, tx_hash, at) for at, payer in enumerate((ALICE, BOB))]

        async def credit(db: Database, transfers: list[Transfer] = brought) -> None:
            about = {transfers[0].tx_hash, *(each.payer for each in transfers)}
            async with db.transaction(durable=True, of=about) as tx:
                await credit_transfers(tx, transfers, now_ms=1)

        await asyncio.gather(*map(credit, gateways))
    one, two = gateways
    assert await one.one(BALANCE, of_wallet=ALICE) == (5_000_000 * rounds,)
    assert await two.one(BALANCE, of_wallet=BOB) == (5_000_000 * rounds,)
    assert await one.one(ENTRIES) == (2 * 2 * rounds, 0)


def transfer(payer: str, tx_hash: str, log_index: int) -> Transfer:
    return Transfer(
        chain_id=8453,
        tx_hash=tx_hash,
        log_index=log_index,
        token="usdc",
        token_address="0x" + "33" * 20,
        payer=payer,
        amount=AtomicUnits(5_000_000),
        decimals=6,
        block_number=1,
        block_hash="0x" + "cd" * 32,
        recipient="0x" + "44" * 20,
    )


def admission_of(db: Database, clock: MovableClock, directory: Path) -> Admission:
    """What decides on prices at a gateway."""
    return Admission(
        db=db,
        quotes=Quotes(db=db, strangers=MemoryRateLimiter(clock=clock), clock=clock),
        paywall=paywall_of(db, FakeVerifier(), clock, ARBITRUM),
        pricing=Pricing(PriceList(), PriceList().sizes()),
        sources=Sources(directory),
        capacity=roomy(db),
        quotas=Quotas(),
        metering=Metering(db=db, clock=clock),
        vault=Vault([bytes(32)]),
        clock=clock,
        on_queued=lambda: None,
        on_superseded=lambda _: None,
    )


@pytest.fixture
def admissions(
    gateways: tuple[Database, Database], clock: MovableClock, tmp_path: Path
) -> tuple[Admission, Admission]:
    one, two = (admission_of(db, clock, tmp_path) for db in gateways)
    return one, two


async def price(admission: Admission, wallet: str, name: str) -> PaymentRequired | MoorageError:
    """What is answered to who wants to deploy and has not paid."""
    attempt = DeployAttempt(
        wallet=wallet,
        request=DeployRequest(
            unique_name=name, display_name=name, description=None, months=1, settings=Settings()
        ),
        request_digest="00" * 32,
        plan=PLAN,
        means=PaymentMeans(chain=ARBITRUM, token=USDC),
        evidence=None,
        use_existing_credits=False,
    )
    upload = cast("Upload", None)  # it is not asked for before the payment
    with pytest.raises(MoorageError) as answered:
        await admission.admit(attempt, upload)
    return answered.value


async def test_price_waits_for_no_payment_or_price_of_others(
    admissions: tuple[Admission, Admission], gateways: tuple[Database, Database]
) -> None:
    one, two = admissions
    async with gateways[0].transaction(durable=True, of=[BOB, TX, "name other"]):
        for each in (one, two):
            assert isinstance(await price(each, ALICE, "hello"), PaymentRequired)


async def test_price_waits_for_whoever_runs_alone(
    admissions: tuple[Admission, Admission],
    gateways: tuple[Database, Database],
    outsider: "asyncpg.Connection",
) -> None:
    async def one_waits() -> bool:
        return bool(await outsider.fetchval(WAITING) == 1)

    async with gateways[0].transaction(durable=True):
        waiting = asyncio.create_task(price(admissions[1], ALICE, "hello"))
        await until(one_waits)
    assert isinstance(await waiting, PaymentRequired)


async def test_of_wallets_that_ask_at_two_gateways_for_a_name_at_once_one_gets_it(
    admissions: tuple[Admission, Admission], gateways: tuple[Database, Database]
) -> None:
    rounds = 8
    for number in range(rounds):
        answers = await asyncio.gather(
            *(
                price(admissions[at % 2], wallet, f"hello-{number}")
                for at, wallet in enumerate(MANY[:6])
            )
        )
        kinds = sorted(type(each).__name__ for each in answers)
        assert kinds == ["NameUnavailable"] * 5 + ["PaymentRequired"]
    assert await gateways[0].one(QUOTED) == (rounds,)


async def test_wallet_that_asks_at_two_gateways_at_once_holds_no_more_names_than_it_may(
    admissions: tuple[Admission, Admission], gateways: tuple[Database, Database]
) -> None:
    beyond = 10
    answers = await asyncio.gather(
        *(
            price(admissions[number % 2], ALICE, f"hello-{number}")
            for number in range(MAX_NAMES_HELD + beyond)
        )
    )
    refused = [each for each in answers if isinstance(each, RateLimited)]
    assert len(refused) == beyond
    assert await gateways[0].one(HELD) == (MAX_NAMES_HELD,)


async def test_same_request_at_two_gateways_at_once_is_quoted_once(
    admissions: tuple[Admission, Admission], gateways: tuple[Database, Database]
) -> None:
    answers = await asyncio.gather(
        *(price(admissions[number % 2], ALICE, "hello") for number in range(12))
    )
    references = {each.demand.reference for each in answers if isinstance(each, PaymentRequired)}
    assert len(references) == 1
    assert await gateways[0].one(QUOTED) == (1,)


async def test_nonces_that_are_claimed_at_two_gateways_at_once_are_each_one_settlements(
    gateways: tuple[Database, Database],
) -> None:
    async def claim(number: int) -> int:
        async with gateways[number % 2].transaction(
            durable=True, of=[MANY[number], "relayer 8453"]
        ) as tx:
            return await relays.claim_nonce(
                tx, chain_id=8453, sender=BOB, min_=7, subject_id=f"settlement {number}"
            )

    claimed = await asyncio.gather(*map(claim, range(20)))
    assert sorted(claimed) == list(range(7, 27))
