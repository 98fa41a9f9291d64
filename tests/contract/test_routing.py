"""Router, proxy, fallback pages and probe together: a real HAProxy and real servers on sockets."""

import asyncio
import hashlib
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from harbour import (
    DEADLINE_SECONDS,
    STATES,
    App,
    Harbour,
    get,
    raw,
    running,
    running_proxies,
    serve_fallback,
)

from moorage.address import Address
from moorage.errors import ProxyFailed
from moorage.gateway.platform import find_tool
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import FALLBACK_SOCKET, ProxySettings
from moorage.routing.pages import listen_unix
from moorage.routing.probe import Answer, answers, probe
from moorage.routing.router import Router
from support.gateway.waiting import until

# Routes


async def test_requests_go_by_host(
    harbour: Harbour, app: App, client: aiohttp.ClientSession, directory: Path
) -> None:
    async with running("two", Address.unix(directory / "two.sock")) as other:
        await harbour.router.point("other.localhost", other.address)
        assert await get(client, harbour, "my-app.localhost") == (200, "one")
        assert await get(client, harbour, "other.localhost:8080") == (200, "two")
        assert await get(client, harbour, "my-app.localhost.", "/a/b?c") == (200, "one")


async def test_unknown_host_gets_the_page(harbour: Harbour, client: aiohttp.ClientSession) -> None:
    status, text = await get(client, harbour, "nobody.localhost", Accept="text/html")
    assert status == 404
    assert "No app is hosted here" in text
    status, text = await get(client, harbour, "nobody.localhost")
    assert (status, json.loads(text)["code"]) == (404, "app_not_found")


async def test_states_have_their_own_answers(
    harbour: Harbour, client: aiohttp.ClientSession
) -> None:
    statuses = {host: (await get(client, harbour, host))[0] for host in STATES}
    assert statuses == {"arriving.localhost": 503, "paused.localhost": 402, "sick.localhost": 502}


async def test_removed_host_gets_the_page(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    assert (await get(client, harbour, "my-app.localhost"))[0] == 200
    await harbour.router.remove("my-app.localhost")
    assert (await get(client, harbour, "my-app.localhost"))[0] == 404


async def test_dead_app_gets_the_page_that_says_so(
    harbour: Harbour, client: aiohttp.ClientSession, directory: Path
) -> None:
    async with running("sick", Address.unix(directory / "sick.sock")) as sick:
        await harbour.router.point("sick.localhost", sick.address)
        assert await get(client, harbour, "sick.localhost") == (200, "sick")
    status, text = await get(client, harbour, "sick.localhost")
    assert (status, json.loads(text)["code"]) == (502, "app_not_answering")


@pytest.mark.parametrize("host", ["../../x", "..", "a/../b", "my-app.localhost/../x", "%2e%2e/x"])
async def test_host_that_climbs_is_refused(harbour: Harbour, app: App, host: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    status = (await raw(harbour, request)).split()[1]
    assert status in {b"400", b"404"}
    assert app.requests == []


@pytest.mark.parametrize("host", ["*", "*.localhost", "[::1]", "my-app", "{env.HOME}", "my?app"])
async def test_odd_host_is_no_app(harbour: Harbour, app: App, host: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    assert (await raw(harbour, request)).split()[1] in {b"400", b"404"}
    assert app.requests == []


@pytest.mark.parametrize("request_head", [b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\r\nHost:\r\n"])
async def test_request_without_a_host_is_told_so(
    harbour: Harbour, app: App, request_head: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", harbour.port)
    writer.write(request_head + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(DEADLINE_SECONDS):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.split()[1] == b"400"
    assert json.loads(body)["code"] == "host_missing"
    assert app.requests == []


async def test_letter_case_of_a_host_makes_no_difference(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    assert await get(client, harbour, "MY-App.localhost:81") == (200, "one")
    assert (await get(client, harbour, "PAUSED.localhost"))[0] == 402


async def test_head_is_answered_without_a_body(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    for host, status in (("my-app.localhost", 200), ("nobody.localhost", 404)):
        async with client.head(harbour.url(), headers={"Host": host}) as response:
            assert response.status == status
            assert int(response.headers["Content-Length"]) > 0
            assert await response.read() == b""


# Headers


async def test_app_sees_the_real_client_whatever_the_client_says(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "bank.example",
        "X-Real-Ip": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Moorage-Anything": "200",
    }
    async with client.get(
        harbour.url(), headers={"Host": "my-app.localhost:81"} | forged
    ) as response:
        assert response.status == 200
    (seen,) = app.requests
    assert seen.headers["Host"] == "my-app.localhost:81"
    assert seen.headers["X-Forwarded-For"] == "127.0.0.1"
    assert seen.headers["X-Forwarded-Proto"] == "http"
    assert seen.headers["X-Forwarded-Host"] == "my-app.localhost:81"
    assert seen.headers["X-Real-Ip"] == "127.0.0.1"
    assert "Forwarded" not in seen.headers
    assert "X-Moorage-Anything" not in seen.headers


async def test_app_cannot_pass_for_the_gateway(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    async with client.get(harbour.url(), headers={"Host": "my-app.localhost"}) as response:
        assert "X-Moorage-Fallback" not in response.headers


async def test_huge_headers_are_refused(harbour: Harbour, app: App) -> None:
    head = b"GET / HTTP/1.1\r\nHost: my-app.localhost\r\nX-Big: " + b"x" * 200_000 + b"\r\n\r\n"
    assert (await raw(harbour, head)).split()[1] == b"400"


async def test_access_log_holds_no_query_and_no_headers(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    for host in ("my-app.localhost", "nobody.localhost"):
        await get(client, harbour, host, "/path?token=s3cret", Cookie="s3cret", Auth="s3cret")
    (log,) = (harbour.settings.state_dir / "requests").iterdir()
    await until(lambda: log.read_text().count("\n") >= 1)
    (line,) = log.read_text().splitlines()
    _, host, status, bytes_in, bytes_out, latency, *rest = line.split(" ")
    assert (host, status, rest) == ("my-app.localhost", "200", ["-", "app", "-"])
    assert 100 < int(bytes_in) < 1_000
    assert 3 < int(bytes_out) < 1_000
    assert 0 <= int(latency) < 60_000
    assert "s3cret" not in (harbour.settings.state_dir / "haproxy.out").read_text()


# Bodies and streams


async def test_events_arrive_while_the_stream_is_open(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    async with client.get(harbour.url("/stream"), headers={"Host": "my-app.localhost"}) as response:
        assert await response.content.readline() == b"data: first\n"
        assert app.open_streams == 1
        response.close()
    await until(lambda: app.open_streams == 0)  # the app learns that the client has gone


async def test_websocket_echoes(harbour: Harbour, app: App, client: aiohttp.ClientSession) -> None:
    async with client.ws_connect(
        harbour.url("/socket"), headers={"Host": "my-app.localhost"}
    ) as socket:
        await socket.send_str("ahoy")
        assert await socket.receive_str() == "one: ahoy"


async def test_websocket_to_nobody_gets_the_page(
    harbour: Harbour, client: aiohttp.ClientSession
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await client.ws_connect(harbour.url(), headers={"Host": "nobody.localhost"})
    assert refused.value.status == 404


BODY = os.urandom(1 << 20) * 20


async def test_20_mb_arrive_whole_at_the_app(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    async with client.post(
        harbour.url("/digest"), data=io.BytesIO(BODY), headers={"Host": "my-app.localhost"}
    ) as response:
        seen = await response.json()
    assert seen == {"size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}


async def test_20_mb_for_nobody_are_answered_with_the_page(
    harbour: Harbour, client: aiohttp.ClientSession
) -> None:
    for host in ("nobody.localhost", "sick.localhost"):
        async with client.post(
            harbour.url(), data=io.BytesIO(BODY), headers={"Host": host}
        ) as response:
            assert response.status in {404, 502}


async def test_body_arrives_whole_at_the_fallback_after_a_failed_dial(
    harbour: Harbour, client: aiohttp.ClientSession, directory: Path
) -> None:
    """The gateway may once start a sleeping app and hand the request on."""
    assert harbour.fallback is not None
    await harbour.fallback.stop()
    echo = App("fallback", Address.unix(harbour.settings.run_dir / FALLBACK_SOCKET))
    await echo.start()
    await harbour.router.point("asleep.localhost", Address.unix(directory / "nothing.sock"))
    async with client.post(
        harbour.url("/digest"), data=io.BytesIO(BODY), headers={"Host": "asleep.localhost"}
    ) as response:
        seen = await response.json()
    await echo.stop()
    assert seen == {"size": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_body_that_a_failing_app_has_taken_does_not_keep_the_page_away(
    harbour: Harbour, client: aiohttp.ClientSession, directory: Path, *, size: int, is_chunked: bool
) -> None:
    """Else the proxy would say that it is the gateway which is down."""

    async def take_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size)
        writer.transport.abort()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * size

    endpoint = listen_unix(directory / "failing.sock")
    async with await asyncio.start_server(take_and_hang_up, sock=endpoint):
        await harbour.router.point("sick.localhost", Address.unix(directory / "failing.sock"))
        data = pieces() if is_chunked else b"x" * size
        async with client.post(
            harbour.url(), data=data, headers={"Host": "sick.localhost"}
        ) as response:
            assert response.status == 502
            assert (await response.json())["code"] == "app_not_answering"


# The gateway away


async def test_without_the_gateway_the_proxy_answers_itself(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    assert harbour.fallback is not None
    await harbour.fallback.stop()
    assert await get(client, harbour, "my-app.localhost") == (200, "one")
    status, text = await get(client, harbour, "nobody.localhost")
    assert (status, json.loads(text)["code"]) == (503, "gateway_unavailable")
    status, text = await get(client, harbour, "nobody.localhost", Accept="text/html,*/*")
    assert status == 503
    assert "<h1>Back in a moment</h1>" in text
    again = await serve_fallback(harbour.settings.run_dir)
    assert (await get(client, harbour, "nobody.localhost"))[0] == 404
    await again.stop()


# The switch


VERSION = """
import asyncio, socket, sys
from pathlib import Path
from aiohttp import web
from moorage.routing.pages import listen_unix

async def say(request):
    await request.read()
    return web.Response(text=sys.argv[1])

async def main():
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", say)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.SockSite(runner, listen_unix(Path(sys.argv[2]))).start()
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def start_python(script: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, *arguments, stdout=asyncio.subprocess.PIPE
    )


async def start_version(name: str, socket: Path) -> asyncio.subprocess.Process:
    process = await start_python(VERSION, name, str(socket))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def test_no_request_fails_when_the_old_version_is_killed_after_a_switch(
    harbour: Harbour, client: aiohttp.ClientSession, directory: Path
) -> None:
    """2,000 requests over kept-alive connections; a third of them bodies, not to be repeated."""
    old = await start_version("old", directory / "old.sock")
    new = await start_version("new", directory / "new.sock")
    await harbour.router.point("my-app.localhost", Address.unix(directory / "old.sock"))
    under_way: set[int] = set()
    seen: list[tuple[bool, int, str]] = []
    switched = False
    numbers = iter(range(2_000))

    async def ask() -> None:
        for number in numbers:
            under_way.add(number)
            after = switched
            method, body = ("POST", b"x" * 5_000) if number % 3 == 0 else ("GET", None)
            async with client.request(
                method, harbour.url(), data=body, headers={"Host": "my-app.localhost"}
            ) as response:
                seen.append((after, response.status, await response.text()))
            under_way.discard(number)

    clients = [asyncio.create_task(ask()) for _ in range(16)]
    await until(lambda: len(seen) > 600)
    await harbour.router.point("my-app.localhost", Address.unix(directory / "new.sock"))
    switched = True
    before_the_switch = set(under_way)
    await until(lambda: not under_way & before_the_switch)
    old.kill()
    await old.wait()
    await asyncio.gather(*clients)
    new.kill()
    await new.wait()
    assert len(seen) == 2_000
    assert {status for _, status, _ in seen} == {200}
    assert {text for after, _, text in seen if after} == {"new"}
    assert {text for after, _, text in seen if not after} >= {"old"}


async def test_many_switches_lose_nothing(
    harbour: Harbour, app: App, client: aiohttp.ClientSession, directory: Path
) -> None:
    async with running("two", Address.unix(directory / "two.sock")) as other:
        seen: list[list[int]] = [[] for _ in range(4)]
        asking = True

        async def ask(answers: list[int]) -> None:
            while asking:
                answers.append((await get(client, harbour, "my-app.localhost"))[0])

        clients = [asyncio.create_task(ask(answers)) for answers in seen]
        for turn in range(200):
            target = other if turn % 2 == 0 else app
            before = [len(answers) for answers in seen]
            await harbour.router.point("my-app.localhost", target.address)
            # A request may last over one switch, not two: each client's must have ended.
            await until(lambda: all(len(a) > b for a, b in zip(seen, before, strict=True)))  # noqa: B023
        asking = False
        await asyncio.gather(*clients)
        assert {status for answers in seen for status in answers} == {200}


# The probe


async def test_probe_says_who_answered(harbour: Harbour, app: App, directory: Path) -> None:
    async def seen(host: str, path: str = "/") -> tuple[Answer, int | None]:
        found = await probe(harbour.port, host, timeout_seconds=DEADLINE_SECONDS, path=path)
        return found.answer, found.status

    assert await seen("my-app.localhost") == (Answer.APP, 200)
    assert await seen("my-app.localhost", "/broken") == (Answer.APP_ERROR, 503)
    assert await seen("nobody.localhost") == (Answer.FALLBACK, 404)
    await harbour.router.point("sick.localhost", Address.unix(directory / "nothing.sock"))
    assert await seen("sick.localhost") == (Answer.FALLBACK, 502)
    await harbour.proxy.stop()
    assert await seen("my-app.localhost") == (Answer.UNREACHABLE, None)


async def test_answers_waits_for_the_app_and_no_longer(
    harbour: Harbour, app: App, directory: Path
) -> None:
    assert await answers(harbour.port, "my-app.localhost", timeout_seconds=DEADLINE_SECONDS)
    assert not await answers(harbour.port, "nobody.localhost", timeout_seconds=0.1)
    assert not await answers(harbour.port, "my-app.localhost", path="/broken", timeout_seconds=0.1)
    late = asyncio.create_task(
        answers(harbour.port, "late.localhost", timeout_seconds=DEADLINE_SECONDS)
    )
    await asyncio.sleep(0)
    await harbour.router.point("late.localhost", app.address)
    assert await late


# The process


OWNER = """
import asyncio, sys
from pathlib import Path
from moorage.gateway.platform import find_tool
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import ProxySettings

async def main():
    run_dir, state_dir = Path(sys.argv[1]), Path(sys.argv[2])
    settings = ProxySettings(
        run_dir=run_dir, state_dir=state_dir, base_domain="localhost", http_port=0
    )
    print(await HAProxy(find_tool("haproxy"), settings).start(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_proxy_survives_its_owner_and_is_adopted(directory: Path) -> None:
    settings = ProxySettings(
        run_dir=directory / "run",
        state_dir=directory / "proxy",
        base_domain="localhost",
        http_port=0,
    )
    owner = await start_python(OWNER, str(settings.run_dir), str(settings.state_dir))
    assert owner.stdout is not None
    port = int(await owner.stdout.readline())
    (pid,) = running_proxies(settings)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    assert (
        await probe(port, "localhost", timeout_seconds=DEADLINE_SECONDS)
    ).answer is Answer.FALLBACK

    proxy = HAProxy(find_tool("haproxy"), settings)
    assert await proxy.start() == port
    assert proxy.alive()
    assert running_proxies(settings) == [pid]
    await proxy.stop()
    assert not proxy.alive()
    assert running_proxies(settings) == []


async def test_changed_configuration_replaces_the_running_proxy(harbour: Harbour) -> None:
    (before,) = running_proxies(harbour.settings)
    changed = replace(harbour.settings, listen_address="0.0.0.0", http_port=0)
    other = HAProxy(find_tool("haproxy"), changed)
    assert await other.start() == harbour.port
    await until(lambda: before not in running_proxies(harbour.settings))
    assert len(running_proxies(harbour.settings)) == 1
    assert not harbour.proxy.alive()
    assert other.alive()
    await other.stop()


async def test_proxy_with_another_configuration_refuses_nobody_and_ends_no_websocket(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    statuses: list[int] = []
    asking = True

    async def ask(method: str) -> None:
        while asking:
            headers = {"Host": "my-app.localhost"}
            async with client.request(method, harbour.url(), headers=headers) as response:
                statuses.append(response.status)

    (before,) = running_proxies(harbour.settings)
    asked = [asyncio.create_task(ask(method)) for method in ("GET", "POST") * 4]
    async with client.ws_connect(
        harbour.url("/socket"), headers={"Host": "my-app.localhost"}
    ) as open_before:
        for connections in (101, 102, 103):
            changed = replace(harbour.settings, visitor_connections=connections)
            seen = len(statuses)
            await HAProxy(find_tool("haproxy"), changed).start()
            await until(lambda: len(statuses) > seen + 50)  # noqa: B023
        await open_before.send_str("ahoy")
        assert await open_before.receive_str() == "one: ahoy"
        assert before in running_proxies(harbour.settings)
    asking = False
    await asyncio.gather(*asked)
    assert set(statuses) == {200}
    await until(lambda: before not in running_proxies(harbour.settings))


async def test_proxy_that_can_not_take_over_leaves_the_one_that_serves(
    harbour: Harbour, app: App, client: aiohttp.ClientSession, directory: Path
) -> None:
    running_before = running_proxies(harbour.settings)
    program = directory / "haproxy"
    program.write_text("#!/bin/sh\necho unknown keyword >&2\nexit 1\n")
    program.chmod(0o755)
    for _ in range(2):
        with pytest.raises(ProxyFailed, match=r"ended at once\. It printed: unknown keyword"):
            await HAProxy(program, harbour.settings).start()
        assert running_proxies(harbour.settings) == running_before
        assert await get(client, harbour, "my-app.localhost") == (200, "one")


async def test_proxy_in_a_removed_directory_is_replaced(harbour: Harbour) -> None:
    (before,) = running_proxies(harbour.settings)
    assert harbour.fallback is not None
    moved = harbour.settings.run_dir.with_name("gone")
    harbour.settings.run_dir.rename(moved)
    router = Router(harbour.settings.run_dir, "localhost")
    other = HAProxy(find_tool("haproxy"), harbour.settings)
    await other.start()
    assert running_proxies(harbour.settings) != [before]
    assert router.routes() == {}
    await other.stop()


async def test_recorded_proxy_is_ended_whatever_its_command_line_names(harbour: Harbour) -> None:
    """As where the data directory was moved, and another checkout's program is started on it."""
    (before,) = running_proxies(harbour.settings)
    moved = harbour.settings.state_dir.with_name("moved")
    harbour.settings.state_dir.rename(moved)
    run_dir = harbour.settings.run_dir.with_name("run2")
    program = moved.with_name("program")
    program.symlink_to(find_tool("haproxy"))
    other = HAProxy(program, replace(harbour.settings, state_dir=moved, run_dir=run_dir))
    assert await other.start() == harbour.port
    assert not Path(f"/proc/{before}").exists()
    await other.stop()


async def test_proxy_that_lost_its_record_is_found_and_replaced(harbour: Harbour) -> None:
    (before,) = running_proxies(harbour.settings)
    (harbour.settings.state_dir / "proxy.json").unlink()
    other = HAProxy(find_tool("haproxy"), harbour.settings)
    await other.start()
    (after,) = running_proxies(harbour.settings)
    assert after != before
    await other.stop()


async def test_port_is_kept_over_a_stop(harbour: Harbour) -> None:
    await harbour.proxy.stop()
    again = HAProxy(find_tool("haproxy"), replace(harbour.settings, http_port=0))
    assert await again.start() == harbour.port
    await again.stop()


async def test_killed_proxy_is_noticed_and_started_again(harbour: Harbour) -> None:
    (pid,) = running_proxies(harbour.settings)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not harbour.proxy.alive())
    assert await harbour.proxy.start() == harbour.port
    assert running_proxies(harbour.settings) not in ([], [pid])


async def test_taken_port_is_said(harbour: Harbour, directory: Path) -> None:
    other = HAProxy(
        find_tool("haproxy"),
        ProxySettings(
            run_dir=directory / "run2",
            state_dir=directory / "proxy2",
            base_domain="localhost",
            http_port=harbour.port,
        ),
    )
    with pytest.raises(ProxyFailed, match=f"port {harbour.port} is taken"):
        await other.start()


async def test_proxy_that_does_not_start_says_why(directory: Path) -> None:
    settings = ProxySettings(
        run_dir=directory / "run",
        state_dir=directory / "proxy",
        base_domain="localhost",
        http_port=0,
    )
    program = directory / "haproxy"
    program.write_text("#!/bin/sh\necho unknown flag >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(ProxyFailed, match=r"ended at once\. It printed: unknown flag"):
        await HAProxy(program, settings).start()
    program.chmod(0o644)
    with pytest.raises(ProxyFailed, match="does not start: no such program"):
        await HAProxy(program, settings).start()


async def test_stop_ends_open_streams_and_leaves_only_its_state(
    harbour: Harbour, app: App, client: aiohttp.ClientSession
) -> None:
    async with client.get(harbour.url("/stream"), headers={"Host": "my-app.localhost"}) as response:
        assert await response.content.readline() == b"data: first\n"
        await harbour.proxy.stop()
    assert running_proxies(harbour.settings) == []
    names = {path.name for path in harbour.settings.state_dir.iterdir()}
    assert names <= {
        "haproxy.cfg",
        "haproxy.out",
        "requests",
        "proxy.json",
    }
    for path in harbour.settings.state_dir.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
