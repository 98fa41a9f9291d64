"""The client against a gateway that misbehaves: whatever breaks, a deploy is paid at most once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, UnsetType
from sdk_stubs import (
    ACCEPTS,
    DEPLOYMENT,
    PAY_TO,
    PRICE,
    PROJECT,
    REQUEST,
    USDC,
    Crash,
    CutShort,
    FakeTime,
    StubGateway,
    StubNode,
    answers,
    demand,
    deploying,
    problem,
    serving,
    settling,
)
from starlette.responses import JSONResponse, PlainTextResponse, Response

from moorage.chains.chain import KNOWN_CHAINS
from moorage.money import MicroUsd
from moorage.sdk import errors
from moorage.sdk.budget import Budget
from moorage.sdk.client import Client, DeployRequest
from moorage.sdk.journal import Journal, Payment, PaymentState
from moorage.sdk.payer import Bought, Payer, PayStep
from moorage.sdk.payment import Offer
from moorage.sdk.signer import Signer
from moorage.wire.credits import ToppedUp
from moorage.wire.deploy import Deployed

KEY = "0x" + "11" * 32


class Setting:
    """A gateway, a node, a state directory, and runs of the client one after the other."""

    def __init__(self, directory: Path) -> None:
        self.gateway = StubGateway()
        self.node = StubNode()
        self.time = FakeTime()
        self.journal = Journal(directory)
        self.offers: list[Offer] = []
        self.steps: list[PayStep] = []
        self.crash_at: PayStep | None = None
        self.told: list[tuple[float, str]] = []

    def on_wait(self, seconds: float, because: errors.ClientError) -> None:
        self.told.append((seconds, because.code))

    def approve(self, offer: Offer) -> bool:
        self.offers.append(offer)
        return True

    def on_step(self, step: PayStep, _payment: Payment, _why: str) -> None:
        self.steps.append(step)
        if step is self.crash_at:
            raise Crash

    def client(self) -> Client:
        return Client(
            self.gateway.url,
            Signer(KEY),
            clock=self.time,
            pause=self.time.pause,
            on_wait=self.on_wait,
        )

    def payer(self, client: Client, **options: Any) -> Payer:
        arbitrum = msgspec.structs.replace(KNOWN_CHAINS["arbitrum"], rpc_urls=(self.node.url,))
        return Payer(
            client,
            Signer(KEY),
            chains=options.pop("chains", {"arbitrum": arbitrum}),
            journal=self.journal,
            approve=options.pop("approve", self.approve),
            on_step=self.on_step,
            clock=self.time,
            pause=self.time.pause,
            **options,
        )

    async def deploy(self, request: DeployRequest = REQUEST, **options: Any) -> Bought[Deployed]:
        means = {
            name: options.pop(name)
            for name in ("chain", "token", "use_existing_credits")
            if name in options
        }
        async with self.client() as client:
            return await self.payer(client, **options).deploy(request, **means)

    async def top_up(self, dollars: float = 0.5, **options: Any) -> Bought[ToppedUp]:
        async with self.client() as client:
            payer = self.payer(client, **options)
            return await payer.top_up(MicroUsd(int(dollars * 1_000_000)))

    def states(self) -> list[PaymentState]:
        lines = self.journal.path.read_bytes().splitlines() if self.journal.path.exists() else []
        return [msgspec.json.decode(line, type=Payment).state for line in lines]


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    found = Setting(tmp_path / "state")
    async with serving(found.gateway, found.node):
        yield found


async def test_402_is_paid_and_the_hash_presented(setting: Setting) -> None:
    deployed = await setting.deploy()
    assert (deployed.answer.project_id, deployed.answer.deployment_id) == (PROJECT, DEPLOYMENT)
    (tx_hash,) = setting.node.sent
    assert setting.gateway.hashes == [tx_hash]
    paid = setting.gateway.deploys[-1]
    assert (paid["x-payment-chain"], paid["x-payment-token"]) == ("arbitrum", "usdc")
    assert setting.gateway.bodies[0] == setting.gateway.bodies[1]
    assert setting.states() == [PaymentState.SIGNED, PaymentState.DEPLOYED]


async def test_offer_names_price_amount_and_balance(setting: Setting) -> None:
    await setting.deploy()
    (offer,) = setting.offers
    assert (offer.price, offer.amount, offer.balance) == (500_000, PRICE, 1_000_000_000)
    assert (offer.pay_to, offer.token.address, offer.months) == (PAY_TO, USDC, 1)


async def test_sufficient_credits_pay_nothing(setting: Setting) -> None:
    setting.gateway.unpaid = lambda _: deploying()
    deployed = await setting.deploy()
    assert deployed.payment is None
    assert setting.offers == []
    assert not setting.journal.path.exists()


async def test_existing_credits_are_used_only_when_asked(setting: Setting) -> None:
    setting.gateway.unpaid = lambda request: (
        deploying() if request.headers.get("x-use-existing-credits") == "true" else demand()
    )
    assert (await setting.deploy(use_existing_credits=True)).payment is None
    assert (await setting.deploy()).payment is not None


async def test_pending_payment_is_presented_again_after_retry_after(setting: Setting) -> None:
    pending = problem(402, "payment_pending", retryable=True)
    pending.headers["Retry-After"] = "17"
    setting.gateway.paid = [answers(pending), answers(pending)]
    await setting.deploy()
    assert len(setting.gateway.hashes) == 3
    assert len(setting.node.payments) == 1
    assert setting.time.waits == [17, 17]


@pytest.mark.parametrize(
    "fault",
    [
        problem(502, "chain_unavailable", retryable=True),
        problem(503, "balance_unknown", retryable=True),
        problem(429, "rate_limited", retryable=True),
        problem(500, "internal_error", retryable=True),
        problem(401, "timestamp_expired", retryable=True),
        PlainTextResponse("<h1>Bad gateway</h1>", status_code=502),
        CutShort(),
    ],
    ids=["502", "503", "429", "500", "401", "502-html", "cut-short"],
)
async def test_fault_after_paying_presents_the_same_hash_again(
    setting: Setting, fault: Response | CutShort
) -> None:
    setting.gateway.paid = [answers(fault)]
    await setting.deploy()
    assert len(setting.gateway.hashes) == 2
    assert len(set(setting.gateway.hashes)) == 1
    assert len(setting.node.payments) == 1


async def test_answer_lost_after_the_gateway_took_it_gives_the_ids_of_the_409(
    setting: Setting,
) -> None:
    async def take_and_break_off(tx_hash: str) -> Any:
        setting.gateway.take(tx_hash)
        return CutShort()

    setting.gateway.paid = [take_and_break_off]
    deployed = await setting.deploy()
    assert deployed.answer.deployment_id == DEPLOYMENT
    assert len(setting.gateway.deploys) == 3  # asked, paid, presented again
    assert len(setting.node.payments) == 1
    assert setting.states()[-1] is PaymentState.DEPLOYED


async def test_409_without_ids_deploys_from_the_credits_it_became(setting: Setting) -> None:
    setting.gateway.paid = [answers(problem(409, "payment_already_used"))]
    setting.gateway.unpaid = lambda request: (
        deploying() if request.headers.get("x-use-existing-credits") == "true" else demand()
    )
    await setting.deploy()
    assert len(setting.node.payments) == 1


async def test_409_without_ids_and_without_credits_never_pays_again(setting: Setting) -> None:
    setting.gateway.paid = [answers(problem(409, "payment_already_used"))]
    with pytest.raises(errors.PaymentUncertain) as caught:
        await setting.deploy()
    assert caught.value.tx_hash in setting.node.payments
    assert len(setting.node.payments) == 1


@pytest.mark.parametrize("step", [PayStep.SIGNED, PayStep.MINED])
async def test_crash_after_signing_pays_once_in_the_next_run(
    setting: Setting, step: PayStep
) -> None:
    setting.crash_at = step
    with pytest.raises(Crash):
        await setting.deploy()
    setting.crash_at = None
    deployed = await setting.deploy()
    assert deployed.answer.deployment_id == DEPLOYMENT
    assert len(setting.offers) == 1
    assert len(setting.node.payments) == 1
    assert PayStep.RESUMED in setting.steps


async def test_crash_before_the_answer_takes_the_ids_in_the_next_run(setting: Setting) -> None:
    async def take_and_crash(tx_hash: str) -> Any:
        setting.gateway.take(tx_hash)
        setting.crash_at = PayStep.WAITING
        return problem(502, "chain_unavailable", retryable=True)

    setting.gateway.paid = [take_and_crash]
    with pytest.raises(Crash):
        await setting.deploy()
    setting.crash_at = None
    deployed = await setting.deploy()
    assert deployed.answer.deployment_id == DEPLOYMENT
    assert len(setting.node.payments) == 1


async def test_lost_broadcast_answer_is_no_reason_to_sign_again(setting: Setting) -> None:
    setting.node.answers_lost = 1
    await setting.deploy()
    assert len(setting.node.payments) == 1


async def test_unreachable_gateway_after_paying_is_waited_for_then_uncertain(
    setting: Setting,
) -> None:
    unavailable = problem(502, "chain_unavailable", retryable=True)
    setting.gateway.paid = [answers(unavailable)] * 1_000
    with pytest.raises(errors.PaymentUncertain) as caught:
        await setting.deploy()
    assert "Do not pay again" in caught.value.message
    assert isinstance(caught.value.cause, errors.GatewayUnavailable)
    setting.gateway.paid = []
    assert (await setting.deploy()).answer.deployment_id == DEPLOYMENT
    assert len(setting.node.payments) == 1


@pytest.mark.parametrize("code", ["payment_not_found", "payer_mismatch"])
async def test_payment_the_gateway_does_not_accept_stays_open(setting: Setting, code: str) -> None:
    setting.gateway.paid = [answers(problem(402, code, looked_for={"token": USDC}))]
    with pytest.raises(errors.PaymentUncertain) as caught:
        await setting.deploy()
    cause = caught.value.cause
    assert isinstance(cause, errors.PaymentRequired)
    assert cause.body["looked_for"] == {"token": USDC}
    await setting.deploy()
    assert len(setting.node.payments) == 1


async def test_demand_in_answer_to_a_payment_is_never_paid(setting: Setting) -> None:
    setting.gateway.paid = [answers(demand())] * 1_000
    with pytest.raises(errors.PaymentUncertain):
        await setting.deploy()
    assert len(setting.node.payments) == 1


async def test_refused_request_after_paying_keeps_the_payment_for_the_next_run(
    setting: Setting,
) -> None:
    setting.gateway.paid = [answers(problem(400, "name_unavailable", field="uniqueName"))]
    with pytest.raises(errors.PaymentUncertain):
        await setting.deploy()
    await setting.deploy()
    assert len(setting.node.payments) == 1


async def test_short_payment_is_closed_and_its_remainder_offered_next(setting: Setting) -> None:
    setting.gateway.paid = [answers(demand(code="payment_short", amount_usd=0.2))]
    with pytest.raises(errors.PaymentShort):
        await setting.deploy()
    assert setting.states()[-1] is PaymentState.CREDITED
    setting.gateway.unpaid = lambda _: demand(amount_usd=0.2, amount_token="200000")
    await setting.deploy()
    assert [offer.amount for offer in setting.offers] == [500_000, 200_000]


async def test_reverted_payment_moved_nothing_and_may_be_made_anew(setting: Setting) -> None:
    setting.node.reverting = True
    with pytest.raises(errors.PaymentReverted):
        await setting.deploy()
    assert setting.gateway.hashes == []
    assert setting.states()[-1] is PaymentState.REVERTED


async def test_refused_broadcast_is_recorded_and_sent_again_by_the_next_run(
    setting: Setting,
) -> None:
    setting.node.refusal = "insufficient funds for gas"
    with pytest.raises(errors.PaymentUncertain, match="insufficient funds for gas"):
        await setting.deploy()
    setting.node.refusal = None
    await setting.deploy()
    assert len(setting.offers) == 1
    assert len(setting.node.payments) == 1


async def test_payment_whose_nonce_another_used_up_for_good_may_be_made_anew(
    setting: Setting,
) -> None:
    setting.node.refusal = "nonce too low"
    with pytest.raises(errors.PaymentUncertain):
        await setting.deploy()
    setting.node.finalized_count = 8  # the payment's is 7
    with pytest.raises(errors.PaymentReplaced):
        await setting.deploy()
    assert setting.states()[-1] is PaymentState.REPLACED


async def test_unmined_payment_is_still_presented(setting: Setting) -> None:
    setting.node.mining = False
    setting.gateway.paid = [answers(problem(402, "payment_pending", retryable=True))]
    await setting.deploy()
    assert len(setting.gateway.hashes) == 2
    assert len(setting.node.payments) == 1


async def test_two_runs_at_once_for_one_name_pay_once(setting: Setting) -> None:
    setting.gateway.gate = asyncio.Barrier(2)  # neither is asked to pay before the other
    outcomes = await asyncio.gather(setting.deploy(), setting.deploy())
    assert len(setting.offers) == 2
    assert {outcome.answer.deployment_id for outcome in outcomes} == {DEPLOYMENT}
    assert len(setting.node.payments) == 1


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"payment_chain": "base"}, errors.QuoteInconsistent),
        ({"token": "usdt"}, errors.QuoteInconsistent),
        ({"decimals": 18}, errors.QuoteInconsistent),
        ({"amount_token": "500000000"}, errors.QuoteInconsistent),
        ({"amount_token": "-1"}, errors.QuoteInconsistent),
        ({"amount_token": "0"}, errors.QuoteInconsistent),
        ({"pay_to": "0x0"}, errors.QuoteInconsistent),
        ({"pay_to": "0x" + "0" * 40}, errors.QuoteInconsistent),
        ({"pay_to": Signer(KEY).address}, errors.QuoteInconsistent),
        ({"amount_token": 500_000}, errors.PaymentRequired),
    ],
)
async def test_odd_demand_is_refused_before_anything_is_signed(
    setting: Setting, change: dict[str, Any], error: type[errors.ClientError]
) -> None:
    setting.gateway.unpaid = lambda _: demand(**change)
    with pytest.raises(error):
        await setting.deploy()
    assert setting.node.sent == []
    assert setting.states() == []


async def test_price_above_the_ceiling_is_refused(setting: Setting) -> None:
    with pytest.raises(errors.PaymentRefused, match=r"\$0\.50"):
        await setting.deploy(ceiling=MicroUsd(499_999))
    assert setting.offers == []
    await setting.deploy(ceiling=MicroUsd(500_000))
    assert len(setting.node.payments) == 1


async def test_nothing_is_paid_without_approval(setting: Setting) -> None:
    with pytest.raises(errors.PaymentRefused):
        await setting.deploy(approve=lambda _offer: False)
    assert setting.node.sent == []


async def test_short_balance_says_what_is_missing(setting: Setting) -> None:
    setting.node.balance = 499_999
    with pytest.raises(errors.BalanceShort, match=r"0\.50 USDC on arbitrum.*holds 0\.499999"):
        await setting.deploy()
    assert setting.offers == []


GASLESS = (0, 60_000 * 130 // 100 * (2 * 10_000_000 + 1_000) - 1)
"""What no gas can be paid with: nothing, and a wei less than the stub's node asks for at most."""


@pytest.mark.parametrize("wei", GASLESS)
async def test_wallet_without_gas_pays_by_one_authorization_where_it_is_settled(
    setting: Setting, wei: int
) -> None:
    setting.node.wei = wei
    setting.gateway.unpaid = lambda _: settling([ACCEPTS])
    setting.gateway.paid = [answers(problem(502, "chain_unavailable", retryable=True))]
    deployed = await setting.deploy()
    assert deployed.answer.deployment_id == DEPLOYMENT
    assert [signed["value"] for signed in setting.gateway.authorizations] == [str(PRICE)] * 2
    assert len({signed["nonce"] for signed in setting.gateway.authorizations}) == 1
    assert len(setting.offers) == 1
    assert (setting.node.sent, setting.gateway.hashes) == ([], [])
    assert setting.states() == [PaymentState.SIGNED, PaymentState.DEPLOYED]


async def test_wallet_with_gas_pays_by_a_transfer_alone(setting: Setting) -> None:
    setting.node.wei = GASLESS[1] + 1
    setting.gateway.unpaid = lambda _: settling([ACCEPTS])
    await setting.deploy()
    assert (len(setting.node.payments), setting.gateway.authorizations) == (1, [])


@pytest.mark.parametrize("wei", GASLESS)
@pytest.mark.parametrize("accepts", [None, [], [ACCEPTS | {"asset": PAY_TO}]])
async def test_wallet_without_gas_is_told_so_where_nothing_is_settled(
    setting: Setting, wei: int, accepts: list[dict[str, Any]] | None
) -> None:
    setting.node.wei = wei
    setting.gateway.unpaid = lambda _: settling(accepts)
    with pytest.raises(errors.BalanceShort, match="for gas"):
        await setting.deploy()
    assert (setting.states(), setting.node.sent, setting.gateway.authorizations) == ([], [], [])


async def test_wallet_without_gas_and_tokens_signs_nothing(setting: Setting) -> None:
    setting.node.wei, setting.node.balance = 0, PRICE - 1
    setting.gateway.unpaid = lambda _: settling([ACCEPTS])
    with pytest.raises(errors.BalanceShort, match=r"holds 0\.499999"):
        await setting.deploy()
    assert (setting.states(), setting.gateway.authorizations) == ([], [])


async def test_node_of_another_chain_is_refused(setting: Setting) -> None:
    setting.node.chain_id = 1
    with pytest.raises(errors.ClientMisconfigured, match="chain 1"):
        await setting.deploy()
    assert setting.node.sent == []


async def test_unwritable_journal_pays_nothing(setting: Setting) -> None:
    setting.journal.path.parent.parent.joinpath("file").write_text("")
    setting.journal = Journal(setting.journal.path.parent.parent / "file")
    with pytest.raises(errors.JournalUnwritable):
        await setting.deploy()
    assert setting.node.sent == []


async def test_next_url_is_asked_when_one_fails_and_the_payment_is_made_once(
    setting: Setting,
) -> None:
    urls = (f"{setting.gateway.url}/no-node", setting.node.url)
    chain = msgspec.structs.replace(KNOWN_CHAINS["arbitrum"], rpc_urls=urls)
    setting.gateway.other["POST", "/no-node"] = [PlainTextResponse("", status_code=502)]
    await setting.deploy(chains={"arbitrum": chain})
    assert len(setting.node.sent) == 1


async def test_chain_without_base_fee_is_paid_by_a_legacy_transaction(setting: Setting) -> None:
    setting.node.base_fee = None
    await setting.deploy()
    assert len(setting.node.payments) == 1


async def test_top_up_asks_pays_and_presents_the_hash_with_the_same_body(setting: Setting) -> None:
    credited = await setting.top_up(0.5)
    (tx_hash,) = setting.node.sent
    assert (credited.answer.tx_hash, credited.answer.balance_usd) == (tx_hash, 0.75)
    assert setting.gateway.hashes == [tx_hash]
    assert setting.gateway.bodies == [b'{"amount_usd":0.5}'] * 2
    assert setting.states() == [PaymentState.SIGNED, PaymentState.CREDITED]


async def test_top_up_never_pays_more_than_was_asked_for(setting: Setting) -> None:
    with pytest.raises(errors.PaymentRefused, match="more than the"):
        await setting.top_up(0.499999)
    assert setting.node.sent == []


@pytest.mark.parametrize("step", [PayStep.SIGNED, PayStep.MINED])
async def test_open_top_up_is_resumed_by_the_next_one_whatever_its_amount(
    setting: Setting, step: PayStep
) -> None:
    setting.crash_at = step
    with pytest.raises(Crash):
        await setting.top_up(0.5)
    setting.crash_at = None
    credited = await setting.top_up(10)
    assert {credited.answer.tx_hash} == setting.node.payments
    assert len(setting.offers) == 1


async def test_top_up_whose_answer_was_lost_is_not_paid_again(setting: Setting) -> None:
    async def take_and_break_off(tx_hash: str) -> Any:
        setting.gateway.used.add(tx_hash)
        return CutShort()

    setting.gateway.paid = [take_and_break_off]
    credited = await setting.top_up()
    assert setting.gateway.hashes == [credited.answer.tx_hash] * 2
    assert len(setting.node.payments) == 1


async def test_top_up_that_is_closed_is_followed_by_another(setting: Setting) -> None:
    assert (await setting.top_up()).answer.tx_hash != (await setting.top_up()).answer.tx_hash
    assert len(setting.node.payments) == 2


async def test_open_deploy_and_open_top_up_do_not_take_each_others_payment(
    setting: Setting,
) -> None:
    setting.crash_at = PayStep.SIGNED
    with pytest.raises(Crash):
        await setting.deploy(msgspec.structs.replace(REQUEST, unique_name="credits"))
    with pytest.raises(Crash):
        await setting.top_up()
    assert PayStep.RESUMED not in setting.steps
    assert len(setting.journal.path.read_bytes().splitlines()) == 2


async def test_used_hash_of_a_top_up_stays_open(setting: Setting) -> None:
    setting.gateway.paid = [answers(problem(409, "payment_already_used"))]
    with pytest.raises(errors.PaymentUncertain):
        await setting.top_up()
    assert setting.states() == [PaymentState.SIGNED]


async def test_get_is_repeated_when_the_gateway_asks_for_patience(setting: Setting) -> None:
    listed = {"wallet": Signer(KEY).address, "count": 0, "projects": [], "added": 1}
    busy = problem(429, "rate_limited", retryable=True)
    busy.headers["Retry-After"] = "9"
    setting.gateway.other["GET", "/agent/projects"] = [busy, JSONResponse(listed)]
    async with setting.client() as client:
        assert (await client.projects()).count == 0
    assert setting.time.waits == [9]
    assert setting.told == [(9, "rate_limited")]
    assert len(setting.gateway.nonces) == 2


async def test_error_carries_the_whole_body(setting: Setting) -> None:
    refusal = problem(403, "wrong_wallet", owner="0xabc")
    setting.gateway.other["DELETE", f"/agent/projects/{PROJECT}"] = [refusal]
    async with setting.client() as client:
        with pytest.raises(errors.Forbidden) as caught:
            await client.delete(PROJECT)
    error = caught.value
    assert (error.status, error.code, error.retryable) == (403, "wrong_wallet", False)
    assert error.body == json.loads(bytes(refusal.body))


async def test_follow_reports_each_status_until_ready(setting: Setting) -> None:
    building = {"status": "deploying", "deployment_id": DEPLOYMENT, "deployment_status": "building"}
    ready = {"status": "ready", "deployment_id": DEPLOYMENT, "endpoint": "http://hello.localhost"}
    setting.gateway.statuses = [building, problem(502, "chain_unavailable"), building, ready]
    setting.gateway.statuses[1] = problem(503, "balance_unknown", retryable=True)
    seen: list[str | UnsetType] = []
    async with setting.client() as client:
        status = await client.follow(
            PROJECT, DEPLOYMENT, on_status=lambda status: seen.append(status.deployment_status)
        )
    assert status.endpoint == "http://hello.localhost"
    assert seen == ["building", "building", UNSET]


async def test_wait_is_told_when_something_fails_not_when_a_poll_is_due(setting: Setting) -> None:
    building = {"status": "deploying", "deployment_id": DEPLOYMENT}
    ready = {"status": "ready", "deployment_id": DEPLOYMENT, "endpoint": "http://hello.localhost"}
    busy = problem(429, "rate_limited", retryable=True)
    busy.headers["Retry-After"] = "50"
    setting.gateway.statuses = [building, *[busy] * 5, building, ready]
    async with setting.client() as client:
        await client.follow(PROJECT, DEPLOYMENT)
    assert setting.told == [(50, "rate_limited")] * 5
    assert [seconds for seconds in setting.time.waits if seconds < 50] == [0.1, 0.25]


async def test_follow_polls_at_most_thirty_times_a_minute(setting: Setting) -> None:
    setting.gateway.statuses = [{"status": "deploying", "deployment_id": DEPLOYMENT}]
    async with setting.client() as client:
        with pytest.raises(errors.FollowTimedOut):
            await client.follow(PROJECT, DEPLOYMENT, deadline_seconds=300)
    moments = [sum(setting.time.waits[:count]) for count in range(len(setting.time.waits) + 1)]
    for start in moments:
        assert sum(start <= moment < start + 60 for moment in moments) <= 30


async def test_redirect_is_not_followed_with_a_signature(setting: Setting) -> None:
    moved = Response(status_code=307, headers={"Location": f"{setting.gateway.url}/elsewhere"})
    setting.gateway.other["GET", "/agent/projects"] = [moved]
    setting.gateway.other["GET", "/elsewhere"] = [JSONResponse({})]
    async with setting.client() as client:
        with pytest.raises(errors.GatewayError) as caught:
            await client.projects()
    assert caught.value.status == 307


async def test_answer_of_something_else_is_unreadable(setting: Setting) -> None:
    setting.gateway.other["GET", "/health"] = [PlainTextResponse("hello")]
    async with setting.client() as client:
        with pytest.raises(errors.AnswerUnreadable, match="Moorage gateway"):
            await client.health()


async def test_unreachable_gateway_is_said_at_once(setting: Setting) -> None:
    async with Client("http://127.0.0.1:9", Signer(KEY), pause=setting.time.pause) as client:
        with pytest.raises(errors.GatewayUnreachable, match=r"127\.0\.0\.1:9"):
            await client.projects()
    assert setting.time.waits == []


@pytest.mark.parametrize(
    "budget", [Budget(per_call=MicroUsd(499_999)), Budget(per_day=MicroUsd(1))]
)
async def test_beyond_the_budget_nothing_is_signed(setting: Setting, budget: Budget) -> None:
    with pytest.raises(errors.BudgetExceeded):
        await setting.deploy(budget=budget)
    assert (setting.states(), setting.node.sent) == ([], [])


async def test_budget_of_the_day_counts_what_was_paid_for_anything(setting: Setting) -> None:
    budget = Budget(per_day=MicroUsd(999_999))
    await setting.deploy(budget=budget)
    with pytest.raises(errors.BudgetExceeded):
        await setting.top_up(0.5, budget=budget)
    assert len(setting.node.payments) == 1


async def test_idempotency_key_goes_with_the_question_and_the_payment(setting: Setting) -> None:
    async with setting.client() as client:
        await setting.payer(client).deploy(REQUEST, idempotency_key="once")
    assert [each["idempotency-key"] for each in setting.gateway.deploys] == ["once", "once"]
