import asyncio
import json
import time
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moorage.api.http.dispatch import Dispatch, SlashRefused


def endpoint(name: str) -> ASGIApp:
    """Answers with its name and what the scope says of the route."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        said = [name, scope["route"].path, scope["path_params"]]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    return answer


DISPATCH = Dispatch(
    [
        ("GET", "/things", endpoint("list")),
        ("POST", "/things", endpoint("make")),
        ("GET", "/things/{id}", endpoint("read")),
        ("GET", "/things/{id}/parts/{part}.json", endpoint("part")),
    ]
)


async def ask(
    method: str, path: str, dispatch: ASGIApp = DISPATCH
) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nobody reads the body")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": unquote(path), "raw_path": path.encode()}
    await dispatch(scope, receive, send)
    start, body = sent
    return start["status"], dict(start["headers"]), json.loads(body["body"])


@pytest.mark.parametrize(
    ("method", "path", "said"),
    [
        ("GET", "/things", ["list", "/things", {}]),
        ("POST", "/things", ["make", "/things", {}]),
        ("GET", "/things/7", ["read", "/things/{id}", {"id": "7"}]),
        ("HEAD", "/things/7", ["read", "/things/{id}", {"id": "7"}]),
        (
            "GET",
            "/things/7/parts/b.json",
            ["part", "/things/{id}/parts/{part}.json", {"id": "7", "part": "b"}],
        ),
    ],
)
async def test_request_finds_its_endpoint(method: str, path: str, said: list[Any]) -> None:
    assert await ask(method, path) == (200, {}, said)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/things/",
        "/things/7/",
        "/things/7/8",
        "//things",
        "/things/7/parts/bxjson",
        "/things\n",
    ],
)
async def test_path_that_is_not_there_is_404(path: str) -> None:
    status, headers, body = await ask("GET", path)

    assert (status, body["code"]) == (404, "not_found")
    assert headers[b"content-type"] == b"application/json"


async def test_method_that_is_not_there_is_405_and_says_which_are() -> None:
    status, headers, body = await ask("DELETE", "/things")

    assert (status, body["code"]) == (405, "method_not_allowed")
    assert headers[b"allow"] == b"GET, HEAD, POST"


async def test_parameter_is_a_whole_segment() -> None:
    assert (await ask("GET", "/things/7/"))[0] == 404
    assert (await ask("GET", "/things/a%252Fb"))[2][2] == {"id": "a%2Fb"}


@pytest.mark.parametrize("path", ["/things/7%2Fparts%2Fb.json", "/things/7%2fparts/b.json"])
async def test_id_with_a_slash_reaches_no_other_endpoint(path: str) -> None:
    status, _, body = await ask("GET", path, SlashRefused(DISPATCH))
    assert (status, body["code"]) == (404, "not_found")
    assert (await ask("GET", "/things/7%20", SlashRefused(DISPATCH)))[2][2] == {"id": "7 "}


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/deploy", "/agent/deploy"),
        ("/projects/shop", "/agent/projects/{projectId}"),
        ("/agent/project/shop", "/agent/projects/{projectId}"),
        ("/v1/deploy", "/agent/deploy"),
        ("/agent/deploys/", "/agent/deploy"),
        ("/v1/projects/shop", "/agent/projects/{projectId}"),
        ("/agent/link/7", "/agent/links/{linkId}"),
        ("/v1/apps", None),
        ("/favicon.ico", None),
        ("/agent/deploy" + "y" * 2_000, None),
    ],
)
async def test_path_that_is_not_there_names_the_nearest(path: str, near: str | None) -> None:
    served = ("/agent/links/{linkId}", "/agent/deploy", "/agent/projects/{projectId}")
    body = (await ask("POST", path, Dispatch([("POST", each, endpoint("")) for each in served])))[2]
    assert body["code"] == "not_found"
    assert ("did you mean" in body["error"]) == (near is not None)
    assert near is None or f"did you mean {near}?" in body["error"]


def test_nearest_path_is_found_quickly_whatever_is_asked_for() -> None:
    served = [f"/agent/projects/{{projectId}}/{name}" for name in map(str, range(40))]
    dispatch = Dispatch([("GET", each, endpoint("")) for each in served])
    begun = time.thread_time()
    for _ in range(20):
        asyncio.run(ask("GET", f"/agent/projects/{'x' * 100}/y", dispatch))
    assert time.thread_time() - begun < 0.5
