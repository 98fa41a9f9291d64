"""Answers, errors and events of a gateway, read into what a caller branches on."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.sdk import errors
from moorage.sdk.errors import AnswerUnreadable
from moorage.sdk.transport import (
    ServerEvent,
    Transport,
    normalise_gateway_url,
    read_answer,
    read_events,
    read_refusal,
)
from moorage.wire.credits import Credits
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import DeploymentItem, DeploymentProgress, LogBody
from moorage.wire.projects import ProjectList, ProjectShown
from moorage.wire.public import Health


def test_fields_of_a_newer_gateway_are_ignored() -> None:
    content = b'{"projectId": "p", "deploymentId": "d", "status": "deploying", "since": [1]}'
    assert read_answer(content, Deployed).project_id == "p"


def test_words_of_a_newer_gateway_are_kept() -> None:
    content = b'{"status": "resting", "deployment_id": "d", "reason_code": "weather"}'
    progress = read_answer(content, DeploymentProgress)
    assert (str(progress.status), progress.reason_code) == ("resting", "weather")
    listed = b'{"wallet": "w", "count": 1, "projects": [{"id": "p", "name": "n", "status": "odd"}]}'
    (project,) = read_answer(listed, ProjectList).projects
    assert str(project.status) == "odd"


def test_known_words_equal_those_of_the_contract() -> None:
    item = read_answer(b'{"id": "d", "status": "ready", "origin": "rollback"}', DeploymentItem)
    assert (item.status, item.origin) == ("ready", "rollback")


def test_gateway_of_part_1_alone_is_understood() -> None:
    shown = read_answer(b'{"id": "p", "name": "n", "status": "active"}', ProjectShown)
    assert (shown.health_path, shown.url, shown.domains, shown.volume) == ("/", None, [], False)
    assert not shown.suspended_because
    page = read_answer(b'{"lines": [], "next": "0"}', LogBody)
    assert (page.kept, page.ended) == (True, False)


def test_absent_lists_are_not_shared() -> None:
    first, second = (
        read_answer(b'{"id": "p", "name": "n", "status": "active"}', ProjectShown) for _ in range(2)
    )
    assert first.domains is not second.domains


@pytest.mark.parametrize("shape", [Credits, Deployed, Health, ProjectList])
def test_nothing_said_is_never_taken_for_an_answer(shape: type[msgspec.Struct]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read_answer(b"{}", shape)


STREAM = (
    b": hello\n\nid: 7\nevent: line\ndata: one\n\n"
    b"data:two\r\ndata\r\n\r\nid\nevent: end\ndata:  three\n\nevent: nothing\n\ndata: cut off"
)
EVENTS = [
    ServerEvent("line", "one", "7"),
    ServerEvent("message", "two\n", "7"),
    ServerEvent("end", " three", ""),
]


async def chunks(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@given(st.lists(st.integers(0, len(STREAM))))
async def test_events_are_the_same_in_any_chunks(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert [event async for event in read_events(chunks(*pieces))] == EVENTS


async def test_line_without_end_is_refused() -> None:
    with pytest.raises(AnswerUnreadable):
        _ = [event async for event in read_events(chunks(*[b"x" * 65_536] * 17))]


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


def test_owner_that_is_no_address_is_refused_before_anything_is_signed() -> None:
    with pytest.raises(errors.ClientMisconfigured, match="on_behalf_of"):
        Transport("https://gateway.example", on_behalf_of="alice")
