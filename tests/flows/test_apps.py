"""Deployed apps of all manners, good and bad, as their visitors and their deployers see them."""

import asyncio
import base64
import hashlib
import io
import re
import zipfile
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from gateway_fixture import DevGateway, running
from raw_http import connected, request
from visitor import address, fetch, host
from waiting import until
from wallet import HELLO, Wallet, fresh_name

pytestmark = pytest.mark.root

MIB = 1024 * 1024
SHORT = {"build_seconds": "10", "listen_seconds": "6", "healthy_seconds": "4"}
BOUND_SECONDS = 120  # far beyond what anything here takes

BUSY = r"""
const http = require('http'), crypto = require('crypto');
let held = [];
http.createServer(async (q, s) => {
  const path = q.url.split('?')[0];
  if (path === '/headers') return s.end(JSON.stringify({ method: q.method, headers: q.headers }));
  if (path === '/held') return held.push(s);
  if (path === '/events') {
    s.writeHead(200, { 'Content-Type': 'text/event-stream' });
    s.write('data: one\n\n');
    return held.push({ end: () => s.end('data: two\n\n') });
  }
  if (path === '/release') { held.splice(0).forEach((h) => h.end('released')); return s.end(); }
  if (path === '/cut') {
    s.writeHead(200, { 'Content-Length': 100 });
    return s.write('half', () => s.destroy());
  }
  if (path === '/big') return s.end(Buffer.alloc(20e6));
  if (path === '/nothing') return s.destroy();
  if (path === '/large-head') { s.setHeader('X-Large', 'a'.repeat(7000)); return s.end('large'); }
  if (path === '/upload') {
    const hash = crypto.createHash('sha256');
    let size = 0;
    for await (const piece of q) { size += piece.length; hash.update(piece); }
    return s.end(`${size} ${hash.digest('hex')}`);
  }
  if (path === '/teapot') { s.statusCode = 418; return s.end('teapot'); }
  if (path === '/broken') { s.statusCode = 500; return s.end('my own error'); }
  s.end('busy');
}).on('upgrade', (q, socket) => {
  const key = q.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
  const accept = crypto.createHash('sha1').update(key).digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n' +
    `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
  let come = Buffer.alloc(0);  // short text frames, in whatever pieces: unmasked, in upper case
  socket.on('data', (piece) => {
    come = Buffer.concat([come, piece]);
    while (come.length >= 6 && come.length >= 6 + (come[1] & 127)) {
      const frame = come.subarray(0, 6 + (come[1] & 127));
      come = come.subarray(frame.length);
      if ((frame[0] & 15) !== 1) return socket.end();
      const text = frame.subarray(6).map((byte, at) => byte ^ frame[2 + (at & 3)]).toString();
      const head = Buffer.from([129, text.length]);
      socket.write(Buffer.concat([head, Buffer.from(text.toUpperCase())]));
    }
  });
}).listen(process.env.PORT);
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("apps")
    with running(directory, requests_per_minute="100000") as started:
        yield started


@pytest.fixture(scope="module")
def hasty_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """One that gives apps little time: for those that will never be ready."""
    directory = tmp_path_factory.mktemp("hasty")
    with running(directory, requests_per_minute="100000", **SHORT) as started:
        yield started


@pytest.fixture
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


@pytest.fixture(scope="module")
def busy_name(gateway: DevGateway) -> str:
    """A deployed app with a path for each manner."""
    name = fresh_name()
    asyncio.run(deploy_busy(gateway, name))
    return name


async def deploy_busy(gateway: DevGateway, name: str) -> None:
    wallet = await Wallet(gateway).fund()
    status = await wallet.settled(await wallet.deploy_paid(name, {"index.js": BUSY}))
    assert status["status"] == "ready", status


def node_app(handler: str, *, listen: str = "process.env.PORT") -> dict[str, str]:
    return {"index.js": f"require('http').createServer((q, s) => {{{handler}}}).listen({listen})"}


# What becomes ready


READY = {
    "answers": node_app("s.end('hello')"),
    "redirects": node_app("s.writeHead(302, {Location: '/login'}); s.end()"),
    "asks for a password": node_app("s.statusCode = 401; s.end()"),
    "has no start page": node_app("s.statusCode = 404; s.end()"),
    "listens late": {"index.js": f"setTimeout(() => {{{node_app('s.end()')['index.js']}}}, 1500)"},
    "fails at first": node_app(
        "s.statusCode = (global.n = (global.n || 0) + 1) > 2 ? 200 : 503; s.end()"
    ),
    "binds ::": node_app("s.end()", listen="{port: process.env.PORT, host: '::'}"),
    "binds ::1": node_app("s.end()", listen="{port: process.env.PORT, host: '::1'}"),
    "binds 127.0.0.1": node_app("s.end()", listen="{port: process.env.PORT, host: '127.0.0.1'}"),
    "binds another port": node_app("s.end()", listen="4567"),
    "binds another port at ::1": node_app("s.end()", listen="{port: 4568, host: '::1'}"),
    "python": {
        "requirements.txt": "",
        "main.py": "import http.server, os\n"
        "handler = http.server.SimpleHTTPRequestHandler\n"
        "http.server.ThreadingHTTPServer(('', int(os.environ['PORT'])), handler).serve_forever()\n",
    },
    "static": {"index.html": "<h1>hello</h1>"},
    "static below a folder": {"site/index.html": "<h1>hello</h1>"},
    "builds": {
        "package.json": '{"scripts": {"build": "cp template.js made.js", "start": "node made.js"}}',
        "template.js": HELLO["index.js"],
    },
}


@pytest.mark.parametrize("manner", READY)
async def test_ready_means_that_the_address_answers_at_that_moment(
    wallet: Wallet, manner: str
) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, READY[manner])
    async with asyncio.timeout(BOUND_SECONDS):
        while (status := (await wallet.status(deployed)).body)["status"] == "deploying":
            pass

    page = await fetch(wallet.gateway, name)

    assert status["status"] == "ready", status
    assert page.status < 500
    assert "X-Moorage" not in str(page.headers)
    assert ("message" in status) == ("another port" in manner)


async def test_eight_apps_at_once_are_each_there_when_they_are_ready(gateway: DevGateway) -> None:
    async def deploy_and_visit(wallet: Wallet) -> str:
        name = fresh_name()
        deployed = await wallet.deploy_paid(name, node_app(f"s.end('{name}')"))
        while (await wallet.status(deployed)).body["status"] == "deploying":
            pass
        page = await fetch(gateway, name)
        assert page.text == name
        return name

    wallets = [await Wallet(gateway).fund() for _ in range(8)]

    async with asyncio.timeout(BOUND_SECONDS):
        names = await asyncio.gather(*(deploy_and_visit(wallet) for wallet in wallets))

    assert len(set(names)) == 8


async def test_redeploy_answers_when_it_is_ready_and_turns_nobody_away(wallet: Wallet) -> None:
    name = fresh_name()
    await wallet.settled(await wallet.deploy_paid(name, node_app("s.end('0')")))
    seen: list[str] = []

    async def visit_without_end() -> None:
        while True:
            page = await fetch(wallet.gateway, name)
            assert page.status == 200, page
            seen.append(page.text)

    async def until_seen(version: str) -> None:
        await until(lambda: version in seen or any(visitor.done() for visitor in visitors))

    visitors = [asyncio.create_task(visit_without_end()) for _ in range(3)]
    await until_seen("0")
    for version in "12345":
        deployed = await wallet.deploy(name, node_app(f"s.end('{version}')"))
        assert (await wallet.settled(deployed))["status"] == "ready"
        assert (await fetch(wallet.gateway, name)).text == version
        await until_seen(version)
    for visitor in visitors:
        assert not visitor.done(), visitor.result()
        visitor.cancel()

    assert set(seen) >= set("012345")


async def test_zip_of_a_python_app_deploys(wallet: Wallet) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in READY["python"].items():
            archive.writestr(f"project/{path}", text)
    data = base64.b64encode(packed.getvalue()).decode()
    name = fresh_name()

    deployed = await wallet.deploy_paid(
        name, upload={"type": "zip", "data": data, "filename": "project.zip"}
    )

    assert (await wallet.settled(deployed))["status"] == "ready"
    assert "requirements.txt" in (await fetch(wallet.gateway, name)).text


# What fails, and what is said


FAILING = {
    "answers 500": (node_app("s.statusCode = 500; s.end()"), "unhealthy", "500"),
    "never answers": (node_app(""), "unhealthy", "GET /"),
    "speaks no HTTP": (
        {
            "index.js": "require('net').createServer((s) => s.end('220 mail\\r\\n'))"
            ".listen(process.env.PORT)"
        },
        "unhealthy",
        "HTTP",
    ),
    "never listens": ({"index.js": "setInterval(() => {}, 1000)"}, "port_not_bound", "PORT"),
    "ends at once": ({"index.js": "console.log('bye')"}, "crashed", "0"),
    "throws": ({"index.js": "throw new Error('no such thing')"}, "crashed", "1"),
    "eats memory": (
        {"index.js": "const a = []; for (;;) a.push(Buffer.alloc(8e6, 1))"},
        "out_of_memory",
        "512",
    ),
    "cannot build": (
        HELLO | {"package.json": '{"scripts": {"build": "echo not today; exit 7"}}'},
        "build_failed",
        "7",
    ),
    "builds for ever": (
        HELLO | {"package.json": '{"scripts": {"build": "echo started; sleep 600"}}'},
        "build_timeout",
        "10 s",
    ),
    "needs what there is not": (
        HELLO | {"package.json": '{"dependencies": {"moorage-no-such-package-x": "1.0.0"}}'},
        "install_failed",
        "npm",
    ),
}
OUT_OF_TIME = {"unhealthy", "port_not_bound", "build_timeout"}
SAID_IN_LOG = {
    "throws": "no such thing",
    "ends at once": "bye",
    "cannot build": "not today",
    "builds for ever": "started",
    "needs what there is not": "moorage-no-such-package-x",
}


@pytest.mark.parametrize("manner", FAILING)
async def test_failure_says_what_happened_and_what_to_do(
    gateway: DevGateway, hasty_gateway: DevGateway, manner: str
) -> None:
    files, code, word = FAILING[manner]
    wallet = await Wallet(hasty_gateway if code in OUT_OF_TIME else gateway).fund()
    name = fresh_name()
    status = await wallet.settled(await wallet.deploy_paid(name, files))

    assert (status["status"], status.get("reason_code")) == ("failed", code), status
    assert word in status["reason"], status
    assert len(status["reason"]) > 30
    assert SAID_IN_LOG.get(manner, "") in status.get("log_tail", "")
    page = await fetch(wallet.gateway, name)
    assert page.status >= 400
    listed = await wallet.call("GET", "/agent/projects")
    (project,) = listed.body["projects"]
    assert (project["status"], project["url"]) == ("failed", None)


# Through the proxy


async def test_websocket_goes_through(gateway: DevGateway, busy_name: str) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(address(gateway), headers=host(gateway, busy_name)) as socket,
    ):
        for word in ("hello", "again"):
            await socket.send_str(word)
            assert await socket.receive_str(timeout=BOUND_SECONDS) == word.upper()


async def test_server_sent_events_arrive_one_by_one(gateway: DevGateway, busy_name: str) -> None:
    async with (
        asyncio.timeout(BOUND_SECONDS),
        aiohttp.ClientSession() as session,
        session.get(address(gateway, "/events"), headers=host(gateway, busy_name)) as stream,
    ):
        assert stream.content_type == "text/event-stream"
        assert await stream.content.readuntil(b"\n\n") == b"data: one\n\n"
        await fetch(gateway, busy_name, "/release")
        assert await stream.content.readuntil(b"\n\n") == b"data: two\n\n"


async def test_slow_answers_are_waited_for_and_hold_nobody_up(
    gateway: DevGateway, busy_name: str
) -> None:
    waiting = [asyncio.create_task(fetch(gateway, busy_name, "/held")) for _ in range(50)]
    assert (await fetch(gateway, busy_name)).text == "busy"

    async with asyncio.timeout(BOUND_SECONDS):
        while not all(task.done() for task in waiting):
            await fetch(gateway, busy_name, "/release")

    assert {task.result().text for task in waiting} == {"released"}


async def test_visitors_that_hang_up_amid_an_answer_harm_nobody(
    gateway: DevGateway, busy_name: str
) -> None:
    held = asyncio.create_task(fetch(gateway, busy_name, "/held"))
    for _ in range(30):
        async with connected(address(gateway)) as connection:
            await connection.send(request("GET", "/big", host(gateway, busy_name).items()))
            await connection.first_bytes()
            connection.writer.transport.abort()

    async with asyncio.timeout(BOUND_SECONDS):
        while not held.done():
            assert (await fetch(gateway, busy_name, "/release")).status == 200
    assert held.result().text == "released"


async def test_hundred_megabytes_reach_the_app(gateway: DevGateway, busy_name: str) -> None:
    piece = bytes(range(256)) * (MIB // 256)
    digest = hashlib.sha256()
    for _ in range(100):
        digest.update(piece)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield piece

    page = await fetch(gateway, busy_name, "/upload", method="PUT", data=pieces())

    assert page.text == f"{100 * MIB} {digest.hexdigest()}"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_reaches_the_app(
    gateway: DevGateway, busy_name: str, method: str
) -> None:
    page = await fetch(gateway, busy_name, "/headers", method=method)

    assert f'"method":"{method}"' in page.text


async def test_app_sees_its_own_host_and_the_true_client(
    gateway: DevGateway, busy_name: str
) -> None:
    forged = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Real-Ip": "203.0.113.7",
        "Forwarded": "for=203.0.113.7",
    }
    page = await fetch(gateway, busy_name, "/headers", headers=forged)

    assert "203.0.113.7" not in page.text
    assert "evil.example" not in page.text
    assert f'"host":"{busy_name}.localhost' in page.text


@pytest.mark.parametrize(("path", "status"), [("/teapot", 418), ("/broken", 500)])
async def test_apps_own_errors_are_its_own(
    gateway: DevGateway, busy_name: str, path: str, status: int
) -> None:
    page = await fetch(gateway, busy_name, path)

    assert page.status == status
    assert page.text in {"teapot", "my own error"}


async def test_app_that_hangs_up_is_a_502_and_goes_on(gateway: DevGateway, busy_name: str) -> None:
    page = await fetch(gateway, busy_name, "/nothing")
    assert page.status in {502, 503}

    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(gateway, busy_name, "/cut")

    assert (await fetch(gateway, busy_name)).text == "busy"


async def test_large_heads_pass_up_to_a_bound(gateway: DevGateway, busy_name: str) -> None:
    assert (await fetch(gateway, busy_name, "/large-head")).text == "large"
    kept = await fetch(gateway, busy_name, "/headers", headers={"X-Large": "a" * 7_000})
    assert "a" * 7_000 in kept.text

    async with connected(address(gateway)) as connection:
        head = request("GET", "/", [*host(gateway, busy_name).items(), ("X-L", "a" * 200_000)])
        await connection.send(head)
        assert (await connection.answer()).status == 431

    assert (await fetch(gateway, busy_name)).text == "busy"


@pytest.mark.parametrize(
    "name",
    [
        b"nobody.localhost",
        b"..",
        b"../../etc.localhost",
        b"a/b.localhost",
        b"%2e%2e.localhost",
        b"a.b.localhost",
        b"-.localhost",
        b"[::1]",
        b"127.0.0.1",
        b"x" * 300 + b".localhost",
        b"nobody.example.com",
        b"\xc3\xa9.localhost",
        b"*.localhost",
    ],
)
async def test_hosts_of_nobody_are_told_so(gateway: DevGateway, name: bytes) -> None:
    async with connected(address(gateway)) as connection:
        await connection.send(request("GET", "/", [("Host", name), ("Accept", "application/json")]))
        answer = await connection.answer()

    assert answer.status in {400, 404}
    if answer.status == 404:
        assert {"error", "code", "retryable"} <= set(answer.json)


async def test_name_in_any_letter_case_leads_to_the_app(
    gateway: DevGateway, busy_name: str
) -> None:
    async with connected(address(gateway)) as connection:
        upper = f"{busy_name}.LOCALHOST:80".upper()
        await connection.send(request("GET", "/teapot", [("Host", upper)]))
        answer = await connection.answer()

    assert answer.status == 308
    assert answer.header("location") == f"http://{busy_name}.localhost:80/teapot"


def test_nothing_was_logged_as_a_fault(gateway: DevGateway, hasty_gateway: DevGateway) -> None:
    for each in (gateway, hasty_gateway):
        assert re.findall(r'"level": ?"(?:error|critical)".*|Traceback.*', each.log) == []
