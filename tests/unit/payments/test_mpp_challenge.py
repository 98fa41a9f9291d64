import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    MoorageError,
    PayerMismatch,
    PaymentMalformed,
    PaymentNotFound,
    PaymentPending,
    PaymentShort,
)
from moorage.money import atomic_units
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols import mpp
from moorage.payments.protocols.authorization import canonical_json, encode_base64url
from moorage.payments.protocols.mpp import challenge_id

IDS = json.loads((Path(__file__).parents[2] / "vectors/mpp_challenge_ids.json").read_text())
ARBITRUM = KNOWN_CHAINS["arbitrum"]
USDC, USDT = ARBITRUM.tokens
PAY_TO = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"  # EIP-55's first example, in lower case
WALLET = "0x" + "a1" * 20
BODY = b'{"hello": "world"}'
AUTHORIZATION, HASH = mpp.CredentialType.AUTHORIZATION, mpp.CredentialType.HASH


def make(**changed: Any) -> mpp.Challenge:
    given: dict[str, Any] = {
        "realm": "api.example.com",
        "option": PaymentOption(chain=ARBITRUM, token=USDC, amount=atomic_units(500_000)),
        "pay_to": PAY_TO,
        "expires_at_ms": 1_775_556_000_999,
        "body_digest": hashlib.sha256(BODY).hexdigest(),
        "wallet": WALLET,
        "credential_types": (AUTHORIZATION, HASH),
    }
    return mpp.make_challenge(b"secret", **given | changed)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("vector", IDS["challenges"], ids=lambda vector: vector["label"])
def test_id_is_that_of_the_shared_vectors(vector: dict[str, Any]) -> None:
    opaque = vector["opaque"]
    slots = (
        *(vector[name] for name in ("realm", "method", "intent")),
        encode_base64url(canonical_json(vector["request"])),
        *(vector[name] for name in ("expires", "digest")),
        "" if opaque is None else encode_base64url(canonical_json(opaque)),
    )
    assert challenge_id(IDS["secret"].encode(), slots) == vector["id"]


def test_challenge_is_as_the_drafts_write_it() -> None:
    made = make()
    assert (made.realm, made.method, made.intent) == ("api.example.com", "evm", "charge")
    assert decoded(made.request) == (
        b'{"amount":"500000","currency":"0xaf88d065e77c8cC2239327C5EDb3A432268e5831",'
        b'"methodDetails":{"chainId":42161,"credentialTypes":["authorization","hash"],'
        b'"decimals":6},"recipient":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}'
    )
    assert made.expires == "2026-04-07T10:00:00Z"
    assert made.digest == ""


def test_challenge_is_bound_to_wallet_and_body_in_opaque() -> None:
    """The body is RFC 9530's example, its digest written as base64url."""
    assert json.loads(decoded(make().opaque)) == {
        "body": "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE",
        "wallet": WALLET,
    }
    assert json.loads(decoded(make(wallet=None).opaque)) == {
        "body": "X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE"
    }


def test_what_it_is_for_and_the_quotes_id_are_in_the_request() -> None:
    made = make(purpose="Deploy my-app, 1 month", reference="d1f0")
    request = json.loads(decoded(made.request))
    assert request["description"] == "Deploy my-app, 1 month"
    assert request["externalId"] == "d1f0"
    assert canonical_json(request) == decoded(made.request)


def test_request_of_the_draft_is_encoded_alike() -> None:
    """The example of draft-httpauth-payment-00 §5.1.3, its members in any order."""
    request = {"recipient": "acct_123", "currency": "USD", "amount": "1000"}
    assert encode_base64url(canonical_json(request)) == (
        "eyJhbW91bnQiOiIxMDAwIiwiY3VycmVuY3kiOiJVU0QiLCJyZWNpcGllbnQiOiJhY2N0XzEyMyJ9"
    )


@given(
    st.recursive(
        st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none() | st.text("abz09 -_:."),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("azAZ09_"), inner),
    )
)
def test_canonical_json_of_our_values_is_compact_and_sorted(value: Any) -> None:
    expected = json.dumps(value, sort_keys=True, separators=(",", ":"))
    assert canonical_json(value).decode() == expected


@given(st.integers(min_value=1, max_value=2**256 - 1))
def test_request_is_canonical_whatever_the_amount(amount: int) -> None:
    request = decoded(make(option=PaymentOption(ARBITRUM, USDT, atomic_units(amount))).request)
    assert canonical_json(json.loads(request)) == request
    assert json.loads(request)["amount"] == str(amount)


def test_token_without_eip_3009_takes_hashes_alone() -> None:
    made = make(option=PaymentOption(ARBITRUM, USDT, atomic_units(1)), credential_types=(HASH,))
    assert json.loads(decoded(made.request))["methodDetails"]["credentialTypes"] == ["hash"]


def test_header_is_one_challenge_of_quoted_parameters() -> None:
    made = make()
    scheme, _, parameters = mpp.challenge_header(made).partition(" ")
    pairs = [pair.partition("=") for pair in parameters.split(", ")]
    assert scheme == "Payment"
    assert {name: value.strip('"') for name, _, value in pairs} == {
        "id": made.id,
        "realm": "api.example.com",
        "method": "evm",
        "intent": "charge",
        "request": made.request,
        "expires": "2026-04-07T10:00:00Z",
        "opaque": made.opaque,
    }
    assert len(mpp.challenge_header(made)) < 1024


@pytest.mark.parametrize(
    "changed",
    [
        {"realm": "api.example.org"},
        {"option": PaymentOption(ARBITRUM, USDC, atomic_units(500_001))},
        {"option": PaymentOption(ARBITRUM, USDT, atomic_units(500_000))},
        {"option": PaymentOption(KNOWN_CHAINS["base"], USDC, atomic_units(500_000))},
        {"pay_to": WALLET},
        {"expires_at_ms": 1_775_556_001_000},
        {"body_digest": "00" * 32},
        {"wallet": "0x" + "a2" * 20},
        {"credential_types": (HASH,)},
        {"purpose": "Credits"},
        {"reference": "d1f0"},
        {"wallet": None},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_id_binds_all_that_was_asked(changed: dict[str, Any]) -> None:
    assert make(**changed).id != make().id


def test_same_demand_has_the_same_id() -> None:
    assert make().id == make(expires_at_ms=1_775_556_000_000).id


def test_id_needs_the_secret() -> None:
    made = make()
    slots = (made.realm, "evm", "charge", made.request, made.expires, made.digest, made.opaque)
    assert challenge_id(b"secret", slots) == made.id
    assert challenge_id(b"secre", slots) != made.id


def test_receipt_is_as_the_draft_lists_it() -> None:
    """The fields of draft-evm-charge-00, Receipt Generation."""
    header = mpp.receipt_header(
        challenge_id="kM9xPqWvT2nJrHsY4aDfEb",
        tx_hash="0x" + "1a" * 32,
        chain_id=42161,
        timestamp_ms=1_775_556_000_042,
    )
    assert "=" not in header
    assert json.loads(decoded(header)) == {
        "method": "evm",
        "challengeId": "kM9xPqWvT2nJrHsY4aDfEb",
        "reference": "0x" + "1a" * 32,
        "status": "success",
        "timestamp": "2026-04-07T10:00:00.042Z",
        "chainId": 42161,
    }


def test_receipt_repeats_the_reference_of_its_challenge() -> None:
    header = mpp.receipt_header(
        challenge_id="k", tx_hash="0x1a", chain_id=1, timestamp_ms=0, reference="d1f0"
    )
    assert json.loads(decoded(header))["externalId"] == "d1f0"


def test_receipt_without_challenge_names_none() -> None:
    header = mpp.receipt_header(challenge_id=None, tx_hash="0x1a", chain_id=1, timestamp_ms=0)
    assert json.loads(decoded(header))["timestamp"] == "1970-01-01T00:00:00.000Z"
    assert "challengeId" not in json.loads(decoded(header))


@pytest.mark.parametrize(
    ("because", "slug"),
    [
        (None, "payment-required"),
        (PaymentMalformed("Authorization", "is no credential"), "malformed-credential"),
        (ChallengeInvalid(), "invalid-challenge"),
        (ChallengeExpired(), "payment-expired"),
        (AuthorizationRefused("no balance"), "verification-failed"),
        (PayerMismatch(), "verification-failed"),
        (PaymentNotFound("", looked_for={}), "verification-failed"),
        (PaymentShort(), "payment-insufficient"),
    ],
)
def test_refusal_has_the_drafts_problem_type(because: MoorageError | None, slug: str) -> None:
    kind = mpp.problem_type(because)
    assert kind.type == f"https://paymentauth.org/problems/{slug}"
    assert kind.title.lower() == slug.replace("-", " ")


def test_pending_payment_is_no_problem_of_the_drafts() -> None:
    assert mpp.problem_type(PaymentPending()).type == "about:blank"
