import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.chains.chain import KNOWN_CHAINS, Chain, Token
from moorage.chains.eip3009 import Eip712Domain, TransferAuthorization
from moorage.errors import (
    AuthorizationRefused,
    ChainUnavailable,
    InvalidField,
    MoorageError,
    PayerMismatch,
    PaymentMalformed,
    PaymentPending,
)
from moorage.money import atomic_units
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols import x402
from moorage.payments.taking.payment_required import extensions, resource
from moorage.wire.credits import TopUpBody
from moorage.wire.deploy import DeployBody

EXAMPLES = json.loads((Path(__file__).parents[2] / "vectors/x402_v2.json").read_text())
SIGNED = json.loads(base64.b64decode(EXAMPLES["payment_signature"]))
ARBITRUM, BASE = KNOWN_CHAINS["arbitrum"], KNOWN_CHAINS["base"]
URL = "https://api.example.com/deploy"
PAY_TO = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"


def required(**changed: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "resource": resource(URL, "Deploy my-app, 1 month", introduced=True),
        "options": [PaymentOption(ARBITRUM, ARBITRUM.tokens[0], atomic_units(10_000))],
        "pay_to": PAY_TO,
        "window_seconds": 600,
        "error": "Payment required",
        "extensions": extensions(URL, introduced=True),
    }
    header = x402.payment_required_header(**given | changed)
    decoded: dict[str, Any] = json.loads(base64.b64decode(header, validate=True))
    return decoded


def encode(payload: Any) -> str:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return base64.b64encode(raw).decode()


def altered(path: str, value: Any) -> str:
    payload = json.loads(json.dumps(SIGNED))
    *parents, last = path.split(".")
    inner = payload
    for name in parents:
        inner = inner[name]
    inner[last] = value
    return encode(payload)


def test_demand_is_the_specifications_example() -> None:
    example = json.loads(base64.b64decode(EXAMPLES["payment_required"]))
    usdc = Token(
        name="usdc",
        symbol="USDC",
        address="0x036CbD53842c5426634e7929541eC2318f3dCF7e",
        decimals=6,
        authorization=Eip712Domain(name="USDC", version="2"),
    )
    chain = Chain(name="base-sepolia", chain_id=84532, rpc_urls=(), tokens=(usdc,))
    made = required(
        resource=resource(
            example["resource"]["url"], example["resource"]["description"], introduced=False
        ),
        extensions={},
        options=[PaymentOption(chain, usdc, atomic_units(10_000))],
        pay_to=PAY_TO.lower(),
        window_seconds=60,
        error=example["error"],
    )
    extra = made["accepts"][0]["extra"]
    assert extra.pop("assetTransferMethod") == "eip3009"
    assert extra.pop("primaryType") == "TransferWithAuthorization"  # thirdweb's client asks for it
    assert made.pop("extensions") == {}
    assert made == example


@pytest.mark.parametrize("endpoint", ["deploy", "credits"])
def test_bazaar_says_how_to_call_the_endpoint_as_its_own_schema_has_it(endpoint: str) -> None:
    made = required(extensions=extensions(f"https://api.example.com/{endpoint}", introduced=True))
    bazaar = made["extensions"]["bazaar"]
    jsonschema.Draft202012Validator.check_schema(bazaar["schema"])
    jsonschema.validate(bazaar["info"], bazaar["schema"])
    body = {"deploy": DeployBody, "credits": TopUpBody}[endpoint]
    assert msgspec.convert(bazaar["info"]["input"]["body"], body, strict=False)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"input": {"type": "mcp"}}, bazaar["schema"])


@pytest.mark.parametrize("identifier", ["a" * 16, "pay_0-Z" + "9" * 121])
def test_payment_identifier_is_read_as_the_extension_has_it(identifier: str) -> None:
    declared = required()["extensions"]["payment-identifier"]
    jsonschema.validate(declared["info"] | {"id": identifier}, declared["schema"])
    extensions = {"payment-identifier": {"info": {"required": False, "id": identifier}}}
    assert x402.payment_identifier(altered("extensions", extensions)) == identifier


@pytest.mark.parametrize("identifier", ["a" * 15, "a" * 129, "a" * 15 + " ", "a" * 16 + "\n"])
def test_payment_identifier_of_another_form_is_malformed(identifier: str) -> None:
    extensions = {"payment-identifier": {"info": {"required": False, "id": identifier}}}
    with pytest.raises(PaymentMalformed, match="payment-identifier"):
        x402.payment_identifier(altered("extensions", extensions))


@pytest.mark.parametrize(
    "extensions", [{}, {"payment-identifier": {"info": {"required": False}}}, {"other": 1}, [1]]
)
def test_payment_without_identifier_has_none(extensions: Any) -> None:
    assert x402.payment_identifier(altered("extensions", extensions)) is None


def test_service_name_and_tags_are_within_the_extensions_bounds() -> None:
    described = required()["resource"]
    assert (described["serviceName"], described["mimeType"]) == ("Moorage", "application/json")
    assert len(described["serviceName"]) <= 32
    assert len(described["tags"]) <= 5
    assert all(len(tag) <= 32 for tag in described["tags"])


def test_offers_are_accepted_in_the_order_given() -> None:
    options = [PaymentOption(chain, chain.tokens[0], atomic_units(7)) for chain in (BASE, ARBITRUM)]
    accepts = required(options=options)["accepts"]
    assert [item["network"] for item in accepts] == ["eip155:8453", "eip155:42161"]
    assert {item["amount"] for item in accepts} == {"7"}


def test_token_without_eip_3009_is_not_offered() -> None:
    options = [PaymentOption(ARBITRUM, token, atomic_units(7)) for token in ARBITRUM.tokens]
    assets = [item["asset"] for item in required(options=options)["accepts"]]
    assert assets == ["0xaf88d065e77c8cC2239327C5EDb3A432268e5831"]


def test_error_may_be_any_text() -> None:
    assert required(error='"zu wenig" – \x00')["error"] == '"zu wenig" – \x00'


@pytest.mark.parametrize("window_seconds", [-1, 0, 601])
def test_window_is_of_one_second_to_ten_minutes(window_seconds: int) -> None:
    with pytest.raises(ValueError, match="600 s"):
        required(window_seconds=window_seconds)


def test_authorization_is_the_specifications_example() -> None:
    assert x402.parse_payment_signature(EXAMPLES["payment_signature"]) == TransferAuthorization(
        chain_id=84532,
        token_address="0x036cbd53842c5426634e7929541ec2318f3dcf7e",
        payer="0x857b06519e91e3a54538791bdbb0e22373e36b66",
        recipient="0x209693bc6afc0c5328ba36faf03c514ef312287c",
        value=atomic_units(10_000),
        valid_after=1_740_672_089,
        valid_before=1_740_672_154,
        nonce="0xf3746613c2d920b5fdabc0856f2aeb2d4f88ee6037b8cc5d04a71a4462f13480",
        signature=bytes.fromhex(SIGNED["payload"]["signature"][2:]),
    )


def test_resource_and_extensions_are_ignored() -> None:
    read = x402.parse_payment_signature(EXAMPLES["payment_signature"])
    for name in ("resource", "extensions"):
        assert x402.parse_payment_signature(altered(name, {"info": [1]})) == read


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("x402Version", 1),
        ("x402Version", "2"),
        ("accepted.scheme", "upto"),
        ("accepted.network", "base"),
        ("accepted.network", "eip155:0"),
        ("accepted.network", "eip155:08453"),
        ("accepted.network", "eip155:" + "9" * 17),
        ("accepted.network", "solana:mainnet"),
        ("accepted.asset", "usdc"),
        ("accepted.extra", {"assetTransferMethod": "permit2"}),
        ("accepted", None),
        ("payload.signature", "0x"),
        ("payload.signature", "0x" + "ab" * 4097),
        ("payload.authorization.from", "0x0"),
        ("payload.authorization.value", 10_000),
        ("payload.authorization.value", "1_0"),
        ("payload.authorization.validBefore", str(2**256)),
        ("payload.authorization.nonce", "0x" + "00" * 33),
        ("payload.authorization", []),
        ("payload", {}),
    ],
)
def test_misshapen_payment_is_malformed(path: str, value: Any) -> None:
    with pytest.raises(PaymentMalformed) as caught:
        x402.parse_payment_signature(altered(path, value))
    assert caught.value.field == "PAYMENT-SIGNATURE"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "e30",
        "e30=",
        "e30= ",
        "e3-_",
        encode([]),
        encode(b"\xff"),
        encode(b"[" * 12_000),
        encode(b'{"resource":' + b"[" * 11_000),
        "A" * (16 * 1024 + 4),
        EXAMPLES["payment_signature"] + "\n",
    ],
    ids=lambda header: header[:12],
)
def test_misshapen_header_is_malformed(header: str) -> None:
    with pytest.raises(PaymentMalformed):
        x402.parse_payment_signature(header)


@given(st.text(max_size=200) | st.binary(max_size=200).map(encode))
def test_any_header_is_malformed_or_read(header: str) -> None:
    with pytest.raises(PaymentMalformed):
        x402.parse_payment_signature(header)


PLACES = [
    "x402Version",
    "accepted",
    *(f"accepted.{name}" for name in SIGNED["accepted"]),
    "payload",
    "payload.signature",
    *(f"payload.authorization.{name}" for name in SIGNED["payload"]["authorization"]),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(st.sampled_from(PLACES), JSON)
def test_any_value_anywhere_is_malformed_or_read(path: str, value: Any) -> None:
    with contextlib.suppress(PaymentMalformed):
        read = x402.parse_payment_signature(altered(path, value))
        assert isinstance(read, TransferAuthorization)


def test_longest_signature_fits_the_header() -> None:
    read = x402.parse_payment_signature(altered("payload.signature", "0x" + "ab" * 4096))
    assert read == msgspec.structs.replace(
        x402.parse_payment_signature(EXAMPLES["payment_signature"]), signature=b"\xab" * 4096
    )


def test_settlement_is_the_specifications_example() -> None:
    example = json.loads(base64.b64decode(EXAMPLES["payment_response"]))
    header = x402.payment_response_header(
        tx_hash=example["transaction"],
        chain_id=84532,
        payer=example["payer"],
        amount=atomic_units(10_000),
    )
    made = json.loads(base64.b64decode(header, validate=True))
    assert made == {**example, "amount": "10000"}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PaymentPending(), "settlement_pending"),
        (AuthorizationRefused("exceeds balance", by_chain=True), "invalid_transaction_state"),
        (AuthorizationRefused("it is not valid yet"), "invalid_payload"),
        (PayerMismatch(), "invalid_payload"),
        (InvalidField("months", "must be a number"), "invalid_payload"),
        (ChainUnavailable(), "unexpected_settle_error"),
    ],
)
def test_failure_is_told_with_x402s_reasons(error: MoorageError, reason: str) -> None:
    signed = x402.parse_payment_signature(EXAMPLES["payment_signature"])
    header = x402.payment_failed_header(signed, error=error, tx_hash="")
    assert json.loads(base64.b64decode(header)) == {
        "success": False,
        "errorReason": reason,
        "transaction": "",
        "network": "eip155:84532",
        "payer": "0x857b06519e91e3a54538791bdbb0e22373e36b66",
    }
