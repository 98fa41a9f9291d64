"""What the endpoints of refunds ask for, and answer."""

from typing import Any

import msgspec
import pytest

from moorage.api.http.caller import answered
from moorage.api.http.idempotency import Idempotency
from moorage.api.refunds import list_refunds, quote_refund, request_refund, show_refund
from moorage.errors import InvalidField, RefundNotFound
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.payments.relay.refund_requests import RefundLimits, RefundRequests
from moorage.records.payments import Finality
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments, refunds
from support.books.records_fixture import ALICE, ARBITRUM, BOB, PAY_TO, add_project, transfer
from support.chains.chain_in_memory import ChainInMemory
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock

PAID = MicroUsd(500_000)


class Asking(Believed):
    """Asks for refunds as a wallet whose signature has been checked; there is no treasury."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        super().__init__(
            db,
            clock,
            chains={"arbitrum": ARBITRUM},
            idempotency=Idempotency(db=db, clock=clock),
            requests=RefundRequests(
                db=db,
                clients={"arbitrum": ChainInMemory(ARBITRUM, PAY_TO).client},
                metering=Metering(db=db, clock=clock),
                build_time=BuildTime(
                    db=db, minutes_per_usd=60, monthly_price=MicroUsd(1), clock=clock
                ),
                senders={},
                pay_to=PAY_TO,
                limits=RefundLimits(PAID, PAID, PAID),
                secret=b"secret",
                clock=clock,
            ),
        )

    async def quote(self, **body: Any) -> dict[str, Any]:
        asked = request_of(
            method="POST", path="/agent/refunds/quote", body=msgspec.json.encode(body)
        )
        return body_of(await answered(quote_refund, self.room, asked))

    async def refund(self, key: str = "k", **body: Any) -> dict[str, Any]:
        asked = request_of(
            method="POST",
            path="/agent/refunds",
            headers={"idempotency-key": key},
            body=msgspec.json.encode(body),
        )
        return body_of(await answered(request_refund, self.room, asked))


@pytest.fixture
async def ask(db: Database, clock: MovableClock) -> Asking:
    sent = transfer(ALICE, PAID)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [sent], now_ms=START_MS)
        await payments.set_finality(tx, sent.place, Finality.SAFE)
    return Asking(db, clock)


async def test_quote_names_payment_payer_and_what_its_gas_costs(ask: Asking) -> None:
    quote = await ask.quote()
    (item,) = quote["items"]
    assert (item["chain"], item["token"]) == ("arbitrum", "usdc")
    assert item["to"].lower() == ALICE
    assert (item["gross"], item["gas"], item["net"]) == ("0.500000", "0.010000", "0.490000")
    assert (quote["refundable_usd"], quote["kept"], quote["ends"]) == (0.49, [], [])


async def test_without_a_treasury_a_refund_waits_for_the_operator_with_a_date(
    ask: Asking, clock: MovableClock
) -> None:
    quote = await ask.quote()
    shown = await ask.refund(quote=quote["id"], expect={"refundable_usd": 0.49})
    assert (shown["state"], shown["decided_by"]) == ("queued", "operator")
    assert shown["decided_before"].startswith("2026-04-14")
    assert await accounts.balance(ask.db, ALICE) == 0
    again = await answered(show_refund, ask.room, request_of(refundId=shown["id"]))
    assert body_of(again) == shown
    listed = body_of(await answered(list_refunds, ask.room, request_of()))
    assert listed["refunds"] == [shown]


async def test_repeat_with_the_same_key_asks_for_nothing_new(ask: Asking) -> None:
    quote = await ask.quote()
    body = {"quote": quote["id"], "expect": {"refundable_usd": 0.49}}
    assert await ask.refund(**body) == await ask.refund(**body)
    (queued,) = await refunds.queued(ask.db)
    async with ask.db.transaction(durable=True) as tx:
        await refunds.take_up(tx, queued.id)
    assert (await ask.refund(**body))["state"] == "sent"


async def test_another_wallets_refund_is_not_shown(ask: Asking) -> None:
    quote = await ask.quote()
    shown = await ask.refund(quote=quote["id"], expect={"refundable_usd": "0.49"})
    ask.wallet = BOB
    with pytest.raises(RefundNotFound):
        await answered(show_refund, ask.room, request_of(refundId=shown["id"]))
    assert body_of(await answered(list_refunds, ask.room, request_of()))["refunds"] == []


@pytest.mark.parametrize("most", [-1, "-0.000001", "NaN", "Infinity", 1e30, "0.0000001"])
async def test_amount_that_is_none_is_refused(ask: Asking, most: object) -> None:
    with pytest.raises(InvalidField):
        await ask.quote(max_usd=most)


async def test_purse_of_another_wallets_project_is_not_told_of(ask: Asking) -> None:
    project = await add_project(ask.db, BOB)
    with pytest.raises(InvalidField) as others:
        await ask.quote(project_id=project.id)
    with pytest.raises(InvalidField) as unknown:
        await ask.quote(project_id="there is none")
    assert others.value.message == unknown.value.message


async def test_an_empty_id_names_no_refund(ask: Asking) -> None:
    with pytest.raises(RefundNotFound):
        await answered(show_refund, ask.room, request_of(refundId=""))
