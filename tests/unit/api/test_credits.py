from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.responses import Response

from moorage.api.http.caller import Front, answered, warned
from moorage.api.http.request_context import WALLET
from moorage.api.money import show_credits
from moorage.errors import InvalidField
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.storage.apps import projects
from moorage.storage.database import Database
from moorage.storage.money import payments
from support.books.records_fixture import ALICE, ARBITRUM, BOB, add_project, fund, transfer
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import HOUR_MS, MovableClock


class Asking(Believed):
    """Asks for ALICE's credits, whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.clock = clock
        self.metering = Metering(db=db, clock=clock)
        super().__init__(
            db,
            clock,
            metering=self.metering,
            build_time=BuildTime(
                db=db, minutes_per_usd=60, monthly_price=MicroUsd(2_000_000), clock=clock
            ),
            chains={"arbitrum": ARBITRUM},
        )

    async def __call__(self, query: str = "") -> dict[str, Any]:
        return body_of(await answered(show_credits, self.room, request_of(query)))

    async def run(self, name: str = "hello", wallet: str = ALICE) -> str:
        project = await add_project(self.db, wallet, name)
        async with self.db.transaction(durable=True) as tx:
            await self.metering.begin(tx, project.id)
        return project.id


@pytest.fixture
def ask(db: Database, clock: MovableClock) -> Asking:
    return Asking(db, clock)


async def test_wallet_never_seen_has_nothing_and_never_runs_out(ask: Asking) -> None:
    assert await ask() == {
        "wallet": "0xaAaAaAaaAaAaAaaAaAAAAAAAAaaaAaAaAaaAaaAa",  # EIP-55
        "balance_usd": 0,
        "balance_micro_usd": 0,
        "burn_per_hour_usd": 0,
        "burn_per_hour_micro_usd": 0,
        "runs_out_at": None,
        "burning": [],
        "build_allowance": {
            "allowed_seconds": 0,
            "used_seconds": 0,
            "left_seconds": 0,
            "beyond_per_minute_usd": 0.000046,  # $2 ÷ 730 h ÷ 60, rounded up
        },
        "ledger": [],
        "next": None,
    }


async def test_purses_of_projects_are_shown_apart_from_the_balance(ask: Asking) -> None:
    project_id = await ask.run()
    sent = transfer(ALICE, 700)
    async with ask.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=ask.clock.now_ms())
        (paid,) = await payments.every(tx)
        assert await ledger.fill_purse(tx, paid, project_id, now_ms=ask.clock.now_ms())
    shown = await ask()
    assert (shown["balance_usd"], shown["burning"], shown["runs_out_at"]) == (0, [], None)
    (purse,) = shown["purses"]
    assert purse == {
        "projectId": project_id,
        "balance_usd": 0.0007,
        "limit_usd_month": None,
        "shared": False,
        # 699 micro-USD at $0.50 a month of 730 h, and the first millisecond after that
        "runs_out_at": "2026-04-07T11:01:13.945Z",
    }


async def test_app_that_runs_shows_its_burn_and_when_credits_run_out(ask: Asking) -> None:
    await fund(ask.db, ALICE, 500_000)
    await fund(ask.db, BOB, 1)
    project_id = await ask.run()
    await ask.run("bobs", BOB)
    ask.clock.advance(2 * HOUR_MS)
    await ask.metering.tick()
    ask.clock.step(1000 * HOUR_MS)  # somebody sets the clock: what is left lasts as long

    shown = await ask()

    assert (shown["balance_usd"], shown["balance_micro_usd"]) == (0.49863, 498_630)
    assert (shown["burn_per_hour_usd"], shown["burn_per_hour_micro_usd"]) == (0.000685, 685)
    assert [each["projectId"] for each in shown["burning"]] == [project_id]
    # 2026-04-07T10:00 and 730 h of which the last 5.256 s are rounded up, and 1000 h of the clock.
    assert shown["runs_out_at"] == "2026-06-18T11:59:54.745Z"
    burn, payment = shown["ledger"]
    assert (burn["kind"], burn["amount_micro_usd"], burn["projectId"]) == (
        "burn",
        -1370,
        project_id,
    )
    assert (payment["kind"], payment["amount_usd"], payment["chain"]) == (
        "payment",
        0.5,
        "arbitrum",
    )
    assert payment["at"] == "2026-04-07T10:00:00.000Z"


async def test_what_came_back_for_time_not_served_names_its_project(ask: Asking) -> None:
    await fund(ask.db, ALICE, 500_000)
    project_id = await ask.run()
    async with ask.db.transaction(durable=True) as tx:
        await ask.metering.lose(tx, project_id)
    ask.clock.advance(HOUR_MS)
    lost = await projects.by_id(ask.db, project_id)
    assert lost is not None
    async with ask.db.transaction(durable=True) as tx:
        await ask.metering.regain(tx, lost)
    found = await ask()
    given_back, burned = found["ledger"][:2]
    assert (given_back["kind"], given_back["amount_micro_usd"]) == ("compensated", 685)
    assert (burned["kind"], burned["amount_micro_usd"]) == ("burn", -685)
    assert given_back["projectId"] == burned["projectId"] == project_id
    assert found["balance_micro_usd"] == 500_000


async def test_pages_hold_every_entry_once_newest_first(ask: Asking) -> None:
    for amount in range(1, 8):
        await fund(ask.db, ALICE, amount)
        await fund(ask.db, BOB, 1_000)
    pages, query = [], "limit=3"
    while query:
        shown = await ask(query)
        pages.append([entry["amount_micro_usd"] for entry in shown["ledger"]])
        query = f"limit=3&before={shown['next']}" if shown["next"] else ""
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]


async def test_held_and_reversed_payments_are_shown(ask: Asking) -> None:
    lost = transfer(ALICE, 300_000)
    async with ask.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [lost], now_ms=1)
        await ledger.credit_transfers(
            tx, [transfer(ALICE, 200_000)], held={ALICE: "listed"}, now_ms=2
        )
        (payment,) = await payments.of_transaction(tx, chain_id=lost.chain_id, tx_hash=lost.tx_hash)
        await ledger.reverse_payment(tx, payment, now_ms=3)
    shown = await ask()
    assert (shown["balance_usd"], shown["held_usd"]) == (0, 0.2)
    assert [(each["kind"], each["tx_hash"]) for each in shown["ledger"]] == [
        ("reversal", lost.tx_hash),
        ("payment", lost.tx_hash),
    ]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "before=-1", "before=" + "9" * 19]
)
async def test_limits_of_the_query_are_said(ask: Asking, query: str) -> None:
    with pytest.raises(InvalidField):
        await ask(query)


async def test_credits_that_last_beyond_the_calendar_never_run_out(
    ask: Asking, db: Database
) -> None:
    await fund(db, ALICE, 10**15)
    await ask.run()
    body = await ask()
    assert (body["balance_usd"], body["runs_out_at"]) == (10**9, None)
    assert body["burn_per_hour_micro_usd"] > 0


@pytest.mark.parametrize(
    ("scope", "status", "expected"),
    [
        ({WALLET: ALICE}, 200, "hours=7"),
        ({WALLET: ALICE}, 404, "hours=7"),
        ({WALLET: ALICE}, 401, None),  # its nonce was used: somebody may have read it
        ({WALLET: BOB}, 200, None),
        ({}, 200, None),
    ],
)
async def test_answers_to_a_wallet_that_was_warned_say_how_long_its_credits_last(
    scope: dict[str, Any], status: int, expected: str | None
) -> None:
    async def hours_left(wallet: str) -> int | None:
        return 7 if wallet == ALICE else None

    front = SimpleNamespace(credit_warnings=SimpleNamespace(hours_left=hours_left))
    answer = Response(status_code=status)
    await warned(cast("Front", front), scope, answer)
    assert answer.headers.get("X-Credits-Warning") == expected
