import contextlib
import hashlib
import re
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from moorage.auth.wallet import (
    MAX_SIGNATURE_BYTES,
    SignedHeaders,
    parse_signed_headers,
    personal_digest,
    recover_signer,
    signed_body_digest,
)
from moorage.errors import AuthError, AuthMissing, SignatureInvalid, TimestampExpired

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEYS = ["0x" + byte * 32 for byte in ("01", "7f", "fe")]
WALLET = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"  # Account.from_key("0x11…11")
NONCE = "0A1b2c3d-4e5F-4678-9abc-def012345678"
SIGNATURE = "0x" + "1a" * 64 + "1b"
GOOD = {"wallet": WALLET, "signature": SIGNATURE, "timestamp": "1775556000000", "nonce": NONCE}


def parse(**changed: str | None) -> SignedHeaders:
    headers: dict[str, Any] = {**GOOD, **changed}
    return parse_signed_headers(**headers)


def personal_sign(key: str, text: str) -> bytes:
    return bytes(Account.sign_message(encode_defunct(text=text), key).signature)


def r_s_v(signature: bytes) -> tuple[int, int, int]:
    return int.from_bytes(signature[:32]), int.from_bytes(signature[32:64]), signature[64]


def packed(r: int, s: int, v: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32) + bytes([v])


def test_message_is_the_headers_byte_for_byte() -> None:
    parsed = parse()

    assert parsed.message == f"{WALLET}:1775556000000:{NONCE}".encode()
    assert parsed.timestamp_ms == 1775556000000
    assert parsed.signature == bytes.fromhex("1a" * 64 + "1b")


def test_wallet_and_nonce_have_one_spelling() -> None:
    shouted = parse(wallet="0X" + WALLET[2:].upper(), nonce=NONCE.upper())

    assert shouted.wallet == parse(wallet=WALLET.lower()).wallet == WALLET.lower()
    assert shouted.nonce == parse().nonce == NONCE.lower()


def test_signature_is_read_with_and_without_its_prefix() -> None:
    assert parse(signature=SIGNATURE[2:]) == parse()
    assert parse(signature=SIGNATURE.upper()) == parse()


@pytest.mark.parametrize("header", list(GOOD))
@pytest.mark.parametrize("absent", [None, ""])
def test_absent_header_is_auth_missing(header: str, absent: str | None) -> None:
    with pytest.raises(AuthMissing):
        parse(**{header: absent})


@pytest.mark.parametrize(
    "timestamp",
    [
        "-1",
        "+1775556000000",
        "1775556000000.0",
        "1e12",
        " 1775556000000",
        "1775556000000\n",
        "1_775_556_000_000",
        "0x19d",
        "١٧٧٥",
        "1" * 16,
        "9" * 5000,
        "abc",
    ],
)
def test_timestamp_that_is_no_decimal_number_is_timestamp_expired(timestamp: str) -> None:
    with pytest.raises(TimestampExpired):
        parse(timestamp=timestamp)


@pytest.mark.parametrize(
    "nonce",
    [
        NONCE.replace("-", ""),
        "{" + NONCE + "}",
        "urn:uuid:" + NONCE,
        NONCE + " ",
        NONCE + "\n",
        NONCE[:-1],
        NONCE + "0",
        "0A1b2c3d4-e5F-4678-9abc-def012345678",
        "g" + NONCE[1:],
        "é",
    ],
)
def test_nonce_that_is_no_uuid_is_signature_invalid(nonce: str) -> None:
    with pytest.raises(SignatureInvalid, match="X-Nonce"):
        parse(nonce=nonce)


@pytest.mark.parametrize(
    "signature",
    [
        "0x",
        "zz" * 65,
        SIGNATURE[:-1],
        "0x" + "00" * (MAX_SIGNATURE_BYTES + 1),
        "0x0x" + SIGNATURE[2:],
        "0x" + " 1a" * 43 + "1",
        "１" * 130,
        SIGNATURE + "\n",
        "é" * 130,
    ],
)
def test_signature_that_is_no_bytes_in_hex_is_signature_invalid(signature: str) -> None:
    with pytest.raises(SignatureInvalid, match="X-Signature"):
        parse(signature=signature)


@pytest.mark.parametrize("length", [1, 64, 66, MAX_SIGNATURE_BYTES])
def test_contract_wallets_may_sign_at_other_lengths_and_keys_may_not(length: int) -> None:
    parsed = parse(signature="0x" + "1b" * length)

    assert parsed.signature == b"\x1b" * length
    with pytest.raises(SignatureInvalid):
        recover_signer(personal_digest(parsed.message), parsed.signature)


SHA_256_OF_HELLO = "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
"""By `printf hello | openssl dgst -sha256 -binary | base64`."""


@pytest.mark.parametrize(
    "header",
    [
        f"sha-256=:{SHA_256_OF_HELLO}:",
        f"sha-512=:AAAA:, sha-256=:{SHA_256_OF_HELLO}:",
        f"sha-256=:{SHA_256_OF_HELLO}:,\tmd5=:AAAA:",
    ],
)
def test_content_digest_names_the_bodys_sha_256(header: str) -> None:
    assert signed_body_digest(header).hex() == (
        "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    )


def test_without_content_digest_there_is_no_body() -> None:
    assert signed_body_digest(None) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(
    "header",
    [
        "",
        SHA_256_OF_HELLO,
        f"sha-256={SHA_256_OF_HELLO}",
        f"SHA-256=:{SHA_256_OF_HELLO}:",
        f"sha-256=:{SHA_256_OF_HELLO[:-1]}:",
        f"sha-256=:{SHA_256_OF_HELLO.replace('+', '-')}:",
        f"sha-256=:{SHA_256_OF_HELLO}:\n",
        f"sha-512=:{SHA_256_OF_HELLO}:",
        ", ".join([f"sha-256=:{SHA_256_OF_HELLO}:"] * 2),
    ],
)
def test_content_digest_that_names_no_sha_256_or_two_is_signature_invalid(header: str) -> None:
    with pytest.raises(SignatureInvalid, match="Content-Digest"):
        signed_body_digest(header)


@pytest.mark.parametrize(
    "wallet", [WALLET[2:], WALLET[:-1], WALLET + "0", "0x" + "g" * 40, WALLET + "\n", "vitalik.eth"]
)
def test_wallet_that_is_no_address_is_signature_invalid(wallet: str) -> None:
    with pytest.raises(SignatureInvalid, match="X-Wallet-Address"):
        parse(wallet=wallet)


HEADER_TEXT = st.one_of(
    st.none(),
    st.text(max_size=200),
    st.from_regex(r"(0x)?[0-9a-fA-F]{0,140}"),
    st.sampled_from(list(GOOD.values())),
)


@given(HEADER_TEXT, HEADER_TEXT, HEADER_TEXT, HEADER_TEXT)
def test_any_headers_parse_or_are_an_auth_error(
    wallet: str | None, signature: str | None, timestamp: str | None, nonce: str | None
) -> None:
    try:
        parsed = parse(wallet=wallet, signature=signature, timestamp=timestamp, nonce=nonce)
    except AuthError:
        return
    assert re.fullmatch(r"0x[0-9a-f]{40}", parsed.wallet)
    assert len(parsed.signature) == 65


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["", "0xAbC:1:2", "é☃" * 40])
def test_signer_is_recovered_as_other_implementations_signed(key: str, text: str) -> None:
    signer = recover_signer(personal_digest(text.encode()), personal_sign(key, text))

    assert signer == Account.from_key(key).address.lower()


def test_signer_of_a_fixed_vector() -> None:
    """The signature that the documentation of web3.js gives for accounts.sign("Some data")."""
    signature = bytes.fromhex(
        "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd"
        "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029"
        "1c"
    )
    assert (
        recover_signer(personal_digest(b"Some data"), signature)
        == "0x2c7536e3605d9c16a7a3d7b1898e529396a65c23"
    )


def test_recovery_id_is_read_in_both_usual_forms() -> None:
    signed = [personal_sign(KEYS[0], str(number)) for number in range(8)]
    assert {signature[64] for signature in signed} == {27, 28}
    for number, signature in enumerate(signed):
        bare = signature[:64] + bytes([signature[64] - 27])
        message = str(number).encode()
        assert recover_signer(personal_digest(message), bare) == recover_signer(
            personal_digest(message), signature
        )


@pytest.mark.parametrize("v", [2, 3, 4, 26, 29, 30, 31, 32, 35, 37, 128, 255])
def test_other_recovery_ids_are_refused(v: int) -> None:
    with pytest.raises(SignatureInvalid):
        recover_signer(personal_digest(b"m"), personal_sign(KEYS[0], "m")[:64] + bytes([v]))


def test_malleable_twin_of_a_signature_is_refused() -> None:
    r, s, v = r_s_v(personal_sign(KEYS[0], "m"))
    twin = packed(r, ORDER - s, 55 - v)
    # A valid signature of the same key all the same, which is why it has to be refused.
    assert Account.recover_message(encode_defunct(text="m"), signature=twin)

    with pytest.raises(SignatureInvalid):
        recover_signer(personal_digest(b"m"), twin)


def test_largest_low_s_is_still_accepted_and_the_next_refused() -> None:
    r, _, v = r_s_v(personal_sign(KEYS[0], "m"))
    recover_signer(personal_digest(b"m"), packed(r, ORDER // 2, v))
    with pytest.raises(SignatureInvalid):
        recover_signer(personal_digest(b"m"), packed(r, ORDER // 2 + 1, v))


@pytest.mark.parametrize("r", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_r_out_of_range_is_refused(r: int) -> None:
    _, s, v = r_s_v(personal_sign(KEYS[0], "m"))
    with pytest.raises(SignatureInvalid):
        recover_signer(personal_digest(b"m"), packed(r, s, v))


@pytest.mark.parametrize("s", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_s_out_of_range_is_refused(s: int) -> None:
    r, _, v = r_s_v(personal_sign(KEYS[0], "m"))
    with pytest.raises(SignatureInvalid):
        recover_signer(personal_digest(b"m"), packed(r, s, v))


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_recover_or_are_signature_invalid(message: bytes, signature: bytes) -> None:
    with contextlib.suppress(SignatureInvalid):
        assert re.fullmatch(r"0x[0-9a-f]{40}", recover_signer(personal_digest(message), signature))


@given(st.binary(min_size=64, max_size=64), st.sampled_from([0, 1, 27, 28]))
def test_any_65_bytes_recover_or_are_signature_invalid(r_and_s: bytes, v: int) -> None:
    with contextlib.suppress(SignatureInvalid):
        recover_signer(personal_digest(b"m"), r_and_s[:32] + b"\x00" + r_and_s[33:] + bytes([v]))
