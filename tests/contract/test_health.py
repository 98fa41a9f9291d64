"""The health check against a real server on a unix socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from moorage.address import Address
from moorage.errors import DeployFailed, FailureCause
from moorage.hosting.work.switch import wait_until_healthy

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, socket: Path) -> AsyncIterator[None]:
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.01)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw(answer: bytes, socket: Path) -> AsyncIterator[None]:
    """A server that answers anything with these bytes and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(talk, socket)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


async def runs() -> bool:
    return False


async def has_ended() -> bool:
    return True


async def healthy(
    socket: Path,
    *,
    path: str = "/",
    seconds: float = 60,
    ended: Callable[[], Awaitable[bool]] = runs,
) -> None:
    await wait_until_healthy(
        Address.unix(socket),
        host="my-app.example.com",
        path=path,
        timeout_seconds=seconds,
        has_ended=ended,
    )


async def refused(
    socket: Path, *, seconds: float = 0.05, ended: Callable[[], Awaitable[bool]] = runs
) -> DeployFailed:
    with pytest.raises(DeployFailed) as failure:
        await healthy(socket, seconds=seconds, ended=ended)
    assert failure.value.cause is FailureCause.UNHEALTHY
    return failure.value


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 499])
async def test_any_answer_below_500_is_healthy(tmp_path: Path, status: int) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "http://elsewhere.example/"})

    async with serving(handler, tmp_path / "app.sock"):
        await healthy(tmp_path / "app.sock")


async def test_the_health_path_is_asked_for_as_it_is_written(tmp_path: Path) -> None:
    asked: list[str] = []

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(request.raw_path)
        return web.Response(status=200 if request.path == "/up" else 503)

    async with serving(handler, tmp_path / "app.sock"):
        await healthy(tmp_path / "app.sock", path="/up?a=%7e%2F&b=//")
        assert asked == ["/up?a=%7e%2F&b=//"]
        failure = await refused(tmp_path / "app.sock")
    assert "GET / was not answered" in failure.reason


async def test_the_apps_own_host_is_asked_for(tmp_path: Path) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=500 if request.host == "my-app.example.com" else 200)

    async with serving(handler, tmp_path / "app.sock"):
        failure = await refused(tmp_path / "app.sock", seconds=1)
    assert "it answered 500" in failure.reason


async def test_app_that_needs_a_while_is_asked_again(tmp_path: Path) -> None:
    asked = 0

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=503 if asked < 4 else 200)

    async with serving(handler, tmp_path / "app.sock"):
        await healthy(tmp_path / "app.sock")
    assert asked == 4


@pytest.mark.parametrize("status", [500, 502, 599])
async def test_answers_of_500_and_above_are_waited_out_and_told(
    tmp_path: Path, status: int
) -> None:
    asked = 0

    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        return web.Response(status=status)

    async with serving(handler, tmp_path / "app.sock"):
        # Somebody answers; time for some answers, however busy the machine is.
        failure = await refused(tmp_path / "app.sock", seconds=1, ended=has_ended)
    assert f"it answered {status}" in failure.reason
    assert asked > 1


async def test_silence_is_told(tmp_path: Path) -> None:
    async def handler(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.Event().wait()
        return web.Response()

    async with serving(handler, tmp_path / "app.sock"):
        failure = await refused(tmp_path / "app.sock")
    assert "no answer in time" in failure.reason


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 \r\n\r\n", b"HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n"],
)
async def test_what_is_no_http_is_told(tmp_path: Path, answer: bytes) -> None:
    async with raw(answer, tmp_path / "app.sock"):
        failure = await refused(tmp_path / "app.sock", seconds=60, ended=has_ended)
    assert "no valid HTTP answer" in failure.reason


async def test_app_that_ended_is_not_waited_for(tmp_path: Path) -> None:
    async with asyncio.timeout(60):
        await refused(tmp_path / "nobody.sock", seconds=120, ended=has_ended)
