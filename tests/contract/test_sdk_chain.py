"""Payments on a real node: what the client signs, once, as a transfer or as an authorization."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
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
    problem,
    serving,
    settling,
)
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.money import MicroUsd
from moorage.sdk import errors
from moorage.sdk.budget import Budget
from moorage.sdk.client import Client
from moorage.sdk.journal import Journal, Payment, PaymentState
from moorage.sdk.payer import Bought, Payer, PayStep
from moorage.sdk.payment import Node
from moorage.sdk.signer import Signer
from moorage.wire.deploy import Deployed
from support.chains.chain_fixture import LocalChains

WALLET = Signer("0x" + "11" * 32)
REFUSED = problem(402, "authorization_refused")


class MovingTime(FakeTime):
    """Wall time moves when a test says so."""

    later_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.later_ms


class Setting:
    """A gateway that settles authorizations, and one run of the client after the other."""

    def __init__(self, directory: Path) -> None:
        self.gateway, self.time = StubGateway(), MovingTime()
        self.journal = Journal(directory)
        self.accepts: list[dict[str, Any]] | None = [ACCEPTS]
        self.crash_at: PayStep | None = None
        self.gateway.unpaid = self.ask
        self.hold(10 * PRICE)

    def hold(self, amount: int) -> None:
        """What the gateway says that the wallet holds."""
        usdc = {"token": "usdc", "symbol": "USDC", "address": USDC, "decimals": 6}
        held = {"address": WALLET.address, "chain": "arbitrum", "chain_id": 42161}
        balances = [usdc | {"balance": str(amount / 1e6), "balance_raw": str(amount)}]
        path = f"/agent/balance/{WALLET.address}"
        self.gateway.other["GET", path] = [JSONResponse(held | {"balances": balances})]

    def ask(self, _: Request) -> Response:
        return settling(self.accepts)

    def on_step(self, step: PayStep, _: Payment, _why: str) -> None:
        if step is self.crash_at:
            raise Crash

    async def deploy(self, **options: Any) -> Bought[Deployed]:
        async with Client(
            self.gateway.url, WALLET, clock=self.time, pause=self.time.pause
        ) as client:
            payer = Payer(
                client,
                WALLET,
                chains=KNOWN_CHAINS,  # without an RPC URL
                journal=self.journal,
                approve=lambda _: True,
                on_step=self.on_step,
                clock=self.time,
                pause=self.time.pause,
                **options,
            )
            return await payer.deploy(REQUEST)

    @property
    def shown(self) -> list[str]:
        """The nonces of the authorizations, as they were shown."""
        return [signed["nonce"] for signed in self.gateway.authorizations]

    def states(self) -> list[PaymentState]:
        lines = self.journal.path.read_bytes().splitlines() if self.journal.path.exists() else []
        return [msgspec.json.decode(line, type=Payment).state for line in lines]


@pytest.fixture
async def setting(tmp_path: Path) -> AsyncIterator[Setting]:
    found = Setting(tmp_path / "state")
    async with serving(found.gateway, StubNode()):
        yield found


async def test_402_is_paid_by_an_authorization_of_just_the_price(setting: Setting) -> None:
    deployed = await setting.deploy()
    assert deployed.answer.deployment_id == DEPLOYMENT
    (signed,) = setting.gateway.authorizations
    assert signed["from"] == WALLET.address.lower()
    assert signed["to"] == PAY_TO.lower()
    assert signed["value"] == str(PRICE)
    assert int(signed["validBefore"]) == setting.time.now_ms() // 1000 + 600
    assert setting.states() == [PaymentState.SIGNED, PaymentState.DEPLOYED]
    assert setting.gateway.hashes == []


async def test_each_authorization_has_a_nonce_of_its_own(setting: Setting) -> None:
    await setting.deploy()
    setting.gateway.used.clear()  # so that it asks to be paid again
    await setting.deploy()
    assert len(set(setting.shown)) == 2


async def test_run_after_a_crash_shows_the_same_authorization(setting: Setting) -> None:
    setting.crash_at = PayStep.SIGNED
    with pytest.raises(Crash):
        await setting.deploy()
    setting.crash_at = None
    await setting.deploy()
    signed = [payment.authorization_nonce for payment in setting.journal.signed_since(0)]
    assert setting.shown == signed
    assert len(setting.shown) == 1


@pytest.mark.parametrize(
    "unknown",
    [
        CutShort(),
        problem(503, "payment_pending", retryable=True),
        problem(402, "payment_pending", retryable=True),
        problem(502, "chain_unavailable", retryable=True),
    ],
)
async def test_unknown_outcome_is_asked_again_with_the_same_authorization(
    setting: Setting, unknown: Response
) -> None:
    setting.gateway.paid = [answers(unknown), answers(unknown)]
    await setting.deploy()
    assert len(setting.shown) == 3
    assert len(set(setting.shown)) == 1


async def test_outcome_is_not_waited_for_beyond_the_clients_patience(setting: Setting) -> None:
    """A page of a proxy, or a gateway that lies, may say to come again after a day."""
    away = problem(503, "payment_pending", retryable=True)
    away.headers["Retry-After"] = "86400"
    setting.gateway.paid = [answers(away)] * 2
    with pytest.raises(errors.PaymentUncertain):
        await setting.deploy()
    assert setting.time.waits == [900]
    assert setting.states() == [PaymentState.SIGNED]


async def test_settlement_that_was_used_already_has_its_ids(setting: Setting) -> None:
    used = problem(409, "payment_already_used", projectId=PROJECT, deploymentId=DEPLOYMENT)
    setting.gateway.paid = [answers(used)]
    assert (await setting.deploy()).answer.project_id == PROJECT
    assert setting.states()[-1] is PaymentState.DEPLOYED


async def test_refused_one_is_shown_again_until_it_expires_and_only_then_another(
    setting: Setting,
) -> None:
    """A gateway might say that it was not spent, and settle it all the same."""
    setting.gateway.paid = [answers(REFUSED)] * 3
    for later_ms in (0, 659_999, 720_000):
        setting.time.later_ms = later_ms
        with pytest.raises(errors.AuthorizationUnspent):
            await setting.deploy()
    assert len(set(setting.shown)) == 1
    assert setting.states() == [PaymentState.SIGNED, PaymentState.EXPIRED]

    await setting.deploy()

    assert len(set(setting.shown)) == 2
    assert len(setting.shown) == 4


async def test_nonce_of_an_uncertain_one_is_never_told_as_a_transactions_hash(
    setting: Setting,
) -> None:
    """No chain knows it: whoever looks for it there, or shows it, finds nothing."""
    setting.gateway.paid = [answers(problem(402, "payer_mismatch"))]
    with pytest.raises(errors.PaymentUncertain) as uncertain:
        await setting.deploy()
    assert setting.shown[0] in uncertain.value.message
    assert uncertain.value.tx_hash == ""


async def test_expired_one_counts_in_the_budget_as_the_gateway_alone_says_it_is_unspent(
    setting: Setting,
) -> None:
    """Else one that lies is paid every twelve minutes, whatever the budget."""
    budget = Budget(per_day=MicroUsd(999_999))
    setting.gateway.paid = [answers(REFUSED)] * 2
    for later_ms in (0, 720_000):
        setting.time.later_ms = later_ms
        with pytest.raises(errors.AuthorizationUnspent):
            await setting.deploy(budget=budget)
    with pytest.raises(errors.BudgetExceeded):
        await setting.deploy(budget=budget)
    await setting.deploy(budget=Budget(per_day=MicroUsd(1_000_000)))


@pytest.mark.parametrize(
    "accepts",
    [
        None,
        [],
        [ACCEPTS | {"network": "eip155:8453"}],
        [ACCEPTS | {"asset": PAY_TO}],
        [ACCEPTS | {"scheme": "upto"}],
    ],
)
async def test_gateway_that_does_not_settle_is_paid_by_a_node_alone(
    setting: Setting, accepts: list[dict[str, Any]] | None
) -> None:
    setting.accepts = accepts
    with pytest.raises(errors.ClientMisconfigured, match="MOORAGE_RPC_URL_ARBITRUM"):
        await setting.deploy()
    assert setting.states() == []


async def test_nothing_is_signed_for_another_token_than_its_own_configuration_has(
    setting: Setting,
) -> None:
    setting.accepts = [ACCEPTS | {"extra": {"name": "Bridged USDC", "version": "2"}}]
    with pytest.raises(errors.QuoteInconsistent, match="Bridged"):
        await setting.deploy()
    assert setting.states() == []


async def test_nothing_is_signed_beyond_balance_or_limit(setting: Setting) -> None:
    with pytest.raises(errors.PaymentRefused):
        await setting.deploy(ceiling=MicroUsd(499_999))
    with pytest.raises(errors.BudgetExceeded):
        await setting.deploy(budget=Budget(per_call=MicroUsd(499_999)))
    setting.hold(PRICE - 1)
    with pytest.raises(errors.BalanceShort):
        await setting.deploy()
    setting.hold(-1)
    with pytest.raises(errors.QuoteInconsistent, match="balance of usdc"):
        await setting.deploy()
    assert setting.states() == []
    assert setting.shown == []


class Market:
    """A stub gateway that is paid on real chains."""

    def __init__(self, chains: LocalChains, directory: Path) -> None:
        self.gateway = StubGateway()
        self.chains = {"arbitrum": chains.arbitrum, "base": chains.base}
        self.signer = Signer(chains.wallets.wallets[3].private_key)
        self.journal = Journal(directory)
        self.crash_at: PayStep | None = None

    def on_step(self, step: PayStep, _payment: Payment, _why: str) -> None:
        if step is self.crash_at:
            raise Crash

    async def deploy(self, **means: Any) -> Bought[Deployed]:
        time = FakeTime()
        async with Client(self.gateway.url, self.signer, clock=time, pause=time.pause) as client:
            payer = Payer(
                client,
                self.signer,
                chains=self.chains,
                journal=self.journal,
                approve=lambda _offer: True,
                on_step=self.on_step,
            )
            return await payer.deploy(REQUEST, **means)

    async def received(self, chain: str, token: str) -> int:
        """What `pay_to` holds of `token` on `chain`."""
        return await _balance(self.chains[chain], token)


async def _balance(chain: Chain, token_name: str) -> int:
    token = chain.token(token_name)
    assert token is not None
    async with Node(chain) as node:
        return (await node.holdings(PAY_TO, token)).tokens


@pytest.fixture
async def market(local_chains: LocalChains, tmp_path: Path) -> AsyncIterator[Market]:
    found = Market(local_chains, tmp_path / "state")
    async with serving(found.gateway, StubNode()):
        yield found


@pytest.mark.parametrize("chain", ["arbitrum", "base"])
@pytest.mark.parametrize("token", ["usdc", "usdt"])
async def test_transfer_moves_exactly_the_amount(market: Market, chain: str, token: str) -> None:
    market.gateway.unpaid = lambda _: demand(payment_chain=chain, token=token)
    before = await market.received(chain, token)
    deployed = await market.deploy(chain=chain, token=token)
    assert deployed.payment is not None
    assert market.gateway.hashes == [deployed.payment.tx_hash]
    assert await market.received(chain, token) - before == PRICE


@pytest.mark.parametrize("step", [PayStep.SIGNED, PayStep.MINED])
async def test_crash_and_second_run_move_it_once(market: Market, step: PayStep) -> None:
    before = await market.received("arbitrum", "usdc")
    market.crash_at = step
    with pytest.raises(Crash):
        await market.deploy()
    market.crash_at = None
    await market.deploy()
    assert await market.received("arbitrum", "usdc") - before == PRICE
