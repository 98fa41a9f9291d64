from typing import Any

import msgspec
import pytest
from eth_utils.address import to_checksum_address

from moorage.chains.chain import KNOWN_CHAINS, Token
from moorage.clock import iso_utc
from moorage.errors import PaymentNotFound, PaymentShort
from moorage.money import AtomicUnits, MicroUsd
from moorage.payments.protocols.evidence import PaymentMeans
from moorage.payments.taking.payment_required import (
    Demand,
    Preference,
    Purchase,
    Seller,
    chain_body,
    demand_body,
    purchase,
)
from moorage.records.size import Size
from support.books.records_fixture import ALICE, ARBITRUM, USDC
from support.gateway.clock import START_MS

PAY_TO = "0x7EA5000000000000000000000000000000000000"
CHAINS = (KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"])
SELLER = Seller(pay_to=PAY_TO, chains=CHAINS, settles=lambda _chain, _token: False)
WARNING = (
    "You have 2 active project(s) sharing credits. Paying extends total runtime. "
    "To deploy using existing credits (will reduce other projects' runtime), "
    "retry with header X-Use-Existing-Credits: true"
)
PLAIN = {
    "error": "Payment required",
    "amount_usd": 0.5,
    "amount_token": "500000",
    "current_credit_balance_usd": 0,
    "active_projects": 0,
    "pay_to": PAY_TO,
    "payment_chain": "arbitrum",
    "token": "usdc",
    "decimals": 6,
    "supported_chains": [
        {"chain": "arbitrum", "chain_id": 42161, "tokens": ["usdc", "usdt"]},
        {"chain": "base", "chain_id": 8453, "tokens": ["usdc", "usdt"]},
    ],
    "token_address": "0xaf88d065e77c8cC2239327C5EDb3A432268e5831",
    "chain_id": 42161,
    "expires_at": START_MS // 1000,
    "pay_from": to_checksum_address(ALICE),
    "refunds": "Credits that you do not use stay in your wallet's balance, and go back to the "
    "wallet that paid, and to no other, when it asks: POST /agent/refunds/quote, or `moorage "
    "refund`. An exchange's address can't ask: pay from a wallet of your own.",
}
BY_TRANSFER = (
    "ransfer amount_token of USDC (0xaf88d065e77c8cC2239327C5EDb3A432268e5831) on arbitrum to "
    f"{PAY_TO}, from pay_from itself, not from an exchange"
)


def demand(**changed: Any) -> Demand:
    given: dict[str, Any] = {
        "amount": MicroUsd(500_000),
        "balance": MicroUsd(0),
        "active_projects": 0,
        "means": PaymentMeans(chain=ARBITRUM, token=USDC),
        "expires_at_ms": START_MS,
        "wallet": ALICE,
        "body_digest": "00" * 32,
    }
    return Demand(**given | changed)


def body(**changed: Any) -> dict[str, Any]:
    """The body without the ways to pay, which have tests of their own."""
    shown = demand_body(demand(**changed), SELLER)
    del shown["next_actions"]
    return shown


def ways(seller: Seller, **changed: Any) -> list[str]:
    found: list[str] = demand_body(demand(**changed), seller)["next_actions"]
    return found


def test_plain_demand_is_the_contracts_body() -> None:
    assert body() == PLAIN


def test_shared_credits_are_warned_of() -> None:
    shown = body(balance=MicroUsd(1_700_000), active_projects=2, warn_of_sharing=True)
    assert shown == PLAIN | {
        "current_credit_balance_usd": 1.7,
        "active_projects": 2,
        "warning": WARNING,
    }


def test_short_payment_says_what_came_and_asks_for_the_rest() -> None:
    shown = body(
        amount=MicroUsd(300_000),
        balance=MicroUsd(200_000),
        credited=MicroUsd(200_000),
        because=PaymentShort(),
    )
    assert shown == PLAIN | {
        "error": PaymentShort().message,
        "amount_usd": 0.3,
        "amount_token": "300000",
        "current_credit_balance_usd": 0.2,
        "credited_usd": 0.2,
    }


def test_payment_that_did_not_count_says_why() -> None:
    because = PaymentNotFound("It was reverted.", looked_for={"token": "usdc"})
    assert body(because=because) == PLAIN | {"error": "It was reverted."}


@pytest.mark.parametrize(
    ("decimals", "amount_token"),
    [(6, "500001"), (18, "500001000000000000"), (2, "51"), (0, "1")],
)
def test_amount_is_in_the_tokens_own_units_rounded_up(decimals: int, amount_token: str) -> None:
    token = Token(name="dai", symbol="DAI", address=USDC.address, decimals=decimals)
    chain = msgspec.structs.replace(KNOWN_CHAINS["base"], tokens=(token,))
    seller = msgspec.structs.replace(SELLER, chains=(chain,))
    shown = demand_body(
        demand(amount=MicroUsd(500_001), means=PaymentMeans(chain=chain, token=token)), seller
    )
    del shown["next_actions"], shown["supported_chains"]
    plain = {name: value for name, value in PLAIN.items() if name != "supported_chains"}
    assert shown == plain | {
        "amount_usd": 0.500001,
        "amount_token": amount_token,
        "payment_chain": "base",
        "chain_id": 8453,
        "token": "dai",
        "decimals": decimals,
    }


def test_a_plain_transfer_is_the_only_way_while_nothing_is_settled() -> None:
    (transfer,) = ways(SELLER)
    assert "T" + BY_TRANSFER in transfer


def test_every_way_to_pay_is_named_without_gas_first_and_sharing_last() -> None:
    settling = msgspec.structs.replace(SELLER, settles=lambda _chain, token: token.name == "usdc")
    gasless, transfer, sharing = ways(settling, warn_of_sharing=True)
    assert "without gas" in gasless
    assert "PAYMENT-REQUIRED" in gasless
    assert "Or t" + BY_TRANSFER in transfer
    assert "X-Use-Existing-Credits: true" in sharing


def test_terms_and_contact_are_those_of_the_operator() -> None:
    seller = msgspec.structs.replace(
        SELLER, terms_url="https://example.com/terms", contact="help@example.com"
    )
    shown = demand_body(demand(), seller)
    assert shown["terms"] == "https://example.com/terms"
    assert shown["contact"] == "help@example.com"
    assert "ask help@example.com" in shown["refunds"]


def test_body_says_what_the_price_buys() -> None:
    bought = purchase(
        MicroUsd(500_000),
        [MicroUsd(500_000)],
        now_ms=START_MS,
        size=Size(),
        sizes={"standard": MicroUsd(500_000), "large": MicroUsd(2_000_000)},
    )
    assert msgspec.to_builtins(body(buys=bought)) == PLAIN | {
        "buys": {
            "hours": 730,
            "until": iso_utc(START_MS + 730 * 3_600_000),
            "size": "standard",
            "sizes": {"standard": 0.5, "large": 2.0},
            "memory_mib": 512,
            "cpu_millis": 500,
            "disk_mib": 1024,
        }
    }


@pytest.mark.parametrize(
    ("left", "monthly", "hours"),
    [
        (1_000_000, [500_000, 500_000], 730),
        (499_999, [500_000], 729),
        (-5, [500_000], 0),
        (500_000, [], None),
        (500_000, [0], None),
    ],
)
def test_hours_that_a_price_buys_are_rounded_down(
    left: int, monthly: list[int], hours: int | None
) -> None:
    bought = purchase(MicroUsd(left), [MicroUsd(each) for each in monthly], now_ms=START_MS)
    until_ms = None if hours is None else START_MS + hours * 3_600_000
    assert bought == Purchase(hours=hours, until_ms=until_ms, size=None)


def test_body_asks_where_the_wallet_holds_the_price() -> None:
    asked = demand(preference=Preference(held={("base", "usdt"): AtomicUnits(500_000)}))
    shown = demand_body(asked, SELLER)
    assert (shown["payment_chain"], shown["chain_id"], shown["token"]) == ("base", 8453, "usdt")
    assert shown["token_address"] == KNOWN_CHAINS["base"].tokens[1].address
    assert "USDT" in shown["next_actions"][0]


def test_body_names_the_contracts_chain_while_offers_begin_with_another() -> None:
    asked = demand()
    assert demand_body(asked, SELLER)["payment_chain"] == "arbitrum"
    assert SELLER.options(asked)[0].chain.name == "base"


def test_body_says_how_another_chain_is_asked_for() -> None:
    settling = msgspec.structs.replace(SELLER, settles=lambda _chain, _token: True)
    first = demand_body(demand(), settling)["next_actions"][0]
    assert "is on base; the header X-Payment-Chain names another: arbitrum, base" in first


@pytest.mark.parametrize(
    ("settles", "ways"), [(True, ["tx", "mpp", "x402"]), (False, ["tx", "mpp"])]
)
def test_a_chain_takes_x402_while_its_authorizations_are_settled(
    settles: bool, ways: list[str]
) -> None:
    seller = msgspec.structs.replace(SELLER, settles=lambda _chain, _token: settles)
    assert seller.protocols(KNOWN_CHAINS["base"]) == ways


def test_body_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(body())) == PLAIN


def test_chain_is_shown_with_its_tokens() -> None:
    assert chain_body(KNOWN_CHAINS["arbitrum-sepolia"]) == {
        "chain": "arbitrum-sepolia",
        "chain_id": 421614,
        "tokens": ["usdc"],
    }
