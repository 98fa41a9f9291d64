"""Topping up by a page: exact transfers, and never a second payment for an unknown one."""

import re
from html import unescape
from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from page_asker import READER, WALLET, Asker
from rich_answers import TOKEN, TX, everything

from moorage.chains.eip3009 import Eip712Domain, TransferAuthorization, signer_of
from moorage.money import AtomicUnits
from moorage.pages.wallet.top_up import qr_code
from moorage.payments.protocols.x402 import parse_payment_signature
from moorage.wire.credits import ToppedUp
from moorage.wire.problems import PaymentState, PaymentTold, Problem
from support.gateway.discovery_facts import PAY_TO

MEANS = "arbitrum/usdc"


def refusal(state: PaymentState | None, status: int = 402) -> tuple[int, Problem]:
    told: PaymentTold | msgspec.UnsetType = msgspec.UNSET
    if state is not None:
        told = PaymentTold(
            tx=TX,
            chain="arbitrum",
            token="usdc",
            state=state,
            credited_usd=0,
            do_not_pay_again=True,
        )
    problem = Problem(error="So it is.", code="payment_pending", retryable=True, payment=told)
    return status, problem


def attribute(html: str, name: str) -> Any:
    found = re.search(rf'{name}="([^"]*)"', html)
    assert found is not None
    return msgspec.json.decode(unescape(found[1]))


async def ways(**answers: Any) -> str:
    asker = Asker(everything("words") | answers)
    return await asker.text("/wallet/top-up/pay", amount="10", means=MEANS)


async def test_transfer_is_exactly_what_the_gateway_asks_for() -> None:
    transaction = attribute(await ways(), "data-transaction")
    assert transaction["to"] == TOKEN
    word = f"{10_000_000:064x}"
    assert transaction["data"] == "0xa9059cbb" + PAY_TO[2:].lower().rjust(64, "0") + word
    html = await ways()
    assert "10.00" in html
    assert PAY_TO in html


async def test_phone_is_shown_the_same_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw(text: str) -> str:
        drawn.append(text)
        return ""

    monkeypatch.setattr("moorage.pages.wallet.top_up.qr_code", draw)
    await ways()
    assert drawn == [
        f"ethereum:{TOKEN}@42161/transfer?address={PAY_TO}&uint256=10000000"
    ]  # EIP-681


def test_code_for_a_phone_is_drawn_once() -> None:
    """Drawing one takes longer than all else that a page does."""
    assert qr_code("ethereum:0x1@1/transfer") is qr_code("ethereum:0x1@1/transfer")


async def test_signed_authorization_is_of_the_wallet_to_the_gateway_and_reaches_it() -> None:
    account = Account.create()
    typed = attribute(await ways(), "data-typed")
    assert (typed["message"]["from"], typed["message"]["to"]) == (WALLET, PAY_TO)
    typed["message"]["from"] = account.address
    signature = account.sign_message(encode_typed_data(full_message=typed)).signature.to_0x_hex()
    paid = ToppedUp(credited_usd=10, balance_usd=20, chain_id=42161, tx_hash=TX)
    asker = Asker(everything("words") | {"POST /credits": paid})
    response = await asker.post(
        "/wallet/top-up/signed",
        amount="10",
        means=MEANS,
        message=msgspec.json.encode(typed["message"]).decode(),
        signature=signature,
    )
    sent = parse_payment_signature(asker.api.headers[0]["payment-signature"])
    assert isinstance(sent, TransferAuthorization)
    assert sent.value == AtomicUnits(10_000_000)
    assert signer_of(sent, Eip712Domain("USD Coin", "2")) == account.address.lower()
    assert asker.api.bodies == [{"amount_usd": 10}]
    assert response.headers["location"] == f"/wallet/payments/{TX}?told=credited"


async def test_token_without_authorizations_is_paid_by_transfer_alone() -> None:
    asker = Asker(everything("words"))
    html = await asker.text("/wallet/top-up/pay", amount="10", means="arbitrum/usdt")
    assert "data-typed" not in html
    assert "data-transaction" in html


async def test_shown_transaction_is_sent_with_its_chain_and_answered_by_another_page() -> None:
    paid = ToppedUp(credited_usd=10, balance_usd=20, chain_id=8453, tx_hash=TX)
    asker = Asker(everything("words") | {"POST /credits": paid})
    response = await asker.post(
        "/wallet/top-up/sent", amount="10.5", means="base/usdt", transaction=f" {TX} "
    )
    sent = asker.api.headers[0]
    assert (sent["x-payment-tx"], sent["x-payment-chain"], sent["x-payment-token"]) == (
        TX,
        "base",
        "usdt",
    )
    assert asker.api.bodies == [{"amount_usd": 10.5}]
    assert response.status_code == 303


@pytest.mark.parametrize(
    ("state", "status"),
    [(PaymentState.PENDING, 402), (PaymentState.HELD, 402), (None, 503), (None, 429)],
)
async def test_payment_of_which_nobody_can_tell_is_not_to_be_repeated(
    state: PaymentState | None, status: int
) -> None:
    asker = Asker(everything("words") | {"POST /credits": refusal(state, status)})
    response = await asker.post("/wallet/top-up/sent", means=MEANS, transaction=TX)
    assert response.status_code == 303
    path, _, query = response.headers["location"].partition("?")
    html = await asker.text(path, **dict(each.split("=") for each in query.split("&")))
    assert "Do not pay again" in html


async def test_refused_amount_is_told_beside_its_field() -> None:
    problem = Problem(error="amount_usd: must be more", code="invalid_field", retryable=False)
    asker = Asker(everything("words") | {"POST /credits": (400, problem)})
    response = await asker.get("/wallet/top-up/pay", amount="<b>", means=MEANS)
    html = bytes(response.body).decode()
    assert response.status_code == 400
    assert "amount_usd: must be more" in html
    assert "<b>" not in html


async def test_reader_is_told_whom_to_ask() -> None:
    html = await Asker(everything("words"), READER).text(
        "/wallet/top-up/pay", amount="10", means=MEANS
    )
    assert "moorage topup 10" in html
    assert "data-transaction" not in html


async def test_watch_tells_only_of_payments_since_the_page_was_opened() -> None:
    asker = Asker(everything("words"))
    assert "$10.00 credited" in await asker.text("/wallet/top-up/watch", since="0")
    later = await asker.text("/wallet/top-up/watch", since="99999999999999")
    assert "Waiting for your payment" in later


async def test_page_that_is_opened_again_shows_what_was_paid_on_it_before() -> None:
    asker = Asker(everything("words"))
    first = await asker.text("/wallet/top-up")
    since = re.search(r'name="since" value="(\d+)"', first)
    assert since is not None
    asker.clock.advance(60_000)
    again = {"amount": "10", "means": MEANS, "since": since[1]}
    assert "$10.00 credited" in await asker.text("/wallet/top-up/pay", **again)
    anew = again | {"since": "99999999999999"}  # no address makes a page wait for the future
    assert "Waiting for your payment" in await asker.text("/wallet/top-up/pay", **anew)
