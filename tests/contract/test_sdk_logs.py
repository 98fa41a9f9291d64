"""Following a log from a gateway whose streams break off: each line once, in order."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sdk_stubs import DEPLOYMENT, PROJECT, StubGateway, StubNode, problem, serving
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from moorage.sdk import errors
from moorage.sdk.client import Client
from moorage.sdk.signer import Signer
from moorage.sdk.transport import OnWait

KEY = "0x" + "11" * 32
LOGS = ("GET", f"/agent/deploy/{PROJECT}/{DEPLOYMENT}/logs")
END = b"id: 90\nevent: end\ndata: {}\n\n"


def event(number: int) -> bytes:
    data = b'{"time":null,"stream":"out","text":"line %d"}' % number
    return b"id: %d\nevent: line\ndata: %b\n\n" % (number * 10, data)


class Stream(Response):
    """Sends its pieces, then breaks off, unless the last one is the end."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self._pieces = pieces
        self.asked_after: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self.asked_after = headers.get(b"last-event-id", b"").decode()
        kind = (b"content-type", b"text/event-stream")
        # Of a length that is never reached, so that the client sees it break off.
        start = {"type": "http.response.start", "status": 200}
        await send({**start, "headers": [kind, (b"content-length", b"100000")]})
        for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})


@pytest.fixture
async def gateway() -> AsyncIterator[StubGateway]:
    stub = StubGateway()
    async with serving(stub, StubNode()):
        yield stub


async def no_pause(_seconds: float) -> None: ...


async def followed(
    gateway: StubGateway, *, on_wait: OnWait | None = None, **asked: Any
) -> list[str]:
    async with Client(gateway.url, Signer(KEY), pause=no_pause, on_wait=on_wait) as client:
        return [line.text async for line in client.follow_logs(PROJECT, DEPLOYMENT, **asked)]


async def test_stream_that_breaks_off_is_taken_up_behind_its_last_event(
    gateway: StubGateway,
) -> None:
    half = event(3)[:20]
    streams = [Stream(event(1), event(2) + half), Stream(), Stream(event(3), END)]
    busy = problem(503, "balance_unknown", retryable=True)
    gateway.other[LOGS] = [streams[0], busy, streams[1], streams[2]]
    assert await followed(gateway, kind="build", tail=5) == ["line 1", "line 2", "line 3"]
    assert [stream.asked_after for stream in streams] == ["", "20", "20"]
    assert gateway.queries == ["kind=build&tail=5&follow=true"] * 4


async def test_gap_in_a_log_that_breaks_off_is_told(gateway: StubGateway) -> None:
    busy = problem(429, "rate_limited", retryable=True)
    busy.headers["Retry-After"] = "7"
    gateway.other[LOGS] = [Stream(event(1)), busy, Stream(event(2), END)]
    told: list[tuple[float, str]] = []
    await followed(gateway, on_wait=lambda seconds, error: told.append((seconds, error.code)))
    assert told == [(1.0, "answer_lost"), (7, "rate_limited")]


async def test_comments_and_unknown_events_are_passed_over(gateway: StubGateway) -> None:
    odd = b": keep-alive\n\nid: 15\nevent: news\ndata: {}\n\n"
    gateway.other[LOGS] = [Stream(event(1), odd, event(2), END)]
    assert await followed(gateway) == ["line 1", "line 2"]


@pytest.mark.parametrize(
    ("answer", "raised"),
    [
        (problem(404, "deployment_not_found"), errors.NotFound),
        (problem(429, "too_many_streams", retryable=True), errors.GatewayError),
        (Stream(b"id: 1\nevent: line\ndata: nonsense\n\n"), errors.AnswerUnreadable),
    ],
)
async def test_what_no_patience_mends_is_raised(
    gateway: StubGateway, answer: Response, raised: type[Exception]
) -> None:
    gateway.other[LOGS] = [answer]
    with pytest.raises(raised):
        await followed(gateway)


async def test_page_is_read_from_where_it_is_asked_for(gateway: StubGateway) -> None:
    line = {"time": "2026-04-07T10:00:00.000Z", "stream": "err", "text": "oops", "new": 1}
    gateway.other[LOGS] = [JSONResponse({"lines": [line], "next": "77", "ended": True})]
    async with Client(gateway.url, Signer(KEY)) as client:
        page = await client.logs(PROJECT, DEPLOYMENT, since="2026-04-07T10:00:00+02:00", after="5")
    assert (page.lines[0].text, page.lines[0].stream, page.next, page.ended) == (
        "oops", "err", "77", True,
    )  # fmt: skip
    assert gateway.queries == ["kind=runtime&since=2026-04-07T10%3A00%3A00%2B02%3A00&after=5"]
