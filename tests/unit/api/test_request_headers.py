"""Headers that are looked up say what Starlette's say, which are searched for."""

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from moorage.api.http.request import ApiRequest

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
