"""What is taken for a payment's hash where none is read, and what never is."""

from typing import Any

import pytest

from moorage.unknown_keys import MisplacedHash, misplaced_hash
from moorage.uploads.request import hash_in

DIGITS = "Ab" * 32
HASH = f"0x{DIGITS}"
FOUND = HASH.lower()
BODY = {"uniqueName": "hello-agent", "displayName": "Hello"}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"tx_hash": HASH}, "tx_hash"),
        ({"tx_hash": DIGITS}, "tx_hash"),
        ({"payment": {"tx": HASH}}, "payment.tx"),
        ({"payment_tx": f" {HASH} "}, "payment_tx"),
        ({"payments": [{"hash": HASH}]}, "payments.hash"),
        ({"paymentTx": "0X" + DIGITS}, "paymentTx"),
        ({"proof": HASH}, "proof"),
        ({"note": HASH}, "note"),
    ],
)
def test_32_bytes_of_hex_are_taken_for_a_payments_hash(values: dict[str, Any], field: str) -> None:
    assert misplaced_hash(values) == MisplacedHash(field, FOUND)


@pytest.mark.parametrize(
    "name",
    [
        *("Idempotency-Key", "idempotencyKey", "Content-Digest", "sha256", "checksum", "ETag"),
        *("X-Hub-Signature", "signature", "private_key", "privateKey", "X-Api-Key", "secret"),
        *("traceparent", "trace_id", "X-Nonce", "authorization", "commitHash", "sessionId"),
        *("seed", "password", "block_hash", "imageDigest", "merkleRoot", "request_id"),
    ],
)
@pytest.mark.parametrize("written", [HASH, DIGITS])
def test_what_is_32_bytes_of_something_else_is_not(name: str, written: str) -> None:
    assert misplaced_hash({name: written}) is None
    assert misplaced_hash({name: {"tx": written}}) is None


@pytest.mark.parametrize(
    "values",
    [
        {"note": DIGITS},  # without 0x and a name that speaks of a payment: a digest, perhaps
        {"tx": HASH[:-1]},
        {"tx": HASH + "0"},
        {"tx": "0x" + "g" * 64},
        {"tx": int(DIGITS, 16)},
        {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"},
        {},
    ],
)
def test_other_values_are_not(values: dict[str, Any]) -> None:
    assert misplaced_hash(values) is None


def test_only_so_much_is_looked_at() -> None:
    deep: Any = HASH
    for _ in range(10_000):
        deep = {"tx": deep}
    assert misplaced_hash({"tx": deep}) is None
    assert misplaced_hash({str(n): "" for n in range(10_000)} | {"tx": HASH}) is None


@pytest.mark.parametrize("where", ["tx_hash", "payment", "settings"])
def test_hash_in_a_field_of_a_deploy_that_nobody_reads_is_found(where: str) -> None:
    given = HASH if where == "tx_hash" else {"tx": HASH}
    found = hash_in({**BODY, where: given})
    assert found == MisplacedHash("tx_hash" if where == "tx_hash" else f"{where}.tx", FOUND)


def test_what_the_deployer_writes_is_never_taken_for_a_hash() -> None:
    variables = {"DEPLOY_TX": HASH, "PRIVATE_KEY": HASH}
    known = {"settings": {"runEnvs": variables, "buildVars": variables}, "description": HASH}
    upload = {"upload": {"type": "digest", "sha256": DIGITS}}
    assert hash_in({**BODY, **known, **upload}) is None
