"""Bodies are read in one place, and what is wrong with one is told by the field's name."""

import re
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.types import Message

import moorage
from moorage.api.http.request import IN_LOOP_BYTES, parse_small, read_whole
from moorage.errors import BodyTooLarge, InvalidField
from moorage.wire.credits import TopUpBody
from moorage.wire.deployments import RollbackBody
from moorage.wire.events import WebhookBody
from moorage.wire.projects import DomainBody
from moorage.wire.public import LinkBody

TAKES = "is not known here; this takes deploymentId"
LONG = "deploymentId: must be a string of at most 64 characters"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (DomainBody, b'{"domain": 5}', "domain: must be a string"),
        (DomainBody, b'{"other": 1}', "domain: is required and must be a string"),
        (DomainBody, b"[]", "body: must be a JSON object"),
        (DomainBody, b"{", "body: must be JSON"),
        (DomainBody, b"\xff", "body: must be JSON"),
        (DomainBody, b'{"domain": "a", "x": ' + b"[" * 5_000, "body: must be JSON"),
        (DomainBody, b'{"domain": 5} and more', "body: must be JSON"),
        (WebhookBody, b'{"url": null}', "url: must be a string"),
        (RollbackBody, b'{"deploymentId": 5}', LONG),
        (RollbackBody, b'{"deploymentId": "%b"}' % (b"x" * 65), LONG),
        (RollbackBody, b'{"foo": 1}', "foo: " + TAKES),
        (RollbackBody, b'{"%b": 1}' % (b"y" * 70), "y" * 64 + ": " + TAKES),
        (TopUpBody, b'{"amount_usd": []}', "amount_usd: must be a number"),
        (TopUpBody, b'{"amount_usd": "much"}', "amount_usd: must be a number"),
        (LinkBody, b'{"once": 5}', "once: must be true or false"),
        (LinkBody, b'{"days": 91}', "days: must be a whole number from 1 to 90"),
        (LinkBody, b'{"days": "7"}', "days: must be a whole number from 1 to 90"),
        (LinkBody, b'{"label": 5}', "label: must be a string of at most 100 characters"),
        (dict[str, object], b'"text"', "body: must be a JSON object"),
        (dict[str, object], b'{"a": "\xff"}', "body: must be JSON"),
        (DomainBody, b'{"domain": "\xff"}', "domain: must be a string"),
    ],
)  # fmt: skip
def test_wrong_body_is_told_by_the_field_and_without_the_decoders_words(
    kind: type, body: bytes, said: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_small(body, kind)
    assert refused.value.message == said
    assert refused.value.field == said.split(":", maxsplit=1)[0]


def test_unknown_fields_are_taken_where_the_body_may_have_them() -> None:
    assert parse_small(b'{"domain": "a.example", "note": 1}', DomainBody).domain == "a.example"


PACKAGE = Path(moorage.__file__).parent
SERVES = ("api", "gateway", "mcp", "pages", "routing")
ASKS_FOR_A_BODY = re.compile(r"request\.(stream|body|json|form)\(\)|\breceive\(\)")
READERS = {
    "api/http/request.py",  # whole, and parsed in the loop up to 64 KiB
    "api/deploy.py",  # as a stream: to a file, or decoded but for a small rest
    "routing/pages.py",  # to drop it
    "api/http/connections.py",  # these pass on what arrives, or watch for who leaves
    "api/http/caller.py",
    "api/http/in_process.py",
    "mcp/remote.py",
}


def test_no_other_module_asks_a_request_for_its_body() -> None:
    """Else it could parse what strangers send, of any size, while nobody else is served."""
    found = {
        str(path.relative_to(PACKAGE))
        for room in SERVES
        for path in (PACKAGE / room).rglob("*.py")
        if ASKS_FOR_A_BODY.search(path.read_text())
    }
    assert found == READERS


def test_small_parser_takes_no_large_body() -> None:
    with pytest.raises(BodyTooLarge):
        parse_small(b" " * (IN_LOOP_BYTES + 1), DomainBody)


async def test_body_that_says_that_it_is_too_large_is_refused_before_it_arrives() -> None:
    async def receive() -> Message:
        raise AssertionError("nobody reads it")

    headers = [(b"content-length", b"101")]
    with pytest.raises(BodyTooLarge):
        await read_whole(Request({"type": "http", "headers": headers}, receive), max_bytes=100)
