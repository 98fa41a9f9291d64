"""A 402 weighed: what is signed is never more than what the gateway said it costs."""

from typing import Any

import msgspec
import pytest

from moorage.chains.chain import KNOWN_CHAINS, Token
from moorage.chains.signing import ChainTransaction
from moorage.money import AtomicUnits
from moorage.sdk.errors import BalanceShort, QuoteInconsistent
from moorage.sdk.payment import (
    Offer,
    SendingTerms,
    money_text,
    read_offer,
    said_balance,
    unsigned_transfer,
    with_balance,
)
from moorage.sdk.transport import read_answer
from moorage.wire.problems import PaymentDemand
from moorage.wire.public import Balances
from support.clients.offers import PAY_TO, an_offer

WALLET = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
ARBITRUM = KNOWN_CHAINS["arbitrum"]
USDC = ARBITRUM.tokens[0]


def read(*, token: Token = USDC, **changes: Any) -> Offer:
    quote = {
        "amount_usd": 0.5,
        "amount_token": "500000",
        "pay_to": PAY_TO.lower(),
        "payment_chain": "arbitrum",
        "token": "usdc",
        "decimals": token.decimals,
    }
    demand = read_answer(msgspec.json.encode(quote | changes), PaymentDemand)
    return read_offer(demand, name="hello", months=1, chain=ARBITRUM, token=token, wallet=WALLET)


def test_price_is_reckoned_from_the_tokens_decimals() -> None:
    assert read() == an_offer(balance=AtomicUnits(0))


def test_offer_has_what_is_bought_and_every_warning() -> None:
    lost = {"code": "files_not_kept", "message": "Files under /app/data are lost."}
    offer = read(warning="2 projects share.", warnings=[lost], buys={"hours": 730, "until": "soon"})
    assert offer.warnings == ("2 projects share.", "Files under /app/data are lost.")
    assert offer.buys is not None
    assert (offer.buys.hours, offer.buys.until) == (730, "soon")
    assert read().warnings == ()


@pytest.mark.parametrize(
    ("decimals", "amount", "price"),
    [(6, "500000", 500_000), (18, "500000000000000000", 500_000), (18, "1", 1), (2, "50", 500_000)],
)
def test_price_follows_decimals_and_rounds_up(decimals: int, amount: str, price: int) -> None:
    token = msgspec.structs.replace(USDC, decimals=decimals)
    assert read(token=token, amount_token=amount).price == price


@pytest.mark.parametrize(
    ("amount_usd", "amount"), [(0.1, "100001"), (0.7, "700000"), (29, "29000000")]
)
def test_price_may_exceed_the_dollars_by_rounding_alone(amount_usd: float, amount: str) -> None:
    assert read(amount_usd=amount_usd, amount_token=amount).amount == int(amount)


@pytest.mark.parametrize("amount", ["500003", "5000000", "१००", "", "0", "9" * 5_000])
def test_more_tokens_than_the_dollars_named_are_refused(amount: str) -> None:
    with pytest.raises(QuoteInconsistent):
        read(amount_token=amount)


def test_balance_may_be_exactly_the_amount() -> None:
    assert with_balance(an_offer(), AtomicUnits(500_000)).balance == 500_000
    with pytest.raises(BalanceShort):
        with_balance(an_offer(), AtomicUnits(499_999))


@pytest.mark.parametrize("balance", ["-1", "1.5", "1e9", "", "९", "9" * 79, "9" * 5_000])
def test_balance_that_is_no_amount_is_told_as_the_gateways_error(balance: str) -> None:
    said = {"address": WALLET, "chain": "arbitrum", "chain_id": 42161}
    usdc = {"token": "usdc", "symbol": "USDC", "address": USDC.address, "decimals": 6}
    answer = said | {"balances": [usdc | {"balance": "1", "balance_raw": balance}]}
    with pytest.raises(QuoteInconsistent, match="balance of usdc"):
        said_balance(read_answer(msgspec.json.encode(answer), Balances), USDC)


def terms(**changes: Any) -> SendingTerms:
    usual = SendingTerms(
        nonce=7, gas=60_000, max_fee_per_gas=5, max_priority_fee_per_gas=None, wei=10**18
    )
    return usual._replace(**changes)


def test_transaction_is_the_transfer_and_nothing_else() -> None:
    assert unsigned_transfer(an_offer(), terms()) == ChainTransaction(
        chain_id=42161,
        nonce=7,
        recipient="0xaf88d065e77c8cc2239327c5edb3a432268e5831",
        data="0xa9059cbb"
        "0000000000000000000000007e5f4552091a69125d5dfcb7b8c2659029395bdf"
        "000000000000000000000000000000000000000000000000000000000007a120",
        gas_limit=78_000,
        max_fee_per_gas=5,
        max_priority_fee_per_gas=None,
    )


def test_gas_is_reckoned_at_its_ceiling() -> None:
    dear = terms(gas=100, max_fee_per_gas=7, max_priority_fee_per_gas=1)
    unsigned_transfer(an_offer(), dear._replace(wei=910))
    with pytest.raises(BalanceShort, match="gas"):
        unsigned_transfer(an_offer(), dear._replace(wei=909))


@pytest.mark.parametrize(
    ("amount", "decimals", "text"),
    [
        (500_000, 6, "0.50"),
        (1_000_000_000, 6, "1000.00"),
        (1, 6, "0.000001"),
        (123_400, 6, "0.1234"),
        (7, 0, "7"),
    ],
)
def test_money_shows_the_places_it_needs(amount: int, decimals: int, text: str) -> None:
    assert money_text(amount, decimals=decimals) == text
