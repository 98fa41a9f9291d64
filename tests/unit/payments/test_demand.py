from typing import Any

import msgspec
import pytest

from clock import START_MS
from moorage.chains.chain import KNOWN_CHAINS, Token
from moorage.errors import PaymentNotFound, PaymentShort
from moorage.money import MicroUsd
from moorage.payments.protocols.demand import PaymentRequired, chain_body, demand_body
from moorage.payments.protocols.evidence import PaymentMeans
from records_fixture import ALICE, ARBITRUM, USDC

PAY_TO = "0x7EA5000000000000000000000000000000000000"
CHAINS = [KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"]]
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
}


def demand(**changed: Any) -> PaymentRequired:
    given: dict[str, Any] = {
        "amount": MicroUsd(500_000),
        "balance": MicroUsd(0),
        "active_projects": 0,
        "means": PaymentMeans(chain=ARBITRUM, token=USDC),
        "expires_at_ms": START_MS,
        "wallet": ALICE,
        "body_digest": "00" * 32,
    }
    return PaymentRequired(**given | changed)


def body(**changed: Any) -> dict[str, Any]:
    return demand_body(demand(**changed), pay_to=PAY_TO, chains=CHAINS)


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
    shown = body(
        amount=MicroUsd(500_001), means=PaymentMeans(chain=KNOWN_CHAINS["base"], token=token)
    )
    assert shown == PLAIN | {
        "amount_usd": 0.500001,
        "amount_token": amount_token,
        "payment_chain": "base",
        "chain_id": 8453,
        "token": "dai",
        "decimals": decimals,
    }


def test_body_is_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(body())) == PLAIN


def test_chain_is_shown_with_its_tokens() -> None:
    assert chain_body(KNOWN_CHAINS["arbitrum-sepolia"]) == {
        "chain": "arbitrum-sepolia",
        "chain_id": 421614,
        "tokens": ["usdc"],
    }
