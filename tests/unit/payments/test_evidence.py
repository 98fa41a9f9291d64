import tracemalloc

import pytest
from starlette.datastructures import Headers

from moorage.chains.chain import KNOWN_CHAINS
from moorage.errors import InvalidField, PaymentMalformed
from moorage.payments.protocols.evidence import (
    Evidence,
    TransactionEvidence,
    named_chain,
    near_miss,
    offered_payment,
    payment_means,
)

CHAINS = {name: KNOWN_CHAINS[name] for name in ("arbitrum", "base")}
TEST_CHAIN = {"arbitrum-sepolia": KNOWN_CHAINS["arbitrum-sepolia"]}
HASH = "0x" + "ab" * 32


def means_of(**headers: str) -> tuple[str, str]:
    given = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    means = payment_means(given, CHAINS)
    return means.chain.name, means.token.name


def offered(**headers: str) -> Evidence | None:
    given = Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return offered_payment(given, payment_means(given, CHAINS), CHAINS)


@pytest.mark.parametrize(
    ("headers", "means"),
    [
        ({}, ("arbitrum", "usdc")),
        ({"X_Payment_Chain": "base"}, ("base", "usdc")),
        ({"X_Payment_Token": "usdt"}, ("arbitrum", "usdt")),
        ({"X_Payment_Chain": " BASE ", "X_Payment_Token": "UsdT"}, ("base", "usdt")),
    ],
)
def test_chain_and_token_are_the_named_ones_or_the_defaults(
    headers: dict[str, str], means: tuple[str, str]
) -> None:
    assert means_of(**headers) == means


@pytest.mark.parametrize(
    ("headers", "field", "says"),
    [
        ({"X_Payment_Chain": "doge"}, "X-Payment-Chain", "arbitrum, base"),
        ({"X_Payment_Chain": ""}, "X-Payment-Chain", "arbitrum, base"),
        ({"X_Payment_Token": "dai"}, "X-Payment-Token", "usdc, usdt on arbitrum"),
        ({"X_Payment_Token": ""}, "X-Payment-Token", "usdc, usdt on arbitrum"),
    ],
)
def test_unknown_chain_or_token_is_named_with_the_known_ones(
    headers: dict[str, str], field: str, says: str
) -> None:
    with pytest.raises(PaymentMalformed, match=says) as refused:
        means_of(**headers)
    assert refused.value.field == field


def test_default_chain_is_the_only_one_there_is() -> None:
    assert named_chain(None, TEST_CHAIN, field="chain").name == "arbitrum-sepolia"


def test_unknown_chain_of_a_query_is_no_malformed_payment() -> None:
    """The code's advice is to mend a header, and that a payment which was made still counts."""
    with pytest.raises(InvalidField) as refused:
        named_chain("mars", TEST_CHAIN, field="chain")
    assert refused.value.message == "chain: must be one of arbitrum-sepolia"


@pytest.mark.parametrize("spelling", [HASH, HASH.upper(), "0X" + "Ab" * 32, "aB" * 32])
def test_hash_is_the_same_however_it_is_spelled(spelling: str) -> None:
    means = payment_means({}, CHAINS)
    assert offered(X_Payment_Tx=spelling) == TransactionEvidence(means, HASH)


@pytest.mark.parametrize(
    "spelling",
    ["", "0x", "0x12", HASH + "0", HASH[:-1], HASH[:-1] + "g", f"{HASH},{HASH}", "0x" * 33],
)
def test_malformed_hash_is_refused_by_name(spelling: str) -> None:
    with pytest.raises(PaymentMalformed) as refused:
        offered(X_Payment_Tx=spelling)
    assert refused.value.field == "X-Payment-Tx"


def test_no_hash_is_no_evidence() -> None:
    assert offered() is None
    assert offered(Authorization="Bearer of something else") is None


@pytest.mark.parametrize("written", ["Payment", "Payment\te30", "Bearer of it, Payment e30"])
def test_credential_that_cannot_be_read_is_not_overlooked(written: str) -> None:
    with pytest.raises(PaymentMalformed, match="Authorization"):
        offered(Authorization=written)


@pytest.mark.parametrize("written", ["Payments e30", "Bearer payment", "Basic payment", "payment="])
def test_other_schemes_are_no_evidence(written: str) -> None:
    assert offered(Authorization=written) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"X_Payment_Tx": HASH, "Authorization": "Payment e30"},
        {"X_Payment_Tx": HASH, "Payment_Signature": "e30="},
        {"Authorization": "payment e30", "PAYMENT_SIGNATURE": "e30="},
    ],
)
def test_two_payments_at_once_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(PaymentMalformed, match="one way to pay"):
        offered(**headers)


def test_long_names_of_headers_are_not_remembered() -> None:
    tracemalloc.start()
    try:
        for number in range(200):
            assert near_miss({f"x-{number}-{'a' * 10_000}": ""}) is None
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 500_000
