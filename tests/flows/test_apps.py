"""Deployed apps of all manners, good and bad, as their visitors and their deployers see them."""

import asyncio
import re
from collections.abc import Iterator

import aiohttp
import pytest
from busy_app import BOUND_SECONDS, READY, node_app

from support.clients.raw_http import connected, request
from support.clients.visitor import address, fetch, host
from support.clients.wallet import HELLO, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

SHORT = {"build_seconds": "10", "listen_seconds": "12"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    directory = tmp_path_factory.mktemp("apps")
    with running(directory, requests_per_minute="100000") as started:
        yield started


@pytest.fixture(scope="module")
def hasty_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """One that gives apps little time: for those that will never be ready."""
    directory = tmp_path_factory.mktemp("hasty")
    settings = {"requests_per_minute": "100000", "refuse_secrets": "true", **SHORT}
    with running(directory, **settings) as started:
        yield started


# What becomes ready


@pytest.mark.parametrize("manner", READY)
async def test_ready_means_that_the_address_answers_at_that_moment(
    wallet: Wallet, manner: str
) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, READY[manner])
    async with asyncio.timeout(BOUND_SECONDS):
        while (status := (await wallet.status(deployed)).body)["status"] == "deploying":
            await asyncio.sleep(0.02)

    page = await fetch(wallet.gateway, name)

    assert status["status"] == "ready", status
    assert page.status < 500
    assert "X-Moorage" not in str(page.headers)
    assert ("message" in status) == ("another port" in manner)


THING = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "thing"
version = "1.0"
"""
BACKEND = """
import sys, zipfile
if sys.version_info >= (3, 12):  # as numba has it
    told = "Cannot install on Python version 3.13.5; only versions >=3.8,<3.12 are supported."
    raise RuntimeError(told)
INFO = {
    "METADATA": "Metadata-Version: 2.1\\nName: thing\\nVersion: 1.0\\n",
    "WHEEL": "Wheel-Version: 1.0\\nGenerator: a\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    "RECORD": "",
}
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("thing.py", "WORD = 'Python'")
        for file, text in INFO.items():
            wheel.writestr(f"thing-1.0.dist-info/{file}", text)
    return name
"""
TELLS_PYTHON = """
import http.server, os, sys, thing
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{thing.WORD} 3.{sys.version_info[1]}".encode())
http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


async def test_requirement_that_the_newest_python_lacks_is_tried_on_an_older_one_and_told(
    wallet: Wallet,
) -> None:
    files = {
        "requirements.txt": "./thing\n",
        "thing/pyproject.toml": THING,
        "thing/backend.py": BACKEND,
        "app.py": TELLS_PYTHON,
    }
    name = fresh_name()
    deployed = await wallet.deploy_paid(name, files)
    status = await wallet.settled(deployed)
    assert status["status"] == "ready", status
    assert (await wallet.visit(name))[1] == "Python 3.11"
    ids = deployed.body["projectId"], deployed.body["deploymentId"]
    shown = await wallet.call("GET", "/agent/projects/{}/deployments/{}".format(*ids))
    assert "It is tried again on Python 3.11" in shown.body["plan"]["because"][-1]


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
    assert "--loglevel" not in status["reason"]  # no line of the gateway's own
    assert SAID_IN_LOG.get(manner, "") in status.get("log_tail", "")
    page = await fetch(wallet.gateway, name)
    assert page.status >= 400
    listed = await wallet.call("GET", "/agent/projects")
    (project,) = listed.body["projects"]
    assert (project["status"], project["url"]) == ("failed", None)


# Through the proxy


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


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_reaches_the_app(
    gateway: DevGateway, busy_name: str, method: str
) -> None:
    page = await fetch(gateway, busy_name, "/headers", method=method)

    assert f'"method":"{method}"' in page.text


async def test_app_that_hangs_up_is_a_502_and_goes_on(gateway: DevGateway, busy_name: str) -> None:
    page = await fetch(gateway, busy_name, "/nothing")
    assert page.status in {502, 503}

    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(gateway, busy_name, "/cut")

    assert (await fetch(gateway, busy_name)).text == "busy"


def test_nothing_was_logged_as_a_fault(gateway: DevGateway, hasty_gateway: DevGateway) -> None:
    for each in (gateway, hasty_gateway):
        assert re.findall(r'"level": ?"(?:error|critical)".*|Traceback.*', each.log) == []
