"""Error answers, read into what a caller branches on."""

import json

import pytest

from moorage.sdk import errors
from moorage.sdk.transport import normalise_gateway_url, read_refusal

QUOTE = {
    "error": "Payment required",
    "amount_usd": 0.5,
    "amount_token": "500000",
    "pay_to": "0xab",
    "payment_chain": "arbitrum",
    "token": "usdc",
    "decimals": 6,
}


@pytest.mark.parametrize(
    ("status", "family"),
    [
        (400, errors.RequestRefused),
        (401, errors.NotAuthenticated),
        (402, errors.PaymentRequired),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.HashAlreadyUsed),
        (413, errors.RequestRefused),
        (429, errors.TooManyRequests),
        (500, errors.GatewayUnavailable),
        (502, errors.GatewayUnavailable),
        (503, errors.GatewayUnavailable),
        (418, errors.GatewayError),
    ],
)
def test_each_status_of_the_contract_has_its_error(
    status: int, family: type[errors.GatewayError]
) -> None:
    body = {"error": "a sentence", "code": "a_word", "retryable": True, "field": "months"}
    error = read_refusal(status=status, content=json.dumps(body).encode(), headers={})
    assert type(error) is family
    assert (error.status, error.error, error.code, error.retryable) == (
        status,
        "a sentence",
        "a_word",
        True,
    )
    assert error.body == body


def test_402_carries_its_quote() -> None:
    error = read_refusal(status=402, content=json.dumps(QUOTE).encode(), headers={})
    assert isinstance(error, errors.PaymentRequired)
    assert error.quote is not None
    assert (error.quote.amount_token, error.quote.pay_to) == ("500000", "0xab")


@pytest.mark.parametrize(
    ("status", "retryable"), [(502, True), (503, True), (429, True), (400, False), (402, False)]
)
@pytest.mark.parametrize("content", [b"<h1>Bad</h1>", b"", b"[]", b"\xff", b'{"retryable"'])
def test_body_of_something_else_keeps_the_status(
    status: int, retryable: bool, content: bytes
) -> None:
    error = read_refusal(status=status, content=content, headers={})
    assert (error.status, error.code, error.retryable) == (status, f"http_{status}", retryable)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("17", 17), ("-1", None), ("x", None), ("٣", None), ("", None), ("9" * 5_000, None)],
)
def test_retry_after_is_whole_seconds(header: str, seconds: int | None) -> None:
    error = read_refusal(status=429, content=b"{}", headers={"Retry-After": header})
    assert error.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("http://127.0.0.1:8402/", "http://127.0.0.1:8402"),
        ("http://localhost:8402", "http://127.0.0.1:8402"),
        ("https://Example.COM/moorage/", "https://example.com/moorage"),
        ("http://[::1]:8402", "http://[::1]:8402"),
    ],
)
def test_one_gateway_has_one_spelling(text: str, normal: str) -> None:
    assert normalise_gateway_url(text) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com",
        "ftp://example.com",
        "http://",
        "http://a:b@c",
        "http://a:99999",
        "http://a?b",
    ],
)
def test_what_is_no_gateways_address_is_refused(text: str) -> None:
    with pytest.raises(errors.ClientMisconfigured):
        normalise_gateway_url(text)
