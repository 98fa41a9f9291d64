"""A wallet asks back what it paid and did not use: the credits go as the refunds are queued."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import msgspec
import pytest

from moorage.chains.rpc import Call, RpcClient, RpcError
from moorage.errors import (
    InvalidField,
    MoorageError,
    RecoveryPending,
    RefundInProgress,
    TermsChanged,
)
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering, PurseChange
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.payments.relay.refund_requests import (
    GAS,
    GATEWAY,
    RefundAsked,
    RefundLimits,
    RefundRequests,
)
from moorage.payments.relay.refunds import give_up
from moorage.records.access import Recovery
from moorage.records.payments import Finality, RefundStatus
from moorage.storage import events, recoveries
from moorage.storage.apps import projects
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts, billing, payments, refunds
from moorage.storage.money.accounts import purse_of
from moorage.storage.money.billing import Work
from moorage.storage.money.grants import Grant
from support.books.records_fixture import (
    ALICE,
    ARBITRUM,
    BOB,
    PAY_TO,
    USDT,
    add_deployment,
    add_project,
    fund,
    transfer,
)
from support.gateway.clock import HOUR_MS, MINUTE_MS, START_MS, MovableClock

TREASURY = "0x" + "e1" * 20
A_MONTH = 730_000  # 1,000 micro-USD an hour
DOLLAR = MicroUsd(1_000_000)
ROOMY = RefundLimits(*(MicroUsd(1_000 * DOLLAR),) * 3)


class Node:
    """A node that knows which tokens refuse the payer, and nothing else."""

    chain = ARBITRUM
    quorum = 1

    def __init__(self) -> None:
        self.refusing: set[str] = set()
        self.code = "0x"

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        return [
            self.code
            if method == "eth_getCode"
            else RpcError(method, 3, "execution reverted: blacklisted")
            if params[0]["to"] in self.refusing
            else "0x1"
            for method, params in calls
        ]


class Shop:
    """A gateway's books, and what takes refund requests."""

    def __init__(self, db: Database, *, limits: RefundLimits = ROOMY) -> None:
        self.db, self.clock, self.node = db, MovableClock(), Node()
        self.metering = Metering(db=db, clock=self.clock)
        self.requests = RefundRequests(
            db=db,
            clients={"arbitrum": cast("RpcClient", self.node)},
            metering=self.metering,
            build_time=BuildTime(
                db=db, minutes_per_usd=60, monthly_price=MicroUsd(2 * DOLLAR), clock=self.clock
            ),
            senders={ARBITRUM.chain_id: TREASURY},
            pay_to=PAY_TO,
            limits=limits,
            secret=b"secret",
            clock=self.clock,
        )

    async def paid(self, amount: int, wallet: str = ALICE, **changed: Any) -> str:
        """Have a wallet pay, in a block that is final by now; the hash."""
        self.clock.advance(1)
        sent = transfer(wallet, amount, **changed)
        async with self.db.transaction(durable=True) as tx:
            await ledger.credit_transfers(tx, [sent], now_ms=self.clock.now_ms())
            await payments.set_finality(tx, sent.place, Finality.SAFE)
        return sent.tx_hash

    async def runs(self, name: str = "hello", **changed: Any) -> str:
        """Have an app of ALICE burn 1,000 micro-USD an hour; its project's id."""
        project = await add_project(
            self.db, name=name, monthly_price_micro_usd=MicroUsd(A_MONTH), **changed
        )
        async with self.db.transaction(durable=True) as tx:
            await self.metering.begin(tx, project.id)
        return project.id

    async def take(self, quote_id: str, wallet: str = ALICE, **asked: Any) -> str:
        given: dict[str, Any] = {"expected": None, "suspend": None} | asked
        return (await self.requests.request(wallet, quote_id, **given)).id

    async def balance(self, holder: str = ALICE) -> int:
        return await accounts.balance(self.db, holder)

    async def audited(self) -> list[str]:
        async with self.db.snapshot() as snapshot:
            _, found = await audit_books(snapshot, [ARBITRUM])
        return [f"{each.row} {each.problem}" for each in found]


@pytest.fixture
def shop(db: Database) -> Shop:
    return Shop(db)


async def test_what_was_not_used_goes_back_to_the_newest_payments_first(shop: Shop) -> None:
    older, newer = await shop.paid(300_000), await shop.paid(500_000)
    quote = await shop.requests.quote(RefundAsked(ALICE, max_=MicroUsd(600_000)))
    assert [(each.payment.tx_hash, each.debited) for each in quote.items] == [
        (newer, 490_000),
        (older, 90_000),
    ]
    assert quote.refundable == 580_000
    request = await shop.take(quote.id, expected=MicroUsd(580_000))
    queued = await shop.requests.one(ALICE, request)
    assert {(each.tx_hash, each.amount, each.gas_micro_usd) for each in queued} == {
        (newer, 490_000, 10_000),
        (older, 90_000, 10_000),
    }
    assert {each.recipient for each in queued} == {ALICE}
    assert {each.status for each in queued} == {RefundStatus.QUEUED}
    assert {each.decided_by for each in queued} == {GATEWAY}
    assert await shop.balance() == 200_000
    assert await shop.audited() == []


async def test_credits_that_the_operator_gave_are_never_cash(shop: Shop) -> None:
    await shop.paid(500_000)
    given = Grant("g", ALICE, MicroUsd(400_000), "welcome", START_MS)
    async with shop.db.transaction(durable=True) as tx:
        await ledger.grant(tx, given, now_ms=START_MS)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert (quote.refundable, quote.kept) == (490_000, {"grant": 400_000})
    await shop.take(quote.id)
    assert (await shop.requests.quote(RefundAsked(ALICE))).items == []


async def test_the_credits_that_were_given_are_used_up_first(shop: Shop) -> None:
    await shop.paid(500_000)
    given = Grant("g", ALICE, MicroUsd(2_000), "welcome", START_MS)
    async with shop.db.transaction(durable=True) as tx:
        await ledger.grant(tx, given, now_ms=START_MS)
    project = await shop.runs()
    shop.clock.advance(3 * HOUR_MS)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.end(tx, project)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.refundable == 500_000 + 2_000 - 3_000 - GAS


@pytest.mark.parametrize("apart", [False, True])
async def test_a_payment_that_is_not_final_backs_no_refund_of_one_that_was_burned(
    shop: Shop, *, apart: bool
) -> None:
    """Or who makes a node show a payment would get real tokens for it."""
    await shop.paid(50_000)
    project = await shop.runs()
    shop.clock.advance(50 * HOUR_MS)
    sent = transfer(ALICE, 60_000, tx_hash="0x" + "66" * 32)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.end(tx, project)
        await ledger.credit_transfers(tx, [sent], now_ms=shop.clock.now_ms())
        for each in await payments.every(tx) if apart else ():
            await payments.set_purse(tx, each, project)
        if apart:
            await accounts.open_purse(
                tx, project, wallet=ALICE, adopted=False, now_ms=shop.clock.now_ms()
            )
            assert await ledger.move(
                tx, ALICE, purse_of(project), MicroUsd(60_000), now_ms=shop.clock.now_ms()
            )
    asked = RefundAsked(ALICE, project if apart else "")
    quote = await shop.requests.quote(asked)
    assert (quote.items, quote.kept) == ([], {"not_final": 60_000})
    async with shop.db.transaction(durable=True) as tx:
        await payments.set_finality(tx, sent.place, Finality.SAFE)
    assert (await shop.requests.quote(asked)).refundable == 60_000 - GAS


async def test_what_is_given_after_all_was_burned_is_not_cash(shop: Shop) -> None:
    await shop.paid(50_000)
    project = await shop.runs()
    shop.clock.advance(50 * HOUR_MS)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.end(tx, project)
        given = Grant("g", ALICE, MicroUsd(60_000), "goodwill", shop.clock.now_ms())
        await ledger.grant(tx, given, now_ms=shop.clock.now_ms())
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert (quote.refundable, quote.kept) == (0, {"grant": 60_000})
    await shop.paid(30_000)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.begin(tx, project)
    shop.clock.advance(20 * HOUR_MS)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.refundable == 30_000 - GAS
    assert quote.kept == {"burned_until_now": 20_000, "running_apps": 1_000, "grant": 39_000}
    await shop.take(quote.id)
    assert await shop.balance() == 40_000


async def test_what_another_wallet_paid_for_is_sent_to_neither(shop: Shop) -> None:
    await shop.paid(50_000)
    project = await shop.runs()
    shop.clock.advance(50 * HOUR_MS)
    await shop.paid(60_000, BOB, tx_hash="0x" + "77" * 32)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.end(tx, project)
        [bought] = await payments.by_hash(tx, tx_hash="0x" + "77" * 32)
        assert await ledger.give(tx, bought, ALICE, now_ms=shop.clock.now_ms())
    for wallet in (ALICE, BOB):
        assert (await shop.requests.quote(RefundAsked(wallet))).refundable == 0


async def test_what_was_given_is_not_cash_in_a_purse_either(shop: Shop) -> None:
    await shop.paid(40_000)
    given = Grant("g", ALICE, MicroUsd(50_000), "welcome", START_MS)
    async with shop.db.transaction(durable=True) as tx:
        await ledger.grant(tx, given, now_ms=START_MS)
    project = await add_project(shop.db)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.change_purse(tx, project, PurseChange(add=MicroUsd(60_000)))
    assert (await shop.requests.quote(RefundAsked(ALICE))).refundable == 30_000 - GAS
    of_purse = await shop.requests.quote(RefundAsked(ALICE, project.id))
    assert (of_purse.refundable, of_purse.kept) == (40_000 - GAS, {"grant": 20_000})
    quote = await shop.requests.quote(RefundAsked(ALICE))
    request = await shop.take(quote.id)
    async with shop.db.transaction(durable=True) as tx:
        for each in await refunds.of_request(tx, request, wallet=ALICE):
            await refunds.refunded(tx, each.id, refund_tx_hash="0x", is_final=True, now_ms=START_MS)
    with pytest.raises(TermsChanged):
        await shop.take(of_purse.id)
    assert (await shop.requests.quote(RefundAsked(ALICE, project.id))).refundable == 0
    assert await shop.balance(purse_of(project.id)) == 60_000


async def test_a_quote_holds_while_apps_go_on_to_burn(shop: Shop) -> None:
    await shop.paid(500_000)
    project = await shop.runs()
    shop.clock.advance(2 * HOUR_MS + 6)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.kept == {"burned_until_now": 2_001, "running_apps": 1_000}
    assert quote.refundable == 500_000 - 2_001 - 1_000 - GAS
    ((ending, at_ms),) = quote.ends
    assert (ending, at_ms) == (project, shop.clock.now_ms() - 6 + HOUR_MS + 1)  # 3,001 are owed
    shop.clock.advance(9 * MINUTE_MS)
    await shop.take(quote.id, expected=quote.refundable)
    assert await shop.balance() == 1_000 - 150
    assert await shop.metering.bills(shop.db, project)
    assert await shop.audited() == []


async def test_who_suspends_what_runs_gets_its_hour_too(shop: Shop) -> None:
    await shop.paid(500_000)
    project = await shop.runs()
    quote = await shop.requests.quote(RefundAsked(ALICE, suspend=True))
    assert quote.kept == {"running_apps": 167}  # until the quote ends

    async def suspend(tx: Transaction, ids: Collection[str]) -> Callable[[], None]:
        for each in ids:
            await shop.metering.end(tx, each)
        return lambda: None

    await shop.take(quote.id, suspend=suspend)
    assert not await shop.metering.bills(shop.db, project)
    assert await shop.balance() == 167


async def test_a_quote_is_taken_once(shop: Shop) -> None:
    await shop.paid(500_000)
    quote = await shop.requests.quote(RefundAsked(ALICE, max_=MicroUsd(100_000)))
    request = await shop.take(quote.id)
    with pytest.raises(RefundInProgress):
        await shop.take(quote.id)
    (queued,) = await shop.requests.one(ALICE, request)
    async with shop.db.transaction(durable=True) as tx:
        await give_up(tx, queued, now_ms=START_MS)
    assert await shop.balance() == 500_000
    with pytest.raises(TermsChanged):
        await shop.take(quote.id)
    assert await shop.balance() == 500_000


async def test_a_refund_that_fails_gives_the_credits_back_once(shop: Shop) -> None:
    await shop.paid(500_000)
    request = await shop.take((await shop.requests.quote(RefundAsked(ALICE))).id)
    (queued,) = await shop.requests.one(ALICE, request)
    for _ in range(2):
        async with shop.db.transaction(durable=True) as tx:
            await give_up(tx, queued, now_ms=START_MS)
    assert await shop.balance() == 500_000
    assert await shop.audited() == []
    told = await events.of_wallet(shop.db, ALICE, after=0, limit=10)
    assert [each.kind for each in told][-2:] == ["refund.queued", "refund.failed"]


async def test_forty_requests_at_once_take_the_credits_once(shop: Shop) -> None:
    await shop.paid(500_000)
    quotes = [
        await shop.requests.quote(RefundAsked(ALICE, max_=MicroUsd(100_000 + number)))
        for number in range(40)
    ]
    done = await asyncio.gather(*(shop.take(each.id) for each in quotes), return_exceptions=True)
    assert len([each for each in done if isinstance(each, str)]) == 1
    (queued,) = await refunds.queued(shop.db)
    taken = queued.debited_micro_usd + queued.gas_micro_usd
    assert await shop.balance() == 500_000 - taken


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("another wallet", InvalidField),
        ("forged", InvalidField),
        ("no quote", InvalidField),
        ("ended", TermsChanged),
        ("other terms", TermsChanged),
    ],
)
async def test_quote_that_does_not_hold_takes_nothing(
    shop: Shop, name: str, error: type[MoorageError]
) -> None:
    await shop.paid(500_000)
    await shop.paid(500_000, wallet=BOB)
    quote = (await shop.requests.quote(RefundAsked(ALICE))).id
    wallet, asked = ALICE, {}
    match name:
        case "another wallet":
            wallet = BOB
        case "forged":
            quote = quote.replace("W", "X", 1)
        case "no quote":
            quote = "é.é"
        case "ended":
            shop.clock.advance(10 * MINUTE_MS)
        case "other terms":
            asked = {"expected": MicroUsd(490_001)}
    with pytest.raises(error):
        await shop.take(quote, wallet, **asked)
    assert await shop.balance(ALICE) == await shop.balance(BOB) == 500_000
    assert await refunds.queued(shop.db) == []


async def test_a_newer_payment_changes_the_terms(shop: Shop) -> None:
    await shop.paid(500_000)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    await shop.paid(600_000)
    with pytest.raises(TermsChanged):
        await shop.take(quote.id)


async def test_what_was_burned_meanwhile_changes_the_terms(shop: Shop) -> None:
    await shop.paid(500_000)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    async with shop.db.transaction(durable=True) as tx:
        burn = ledger.Burn("none", ALICE, MicroUsd(1), "burn:x:1", START_MS)
        await ledger.burn(tx, [burn], now_ms=START_MS)
    with pytest.raises(TermsChanged):
        await shop.take(quote.id)
    assert await shop.balance() == 499_999


async def test_payment_that_is_not_final_is_kept(shop: Shop) -> None:
    await fund(shop.db, ALICE, 500_000)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert (quote.items, quote.kept) == ([], {"not_final": 500_000})


async def test_where_two_nodes_are_asked_a_payment_must_be_finalized(shop: Shop) -> None:
    await shop.paid(500_000)
    shop.node.quorum = 2
    assert (await shop.requests.quote(RefundAsked(ALICE))).kept == {"not_final": 500_000}


async def test_payer_whom_the_token_refuses_hears_it_in_the_quote(shop: Shop) -> None:
    await shop.paid(500_000)
    await shop.paid(300_000, token="usdt", token_address=USDT.key)
    shop.node.refusing = {USDT.key}
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.refundable == 490_000
    assert quote.kept == {"payer_refused_by_token": 300_000}


async def test_payment_of_less_than_its_gas_stays(shop: Shop) -> None:
    await shop.paid(10_000)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.items == []
    with pytest.raises(InvalidField, match="kept"):  # another quote would not help
        await shop.take(quote.id)


async def test_a_thousand_payments_go_back_twenty_at_a_time(shop: Shop) -> None:
    sent = [transfer(ALICE, 20_000) for _ in range(1_000)]
    async with shop.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, sent, now_ms=START_MS)
        for each in sent:
            await payments.set_finality(tx, each.place, Finality.SAFE)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert len(quote.items) == 20
    assert quote.kept == {"another_request": 980 * 20_000}
    assert len(await shop.requests.one(ALICE, await shop.take(quote.id))) == 20


async def built(shop: Shop, hours: int) -> None:
    """Have ALICE's builds take so much of their allowance."""
    project = await add_project(shop.db)
    deployment = await add_deployment(shop.db, project)
    run = Work(
        id="r",
        wallet=ALICE,
        project_id=project.id,
        deployment_id=deployment.id,
        monthly_price_micro_usd=MicroUsd(2 * DOLLAR),
        started_at_ms=START_MS,
        ran_ms=hours * HOUR_MS,
    )
    async with shop.db.transaction(durable=True) as tx:
        await billing.add_work(tx, run)
        await billing.book_work(tx, run)


async def test_builds_that_the_rest_would_not_have_allowed_stay_paid(shop: Shop) -> None:
    await shop.paid(10 * DOLLAR)
    await built(shop, 10)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.kept == {"builds_beyond_allowance": 27_398}  # ten hours of 2 dollars a month
    await shop.take(quote.id)


async def test_who_builds_with_the_money_after_the_quote_does_not_take_it_back(shop: Shop) -> None:
    await shop.paid(10 * DOLLAR)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert quote.kept == {}
    await built(shop, 10)
    with pytest.raises(TermsChanged):
        await shop.take(quote.id)
    assert await shop.balance() == 10 * DOLLAR


@pytest.mark.parametrize("which", range(3))
async def test_more_than_the_gateway_sends_by_itself_waits_for_the_operator(
    db: Database, which: int
) -> None:
    amounts = [MicroUsd(10 * DOLLAR)] * 3
    amounts[which] = MicroUsd(980_000)
    shop = Shop(db, limits=RefundLimits(*amounts))
    await shop.paid(2 * DOLLAR)
    first = await shop.take(
        (await shop.requests.quote(RefundAsked(ALICE, max_=MicroUsd(980_000)))).id
    )
    (sent,) = await shop.requests.one(ALICE, first)
    assert sent.decided_by == GATEWAY
    async with shop.db.transaction(durable=True) as tx:
        await refunds.take_up(tx, sent.id)
        await refunds.refunded(tx, sent.id, refund_tx_hash="0x", is_final=True, now_ms=START_MS)
    rest = await shop.take((await shop.requests.quote(RefundAsked(ALICE))).id)
    (waits,) = await shop.requests.one(ALICE, rest)
    assert waits.decided_by == ""
    assert [
        each.id for each in await refunds.to_send(db, chain_id=ARBITRUM.chain_id, limit=9)
    ] == []


async def test_wallet_that_the_operator_suspended_waits_for_the_operator(shop: Shop) -> None:
    await shop.paid(500_000)
    async with shop.db.transaction(durable=True) as tx:
        await projects.set_of_wallet(tx, ALICE, "abuse")
    request = await shop.take((await shop.requests.quote(RefundAsked(ALICE))).id)
    (held,) = await shop.requests.one(ALICE, request)
    assert (held.decided_by, bool(held.waits_because)) == ("", True)


async def test_nothing_goes_back_while_somebody_claims_the_wallet_nor_by_itself_after_it(
    shop: Shop,
) -> None:
    """What goes back to the payer is lost, or the thief's: the operator decides."""
    await shop.paid(500_000)
    claimed = Recovery(wallet=ALICE, address=BOB, wait_days=7, claim_at_ms=1, claim_billed_ms=1)
    async with shop.db.transaction(durable=True) as tx:
        await recoveries.put(tx, claimed)
    quote = (await shop.requests.quote(RefundAsked(ALICE))).id
    with pytest.raises(RecoveryPending):
        await shop.take(quote)
    async with shop.db.transaction(durable=True) as tx:
        await recoveries.put(tx, msgspec.structs.replace(claimed, taken_over_at_ms=1))
    (held,) = await shop.requests.one(ALICE, await shop.take(quote))
    assert (held.decided_by, bool(held.waits_because)) == ("", True)


async def test_what_a_wallet_paid_for_another_is_not_its_own_to_take_back(shop: Shop) -> None:
    given, own = await shop.paid(500_000), await shop.paid(300_000)
    async with shop.db.transaction(durable=True) as tx:
        (payment,) = await payments.by_hash(tx, tx_hash=given)
        assert await ledger.give(tx, payment, BOB, now_ms=START_MS)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    assert [each.payment.tx_hash for each in quote.items] == [own]
    assert (await shop.requests.quote(RefundAsked(BOB))).items == []
    await shop.take(quote.id)
    assert (await shop.balance(), await shop.balance(BOB)) == (0, 500_000)


async def test_payment_given_away_after_the_quote_is_not_sent_back(shop: Shop) -> None:
    paid = await shop.paid(500_000)
    await shop.paid(500_000, wallet=BOB)
    quote = await shop.requests.quote(RefundAsked(ALICE))
    async with shop.db.transaction(durable=True) as tx:
        (payment,) = await payments.by_hash(tx, tx_hash=paid)
        await ledger.give(tx, payment, BOB, now_ms=START_MS)
    with pytest.raises(TermsChanged):
        await shop.take(quote.id)
    assert await shop.balance(BOB) == 1_000_000


async def test_a_purse_goes_back_apart_from_its_wallets_credits(shop: Shop) -> None:
    await shop.paid(500_000)
    project = await add_project(shop.db)
    sent = transfer(ALICE, 300_000)
    filling = ledger.Filling(ALICE, sent.token_address, sent.amount, project.id)
    async with shop.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], filling=filling, now_ms=START_MS)
        await payments.set_finality(tx, sent.place, Finality.SAFE)
    of_wallet = await shop.requests.quote(RefundAsked(ALICE))
    of_purse = await shop.requests.quote(RefundAsked(ALICE, project.id))
    assert (of_wallet.refundable, of_purse.refundable) == (490_000, 290_000)
    await shop.take(of_purse.id)
    assert (await shop.balance(), await shop.balance(purse_of(project.id))) == (500_000, 0)


async def test_a_purses_quote_holds_after_its_project_is_deleted(shop: Shop) -> None:
    project = await add_project(shop.db)
    sent = transfer(ALICE, 300_000)
    filling = ledger.Filling(ALICE, sent.token_address, sent.amount, project.id)
    async with shop.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], filling=filling, now_ms=START_MS)
        await payments.set_finality(tx, sent.place, Finality.SAFE)
    quote = await shop.requests.quote(RefundAsked(ALICE, project.id))
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.close(tx, project.id)
    await shop.take(quote.id, expected=MicroUsd(290_000))
    assert await shop.balance() == 0
    assert await shop.audited() == []


async def test_what_a_wallet_put_into_a_purse_goes_back_from_there(shop: Shop) -> None:
    await shop.paid(500_000)
    project = await add_project(shop.db)
    async with shop.db.transaction(durable=True) as tx:
        await shop.metering.change_purse(tx, project, PurseChange(add=MicroUsd(200_000)))
    quote = await shop.requests.quote(RefundAsked(ALICE, project.id))
    await shop.take(quote.id, expected=MicroUsd(190_000))
    assert (await shop.balance(), await shop.balance(purse_of(project.id))) == (300_000, 0)
    assert await shop.audited() == []


async def test_project_without_a_purse_of_its_own_has_none_to_give_back(shop: Shop) -> None:
    project = await add_project(shop.db)
    with pytest.raises(InvalidField):
        await shop.requests.quote(RefundAsked(ALICE, project.id))


async def test_a_payment_that_is_reversed_while_its_refund_waits_costs_nobody(shop: Shop) -> None:
    sent = transfer(ALICE, 500_000)
    async with shop.db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=START_MS)
        await payments.set_finality(tx, sent.place, Finality.SAFE)
    request = await shop.take((await shop.requests.quote(RefundAsked(ALICE))).id)
    async with shop.db.transaction(durable=True) as tx:
        (payment,) = await payments.of_transaction(tx, chain_id=sent.chain_id, tx_hash=sent.tx_hash)
        await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    (queued,) = await shop.requests.one(ALICE, request)
    async with shop.db.transaction(durable=True) as tx:
        await give_up(tx, queued, now_ms=START_MS)
    assert await shop.balance() == 0
    assert await shop.audited() == []
