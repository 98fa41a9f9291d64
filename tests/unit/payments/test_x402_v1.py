"""Version 1 of x402, which names networks and puts its demand into the body."""

import base64
import json
from typing import Any

import msgspec
import pytest
from starlette.datastructures import Headers

from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import PaymentMalformed
from moorage.money import atomic_units
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols.evidence import (
    AuthorizationEvidence,
    PaymentWay,
    default_means,
    offered_payment,
)
from moorage.payments.protocols.x402 import demand_members_v1, payment_response_header_v1
from support.gateway.fakes import PAY_TO, authorizes

ARBITRUM, BASE = KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"]
CHAINS = {"arbitrum": ARBITRUM, "base": BASE}
WISH = authorizes().authorization
PAYMENT: dict[str, Any] = {
    "x402Version": 1,
    "scheme": "exact",
    "network": "base",
    "payload": {
        "signature": "0x" + WISH.signature.hex(),
        "authorization": {
            "from": WISH.payer,
            "to": WISH.recipient,
            "value": str(WISH.value),
            "validAfter": str(WISH.valid_after),
            "validBefore": str(WISH.valid_before),
            "nonce": WISH.nonce,
        },
    },
}


def members(*options: PaymentOption) -> Any:
    made = demand_members_v1(
        options,
        resource_url="https://api.example.com/deploy",
        purpose="Deploy my-app, 1 month",
        pay_to=PAY_TO.lower(),
        window_seconds=600,
    )
    return json.loads(msgspec.json.encode(made))


def offered(payment: object, **others: str) -> Any:
    shown = base64.b64encode(json.dumps(payment).encode()).decode()
    headers = Headers({"x-payment": shown} | others)
    return offered_payment(headers, default_means(CHAINS), CHAINS)


def test_demand_is_for_usdc_on_base_alone() -> None:
    options = [
        PaymentOption(chain, token, atomic_units(10_000))
        for chain in (ARBITRUM, BASE)
        for token in chain.tokens
    ]
    assert members(*options) == {
        "x402Version": 1,
        "accepts": [
            {
                "scheme": "exact",
                "network": "base",
                "maxAmountRequired": "10000",
                "resource": "https://api.example.com/deploy",
                "description": "Deploy my-app, 1 month",
                "mimeType": "application/json",
                "payTo": PAY_TO,
                "maxTimeoutSeconds": 600,
                "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
                "extra": {"name": "USD Coin", "version": "2"},
            }
        ],
    }
    assert members(*options[:2]) == {}


def test_payment_is_the_authorization_for_usdc_on_that_network() -> None:
    found = offered(PAYMENT)
    assert isinstance(found, AuthorizationEvidence)
    usdc = BASE.tokens[0]
    on_base = msgspec.structs.replace(WISH, chain_id=8453, token_address=usdc.key)
    assert (found.authorization, found.means.token, found.way) == (
        on_base,
        usdc,
        PaymentWay.X402_V1,
    )


@pytest.mark.parametrize(
    "changed",
    [
        *({"x402Version": 2}, {"x402Version": "1"}, {"scheme": "upto"}, {"payload": {}}),
        *({"network": "arbitrum"}, {"network": "eip155:8453"}, {"network": "base-sepolia"}),
        {"payload": PAYMENT["payload"] | {"signature": "0x"}},
    ],
)
def test_payment_of_another_form_or_network_is_malformed(changed: dict[str, Any]) -> None:
    with pytest.raises(PaymentMalformed) as refused:
        offered(PAYMENT | changed)
    assert refused.value.field == "X-PAYMENT"


@pytest.mark.parametrize("other", ["x-payment-tx", "payment-signature"])
def test_it_is_one_of_several_ways_to_pay(other: str) -> None:
    with pytest.raises(PaymentMalformed, match="one way to pay"):
        offered(PAYMENT, **{other: "0x" + "ab" * 32})


def test_receipt_names_the_network_as_the_demand_does() -> None:
    header = payment_response_header_v1(tx_hash="0x12", chain_id=8453, payer=WISH.payer)
    assert json.loads(base64.b64decode(header)) == {
        "success": True,
        "transaction": "0x12",
        "network": "base",
        "payer": WISH.payer,
    }
