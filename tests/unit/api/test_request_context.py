import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import get_contextvars

from moorage import logs
from moorage.api.http.request_context import INTENDED, WALLET, RequestContext
from moorage.auth.rate_limit import TrustedProxies

PROXY, STRANGER = "10.0.0.1", "203.0.113.9"
WALLET_ADDRESS = "0x" + "a" * 40
SECRET_HEADERS = {
    "authorization": "Payment " + "c2VjcmV0" * 8,
    "x-signature": "0x" + "5a" * 65,
    "payment-signature": "eyJ" + "c2VjcmV0" * 8,
}


class Lines(io.BytesIO):
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def last(self) -> dict[str, Any]:
        return self.all()[-1]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    kept, lines = structlog.get_config(), Lines()
    logs.configure(json=True, level="info", stream=lines)
    yield lines
    structlog.configure(**kept)
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    measured: list[dict[str, Any]] = []

    def record(**labels: Any) -> None:
        assert labels.pop("seconds") >= 0
        intended = {"intended": True} if labels.pop("intended") else {}
        measured.append(labels | intended)

    monkeypatch.setattr("moorage.api.http.request_context.record_request", record)
    return measured


async def project(request: Request) -> Response:
    request.scope[WALLET] = WALLET_ADDRESS
    structlog.get_logger().info("inside", project=request.path_params["id"])
    return PlainTextResponse("ok", status_code=201)


async def maintained(request: Request) -> Response:
    request.scope[INTENDED] = True
    return PlainTextResponse("later", status_code=503)


async def fails(_request: Request) -> Response:
    raise RuntimeError("boom")


APP = Starlette(
    routes=[
        Route("/projects/{id}", project),
        Route("/fails", fails),
        Route("/maintained", maintained),
        Route("/health", project_free := lambda _request: PlainTextResponse("ok")),
        Mount("/mounted", routes=[Route("/inner", project_free)]),
    ]
)


class Answer:
    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def ids(self) -> list[str]:
        headers = self.messages[0]["headers"]
        return [value.decode() for name, value in headers if name == b"x-request-id"]


async def ask(
    path: str,
    *,
    app: ASGIApp = APP,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    peer: str | None = STRANGER,
) -> Answer:
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"token=secret",
        "headers": [(n.encode(), v.encode("latin-1")) for n, v in (headers or {}).items()],
        "client": None if peer is None else (peer, 1234),
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    answer = Answer()
    await RequestContext(app, TrustedProxies([PROXY]))(scope, receive, answer.send)
    return answer


async def test_answer_carries_a_fresh_id(lines: Lines) -> None:
    first, second = await ask("/projects/1"), await ask("/projects/1")
    assert first.status == 201
    assert len(first.ids) == 1
    assert first.ids != second.ids


async def test_every_line_of_a_request_carries_its_id(lines: Lines) -> None:
    answer = await ask("/projects/1")
    structlog.get_logger().info("outside")
    ids = [line.get("request_id") for line in lines.all()]
    assert ids == [*answer.ids, *answer.ids, None]


async def test_concurrent_requests_keep_their_ids(lines: Lines) -> None:
    gate = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await project(Request({**scope, "path_params": {"id": scope["path"]}}))
        await PlainTextResponse("ok")(scope, receive, send)

    asking = [asyncio.create_task(ask(str(number), app=waits)) for number in range(3)]
    await asyncio.sleep(0)
    gate.set()
    ids = {answer.ids[0] for answer in await asyncio.gather(*asking)}
    inside = {line["project"]: line["request_id"] for line in lines.all() if "project" in line}
    assert len(ids) == 3
    assert set(inside.values()) == ids


async def test_id_is_taken_over_from_a_trusted_proxy_alone(lines: Lines) -> None:
    headers = {"x-request-id": "proxy-id.0_1"}
    assert (await ask("/projects/1", headers=headers, peer=PROXY)).ids == ["proxy-id.0_1"]
    for peer in (STRANGER, None):
        assert (await ask("/projects/1", headers=headers, peer=peer)).ids != ["proxy-id.0_1"]


@pytest.mark.parametrize("text", ["", "short", "x" * 65, "with space", 'quo"te-quote', "é" * 10])
async def test_odd_id_is_replaced(lines: Lines, text: str) -> None:
    answer = await ask("/projects/1", headers={"x-request-id": text}, peer=PROXY)
    assert answer.ids != [text]
    assert len(answer.ids[0]) == 16


async def test_request_is_one_line(lines: Lines, measured: list[dict[str, Any]]) -> None:
    await ask("/projects/7")
    line = lines.last()
    assert line.pop("ms") >= 0
    del line["timestamp"], line["request_id"]
    assert line == {
        "event": "request",
        "level": "info",
        "method": "GET",
        "route": "/projects/{id}",
        "path": "/projects/7",
        "status": 201,
        "wallet": WALLET_ADDRESS,
    }
    assert measured == [{"route": "/projects/{id}", "method": "GET", "status": 201}]


@pytest.mark.parametrize(
    ("path", "method", "route", "status"),
    [
        ("/nothing/here", "GET", "unmatched", 404),
        ("/projects/1", "POST", "/projects/{id}", 405),
        ("/mounted/inner", "GET", "/mounted/inner", 200),
        ("/mounted/none", "GET", "/mounted", 404),
    ],
)
async def test_measurement_names_the_route_not_the_path(
    lines: Lines, measured: list[dict[str, Any]], path: str, method: str, route: str, status: int
) -> None:
    await ask(path, method=method)
    assert measured == [{"route": route, "method": method, "status": status}]


async def test_refusal_that_the_operator_asked_for_is_measured_as_no_fault(
    lines: Lines, measured: list[dict[str, Any]]
) -> None:
    await ask("/maintained")
    assert measured == [{"route": "/maintained", "method": "GET", "status": 503, "intended": True}]


async def test_failure_is_recorded_and_goes_on_up(
    lines: Lines, measured: list[dict[str, Any]]
) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        await ask("/fails")
    assert measured == [{"route": "/fails", "method": "GET", "status": 500}]
    assert get_contextvars() == {}


async def test_request_without_an_answer_has_no_status(
    lines: Lines, measured: list[dict[str, Any]]
) -> None:
    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    await ask("/gone", app=silent)
    assert measured == [{"route": "unmatched", "method": "GET", "status": None}]
    assert lines.last()["status"] is None


async def test_health_is_measured_quietly(lines: Lines, measured: list[dict[str, Any]]) -> None:
    await ask("/health")
    assert lines.all() == []
    assert len(measured) == 1


@pytest.mark.parametrize("path", ["/projects/1", "/nothing", "/fails"])
async def test_no_secret_of_a_request_is_logged(lines: Lines, path: str) -> None:
    def logs_headers(inner: ASGIApp) -> ASGIApp:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = Request(scope).headers
            structlog.get_logger().info("careless", headers=headers, scope=scope, **headers)
            await inner(scope, receive, send)

        return app

    try:
        await ask(path, app=logs_headers(APP), headers=SECRET_HEADERS)
    except RuntimeError:
        structlog.get_logger().exception("request failed")

    text = lines.getvalue().decode()
    assert "careless" in text
    for leak in ("c2VjcmV0", "5a5a5a", "token=secret"):
        assert leak not in text


async def test_other_scopes_pass_through(lines: Lines) -> None:
    seen: list[str] = []

    async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def unused(*_: object) -> Any:
        raise AssertionError

    context = RequestContext(lifespan, TrustedProxies())
    call: Callable[..., Any] = context
    await call({"type": "lifespan"}, unused, unused)
    assert seen == ["lifespan"]
    assert lines.all() == []


@pytest.mark.parametrize("path", ["/links/c2VjcmV0", "/operator/links/c2VjcmV0"])
async def test_secret_of_a_link_is_in_no_line(lines: Lines, path: str) -> None:
    await ask(path)
    assert lines.last()["path"] == path.replace("c2VjcmV0", "…")
