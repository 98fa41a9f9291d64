import base64
import hashlib
import json
from typing import Any

import msgspec
import pytest
from eth_utils.crypto import keccak
from hypothesis import example, given
from hypothesis import strategies as st

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.eip3009 import TransferAuthorization
from moorage.errors import (
    AuthorizationRefused,
    ChallengeExpired,
    ChallengeInvalid,
    PayerMismatch,
    PaymentError,
    PaymentMalformed,
)
from moorage.money import atomic_units
from moorage.payments.price.quotes import PaymentOption
from moorage.payments.protocols import mpp

ARBITRUM = KNOWN_CHAINS["arbitrum"]
USDC, USDT = ARBITRUM.tokens
SECRET = b"a secret of the gateway"
REALM = "api.example.com"
PAY_TO, WALLET, OTHER = ("0x" + digits * 20 for digits in ("b2", "a1", "c3"))
TX_HASH = "0x" + "1a" * 32
BODY, OTHER_BODY = (hashlib.sha256(body).hexdigest() for body in (b"body", b"other"))
EXPIRES_MS = 1_775_556_000_000
BOTH = tuple(mpp.CredentialType)


def challenge(**changed: Any) -> mpp.Challenge:
    given: dict[str, Any] = {
        "realm": REALM,
        "option": PaymentOption(chain=ARBITRUM, token=USDC, amount=atomic_units(500_000)),
        "pay_to": PAY_TO,
        "expires_at_ms": EXPIRES_MS,
        "body_digest": BODY,
        "wallet": WALLET,
        "credential_types": BOTH,
    }
    return mpp.make_challenge(SECRET, **given | changed)


def spec_nonce(of: mpp.Challenge) -> str:
    """draft-evm-charge-00, Challenge Binding: keccak256(abi.encodePacked(id, realm))."""
    return "0x" + keccak(text=of.id + of.realm).hex()


def authorization(of: mpp.Challenge, **changed: Any) -> dict[str, str]:
    return {
        "type": "authorization",
        "from": WALLET,
        "to": PAY_TO,
        "value": "500000",
        "validAfter": "0",
        "validBefore": str(EXPIRES_MS // 1000),
        "nonce": spec_nonce(of),
        "signature": "0x" + "5e" * 65,
        **changed,
    }


HASHED = {"type": "hash", "hash": TX_HASH}


def encode(credential: Any) -> str:
    raw = credential if isinstance(credential, bytes) else json.dumps(credential).encode()
    return "Payment " + base64.urlsafe_b64encode(raw).decode().rstrip("=")


def answer(of: mpp.Challenge, payload: Any, **changed: Any) -> str:
    return encode({"challenge": {**msgspec.to_builtins(of), **changed}, "payload": payload})


def check(header: str, **changed: Any) -> None:
    given: dict[str, Any] = {
        "secret": SECRET,
        "realm": REALM,
        "now_ms": EXPIRES_MS - 1,
        "body_digest": BODY,
        "wallet": WALLET,
    }
    mpp.check_credential(mpp.parse_credential(header), **given | changed)


def test_authorization_is_read_as_it_was_signed() -> None:
    asked = challenge()
    read = mpp.parse_credential(answer(asked, authorization(asked)))
    assert read.challenge == asked
    assert read.payload == TransferAuthorization(
        chain_id=42161,
        token_address=USDC.address.lower(),
        payer=WALLET,
        recipient=PAY_TO,
        value=atomic_units(500_000),
        valid_after=0,
        valid_before=1_775_556_000,
        nonce=spec_nonce(asked),
        signature=b"\x5e" * 65,
    )


def test_hash_is_read_in_one_spelling() -> None:
    header = answer(challenge(), {"type": "hash", "hash": "0X" + "1A" * 32})
    assert mpp.parse_credential(header).payload == mpp.HashPayload(TX_HASH)


def test_what_the_draft_does_not_know_is_ignored() -> None:
    asked = challenge()
    extended = {
        "challenge": {**msgspec.to_builtins(asked), "description": "a deploy", "header": "X"},
        "payload": {**authorization(asked), "memo": {"deep": [1, 2]}},
        "source": f"did:pkh:eip155:42161:{OTHER}",
        "version": 2,
    }
    assert mpp.parse_credential(encode(extended)) == mpp.parse_credential(
        answer(asked, authorization(asked))
    )


@pytest.mark.parametrize("scheme", ["Payment ", "payment ", "PAYMENT  "])
def test_scheme_is_told_in_any_letter_case(scheme: str) -> None:
    check(scheme + answer(challenge(), HASHED).removeprefix("Payment "))


def test_contract_wallets_signature_passes_up_to_its_limit() -> None:
    asked = challenge()
    longest = authorization(asked, signature="0x" + "5e" * 4096)
    check(answer(asked, longest))
    assert len(answer(asked, longest)) < 16 * 1024
    with pytest.raises(PaymentMalformed):
        check(answer(asked, authorization(asked, signature="0x" + "5e" * 4097)))


@pytest.mark.parametrize(
    "changed",
    [
        {"from": WALLET + "00"},
        {"from": "a1" * 20},
        {"to": ""},
        {"value": "0x1"},
        {"value": "1e6"},
        {"value": "-1"},
        {"value": " 1"},
        {"value": "1\n"},
        {"value": "٣"},
        {"value": ""},
        {"value": 500_000},
        {"value": str(2**256)},
        {"validAfter": "0.5"},
        {"validBefore": "9" * 79},
        {"nonce": "0x" + "5c" * 31},
        {"nonce": None},
        {"signature": "0x"},
        {"signature": "5e" * 65},
        {"signature": "0x5"},
        {"type": "permit2"},
        {"type": "transaction"},
        {"type": None},
    ],
    ids=str,
)
def test_misshapen_authorization_is_malformed(changed: dict[str, Any]) -> None:
    asked = challenge()
    with pytest.raises(PaymentMalformed) as caught:
        mpp.parse_credential(answer(asked, authorization(asked, **changed)))
    assert caught.value.field == "Authorization"


@pytest.mark.parametrize("spelled", ["", "0x", TX_HASH + "00", TX_HASH[:-1], "0x" + "zz" * 32, 7])
def test_misshapen_hash_is_malformed(spelled: Any) -> None:
    with pytest.raises(PaymentMalformed):
        mpp.parse_credential(answer(challenge(), {"type": "hash", "hash": spelled}))


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "tempo"},
        {"intent": "session"},
        {"request": ""},
        {"request": "e30"},  # {}
        {"request": "!"},
        {"id": None},
        {"realm": 1},
    ],
    ids=str,
)
def test_misshapen_challenge_is_malformed(changed: dict[str, Any]) -> None:
    with pytest.raises(PaymentMalformed):
        mpp.parse_credential(answer(challenge(), HASHED, **changed))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Payment",
        "Payment ",
        "Bearer abc",
        "Payments " + "e30",
        "Payment e30, Bearer abc",
        "Payment e30=",
        "Payment e3+0",
        "Payment e",
        "Payment e3 0",
        encode([]),
        encode({}),
        encode(b"\xff\xfe"),
        encode(b'{"challenge":'),
        encode(b"[" * 12_000),
        encode(b'{"more":' + b"[" * 11_000),
        encode(b'{"challenge":{"id":"\\ud800"'),
        "Payment " + "A" * (16 * 1024),
    ],
    ids=lambda header: header[:20],
)
def test_misshapen_header_is_malformed(header: str) -> None:
    with pytest.raises(PaymentMalformed):
        mpp.parse_credential(header)


@pytest.mark.parametrize(
    ("written", "instead"),
    [("Payment ", "Payload "), ("Payment ", "Bearer  "), ("Payment ", "Payment\t")],
)
def test_other_scheme_is_malformed(written: str, instead: str) -> None:
    with pytest.raises(PaymentMalformed):
        mpp.parse_credential(answer(challenge(), HASHED).replace(written, instead))


@pytest.mark.parametrize("stray", ["=", "!", ".", "\n", ",", " e30"])
def test_stray_character_in_base64url_is_malformed(stray: str) -> None:
    header = answer(challenge(), HASHED)
    for spoilt in (header + stray, header[:40] + stray + header[40:]):
        with pytest.raises(PaymentMalformed):
            mpp.parse_credential(spoilt)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
CHALLENGE = msgspec.to_builtins(challenge())
PLACES = [
    *((part, name) for part in ("challenge",) for name in CHALLENGE),
    *(("payload", name) for name in authorization(challenge())),
]


@given(st.text(max_size=200) | st.binary(max_size=200).map(encode) | JSON.map(encode))
@example("Payment \x00")
@example("Payment ٣٣٣٣")
def test_any_header_is_malformed_or_read(header: str) -> None:
    with pytest.raises(PaymentMalformed):
        mpp.parse_credential(header)


@given(st.sampled_from(PLACES), JSON | st.text())
def test_any_value_anywhere_is_malformed_refused_or_harmless(
    place: tuple[str, str], value: Any
) -> None:
    asked = challenge()
    written: dict[str, Any] = {
        "challenge": msgspec.to_builtins(asked),
        "payload": authorization(asked),
    }
    part, name = place
    written[part][name] = value
    try:
        check(encode(written))
    except (PaymentMalformed, PaymentError):
        return
    assert name in {"validAfter", "validBefore", "signature"} or value == authorization(asked).get(
        name, CHALLENGE.get(name)
    )


@pytest.mark.parametrize("payload", ["authorization", "hash"])
def test_credential_for_this_wallet_and_body_passes(payload: str) -> None:
    asked = challenge()
    check(answer(asked, authorization(asked) if payload == "authorization" else HASHED))


@pytest.mark.parametrize("payload", ["authorization", "hash"])
@pytest.mark.parametrize("name", ["id", "realm", "request", "expires", "digest", "opaque"])
def test_altered_challenge_is_not_ours(name: str, payload: str) -> None:
    asked = challenge()
    other = challenge(
        realm="api.example.org",
        option=PaymentOption(ARBITRUM, USDC, atomic_units(1)),
        expires_at_ms=EXPIRES_MS + 60_000,
        body_digest=OTHER_BODY,
        wallet=OTHER,
    )
    changed = {name: getattr(other, name) or "changed"}
    payloads = {"authorization": authorization(asked), "hash": HASHED}
    with pytest.raises(ChallengeInvalid):
        check(answer(asked, payloads[payload], **changed))


@pytest.mark.parametrize("wallet", [WALLET, OTHER])
def test_challenge_to_no_wallet_is_answered_by_whoever_signs(wallet: str) -> None:
    asked = challenge(wallet=None)
    check(answer(asked, authorization(asked, **{"from": wallet})), wallet=wallet)


def test_challenge_to_no_wallet_is_bound_to_its_body_and_to_who_signs() -> None:
    asked = challenge(wallet=None)
    with pytest.raises(ChallengeInvalid):
        check(answer(asked, authorization(asked)), body_digest=OTHER_BODY)
    with pytest.raises(PayerMismatch):
        check(answer(asked, authorization(asked)), wallet=OTHER)


def test_reference_of_the_challenge_is_read_for_the_receipt() -> None:
    asked = challenge(reference="d1f0")
    assert mpp.parse_credential(answer(asked, HASHED)).request.reference == "d1f0"


def test_challenge_of_another_gateway_is_not_ours() -> None:
    asked = challenge()
    with pytest.raises(ChallengeInvalid):
        check(answer(asked, authorization(asked)), secret=b"another secret")
    elsewhere = challenge(realm="api.example.org")
    with pytest.raises(ChallengeInvalid):
        check(answer(elsewhere, authorization(elsewhere)))


@pytest.mark.parametrize("payload", ["authorization", "hash"])
def test_challenge_put_to_another_wallet_is_refused(payload: str) -> None:
    asked = challenge()
    with pytest.raises(PayerMismatch, match="Nothing was spent"):
        check(
            answer(asked, authorization(asked) if payload == "authorization" else HASHED),
            wallet=OTHER,
        )


def test_authorization_by_another_wallet_is_refused() -> None:
    asked = challenge()
    with pytest.raises(PayerMismatch, match="Nothing was spent"):
        check(answer(asked, authorization(asked, **{"from": OTHER})))


def test_wallet_is_the_same_in_any_letter_case() -> None:
    asked = challenge()
    check(answer(asked, authorization(asked, **{"from": "0x" + "A1" * 20, "to": "0x" + "B2" * 20})))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"to": OTHER}, "recipient"),
        ({"value": "499999"}, "amount"),
        ({"value": "500001"}, "amount"),
        ({"nonce": "0x" + "00" * 32}, "hash"),
    ],
)
def test_authorization_of_something_else_is_refused(changed: dict[str, str], why: str) -> None:
    asked = challenge()
    with pytest.raises(AuthorizationRefused) as caught:
        check(answer(asked, authorization(asked, **changed)))
    assert why in caught.value.why


def test_authorization_is_refused_where_hashes_alone_are_taken() -> None:
    asked = challenge(
        option=PaymentOption(ARBITRUM, USDT, atomic_units(500_000)),
        credential_types=(mpp.CredentialType.HASH,),
    )
    with pytest.raises(AuthorizationRefused):
        check(answer(asked, authorization(asked)))


def test_authorization_for_another_body_is_refused() -> None:
    asked = challenge()
    with pytest.raises(ChallengeInvalid):
        check(answer(asked, authorization(asked)), body_digest=OTHER_BODY)


def test_authorization_expires_with_its_challenge() -> None:
    asked = challenge()
    check(answer(asked, authorization(asked)), now_ms=EXPIRES_MS - 1)
    with pytest.raises(ChallengeExpired):
        check(answer(asked, authorization(asked)), now_ms=EXPIRES_MS)


def test_expiry_is_told_only_of_what_is_well_otherwise() -> None:
    """Who is told so may look whether that very authorization was settled before."""
    asked = challenge()
    with pytest.raises(AuthorizationRefused):
        check(answer(asked, authorization(asked, value="1")), now_ms=EXPIRES_MS)


def test_hash_is_taken_late_and_with_another_body() -> None:
    """Its money has moved: to refuse it would ask its payer to pay again."""
    check(answer(challenge(), HASHED), now_ms=EXPIRES_MS + 86_400_000, body_digest=OTHER_BODY)


def test_both_known_nonces_are_taken() -> None:
    """The draft's, and pympp 0.16's: keccak256(JSON.stringify([id, realm]))."""
    asked = challenge()
    of_array = "0x" + keccak(text=f'["{asked.id}","{asked.realm}"]').hex()
    assert mpp.authorization_nonces(asked) == (spec_nonce(asked), of_array)
    check(answer(asked, authorization(asked, nonce=of_array)))
