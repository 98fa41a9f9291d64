"""What our payer does at a server that takes its money, and fails or lies about that.

The cases of `hostile-facilitator`: settled and not answered, settled and answered 502, settled and
asked for the payment once more.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sdk_stubs import (
    ACCEPTS,
    REQUEST,
    CutShort,
    FakeTime,
    StubGateway,
    StubNode,
    answers,
    demand,
    problem,
    serving,
    settles,
    settling,
)
from starlette.responses import PlainTextResponse, Response

from moorage.chains.chain import KNOWN_CHAINS
from moorage.money import MicroUsd
from moorage.sdk import errors
from moorage.sdk.client import Client
from moorage.sdk.journal import Journal, PaymentState
from moorage.sdk.payer import Bought, Payer
from moorage.sdk.signer import Signer

WALLET = Signer("0x" + "11" * 32)
CASES = {
    "not answered": CutShort(),
    "502": PlainTextResponse("<h1>Bad gateway</h1>", status_code=502),
    "asked again": demand(),
    "asked to settle again": settling([ACCEPTS]),
}
A_DAY_MS = 86_400_000


class MovingTime(FakeTime):
    """Wall time moves when a test says so."""

    later_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.later_ms


class Purse:
    """A wallet that buys one thing in one way, run after run, at a server of any kind."""

    def __init__(self, directory: Path, *, way: str, buys: str) -> None:
        self.gateway, self.node, self.time = StubGateway(), StubNode(), MovingTime()
        self.journal = Journal(directory)
        self.buys = buys
        if way == "authorization":
            self.node.wei = 0  # for gas
            self.gateway.unpaid = lambda _: settling([ACCEPTS])

    async def buy(self) -> Bought[Any]:
        chain = msgspec.structs.replace(KNOWN_CHAINS["arbitrum"], rpc_urls=(self.node.url,))
        time = self.time
        async with Client(self.gateway.url, WALLET, clock=time, pause=time.pause) as client:
            payer = Payer(
                client,
                WALLET,
                chains={"arbitrum": chain},
                journal=self.journal,
                approve=lambda _: True,
                clock=time,
                pause=time.pause,
            )
            if self.buys == "deploy":
                return await payer.deploy(REQUEST)
            return await payer.top_up(MicroUsd(500_000))

    @property
    def shown(self) -> set[str]:
        """The hashes and nonces that were shown to the server."""
        return {*self.gateway.hashes, *(each["nonce"] for each in self.gateway.authorizations)}

    @property
    def signed(self) -> set[str]:
        """The hashes and nonces of all that was ever signed."""
        return {each.reference for each in self.journal.signed_since(0)}


@pytest.fixture(params=["transfer", "authorization"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["deploy", "top-up"])
def buys(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def purse(tmp_path: Path, way: str, buys: str) -> AsyncIterator[Purse]:
    found = Purse(tmp_path / "state", way=way, buys=buys)
    async with serving(found.gateway, found.node):
        yield found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_what_was_settled_once_is_paid_once_and_bought(
    purse: Purse, case: Response | CutShort
) -> None:
    purse.gateway.paid = [settles(purse.gateway, case)]
    bought = await purse.buy()
    assert bought.payment is not None
    assert purse.signed == purse.shown == {bought.payment.reference}
    assert bought.payment.state in (PaymentState.DEPLOYED, PaymentState.CREDITED)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_server_that_never_owns_up_is_paid_once_in_all_runs(
    purse: Purse, case: Response | CutShort
) -> None:
    purse.gateway.paid = [settles(purse.gateway, case)] * 10_000
    for later_ms in (0, 1_000, A_DAY_MS):
        purse.time.later_ms = later_ms
        with pytest.raises(errors.PaymentUncertain) as uncertain:
            await purse.buy()
        (reference,) = purse.signed
        assert reference in uncertain.value.message
        assert "Do not pay again" in uncertain.value.message
    purse.gateway.paid = []
    bought = await purse.buy()
    assert bought.payment is not None
    assert purse.signed == purse.shown == {bought.payment.reference}


@pytest.fixture
async def signs(tmp_path: Path) -> AsyncIterator[Purse]:
    """A wallet whose authorization was settled by a server that calls it unspent."""
    found = Purse(tmp_path / "state", way="authorization", buys="deploy")
    refusal = problem(402, "authorization_refused")
    found.gateway.paid = [answers(refusal)] * 1_000
    async with serving(found.gateway, found.node):
        with pytest.raises(errors.AuthorizationUnspent):
            await found.buy()
        yield found


async def test_authorization_that_the_token_carried_out_is_not_signed_anew_whatever_is_said(
    signs: Purse,
) -> None:
    signs.node.used_nonces = signs.shown
    signs.node.block_time = 2_000_000_000
    for later_ms in (A_DAY_MS, 30 * A_DAY_MS):
        signs.time.later_ms = later_ms
        with pytest.raises(errors.PaymentUncertain, match="Do not pay again"):
            await signs.buy()
    assert len(signs.signed) == 1


async def test_authorization_that_may_still_be_carried_out_is_not_signed_anew(
    signs: Purse,
) -> None:
    """By the chain's clock: a node that lags has not seen what was carried out at the last."""
    (signed,) = signs.journal.signed_since(0)
    signs.time.later_ms = A_DAY_MS
    signs.node.block_time = signed.valid_before - 1
    with pytest.raises(errors.PaymentUncertain):
        await signs.buy()
    signs.node.block_time = signed.valid_before
    with pytest.raises(errors.AuthorizationUnspent):
        await signs.buy()
    signs.gateway.paid = []
    await signs.buy()
    assert len(signs.signed) == 2


async def test_node_that_does_not_answer_proves_nothing(signs: Purse) -> None:
    signs.time.later_ms = A_DAY_MS
    signs.node.url += "/away"
    with pytest.raises(errors.PaymentUncertain):
        await signs.buy()
    assert len(signs.signed) == 1
