"""How headers and queries of a request are read, and which are refused by name."""

import msgspec
import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message

from moorage.api.http.request import ApiRequest, parse_small, refuse_unknown
from moorage.errors import InvalidField
from moorage.wire import calls
from moorage.wire.projects import TransferBody
from moorage.wire.refunds import RefundBody

KNOWN = {"kind": "build or runtime", "tail": "how many"}


def asked(query: str) -> Request:
    return Request({"type": "http", "query_string": query.encode(), "headers": []})


@pytest.mark.parametrize("query", ["", "kind=build", "tail=5&kind=build&kind=runtime"])
def test_known_keys_pass(query: str) -> None:
    refuse_unknown(asked(query), KNOWN)


@pytest.mark.parametrize(
    ("query", "field", "told"),
    [
        ("kinds=build", "kinds", "did you mean kind"),
        ("Kind=build", "Kind", "did you mean kind"),
        ("stream=err", "stream", "kind, tail"),
        ("kind=build&stream=err", "stream", "kind, tail"),
    ],
)
def test_unknown_key_is_refused_by_name_with_what_is_known(
    query: str, field: str, told: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        refuse_unknown(asked(query), KNOWN)
    assert refused.value.field == field
    assert told in refused.value.message


def test_path_without_a_query_says_so() -> None:
    with pytest.raises(InvalidField, match="takes no query"):
        refuse_unknown(asked("page=2"), {})


def test_long_key_is_cut() -> None:
    with pytest.raises(InvalidField) as refused:
        refuse_unknown(asked("k" * 4_000 + "=1"), KNOWN)
    assert len(refused.value.message) < 300


def test_long_query_is_refused_before_its_keys_are_looked_at() -> None:
    with pytest.raises(InvalidField, match="longer than 4096") as refused:
        refuse_unknown(asked("&".join(f"kind={n}" for n in range(2_000))), KNOWN)
    assert refused.value.field == "query"


SENT = [
    (b"host", b"example.com"),
    (b"x-nonce", b"first"),
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"x-nonce", b"second"),
    (b"x-note", b"caf\xe9"),
    (b"x-empty", b""),
]
ASKED = (
    "host",
    "X-Nonce",
    "x-nonce",
    "X-FORWARDED-FOR",
    "x-note",
    "x-empty",
    "x-absent",
    "caf\xe9",
)


async def receive() -> Message:
    raise AssertionError("nobody reads the body")


async def send(_: Message) -> None:
    raise AssertionError("nobody answers")


@pytest.mark.parametrize("asked", ASKED, ids=range(len(ASKED)))
def test_header_is_found_by_any_case_and_the_first_of_several_counts(asked: str) -> None:
    found = ApiRequest({"type": "http", "headers": list(SENT)}, receive, send).headers
    searched = Headers(raw=list(SENT))
    assert found.get(asked) == searched.get(asked)
    assert found.get(asked, "-") == searched.get(asked, "-")
    assert found.getlist(asked) == searched.getlist(asked)
    assert (asked in found) == (asked in searched)
    if asked in searched:
        assert found[asked] == searched[asked]
    else:
        with pytest.raises(KeyError):
            found[asked]


def test_every_header_is_listed_as_it_was_sent() -> None:
    found = ApiRequest({"type": "http", "headers": list(SENT)}, receive, send).headers
    assert found.items() == Headers(raw=list(SENT)).items()


FIELDS = [
    (call.body, field)
    for call in calls.ALL
    if call.body is not None
    for field in msgspec.structs.fields(call.body)
]
NO_VALUES = [b"[[]]", b'{"x": []}', b"{}", b"1e999", b'"\\u0000"', b"null", b"true", b"-1.5", b'""']


@pytest.mark.parametrize("value", NO_VALUES)
def test_whatever_a_field_of_any_body_holds_it_is_read_or_refused_by_name(value: bytes) -> None:
    refused = []
    for body, field in FIELDS:
        try:
            parse_small(b'{"%s": %s}' % (field.encode_name.encode(), value), body)
        except InvalidField as error:
            refused.append((body, error.field.partition(".")[0]))
    assert refused
    assert all(name in named(body) for body, name in refused)


def named(body: type[msgspec.Struct]) -> set[str]:
    return {each.encode_name for each in msgspec.structs.fields(body)}


def test_wrong_part_of_a_field_is_named() -> None:
    sent = b'{"quote": "x", "expect": {"refundable_usd": "many"}}'
    with pytest.raises(InvalidField) as refused:
        parse_small(sent, RefundBody)
    told = (refused.value.field, refused.value.problem)
    assert told == ("expect.refundable_usd", "must be a number")
    with pytest.raises(InvalidField) as refused:
        parse_small(b'{"to": "0x", "not_after": "soon"}', TransferBody)
    assert refused.value.field == "not_after"
