"""No body holds up the gateway's loop, whatever operation it is sent to, however large it is."""

import asyncio
import contextlib
import hashlib
import io
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import aiohttp
import pytest

from moorage.api.operations import OPERATIONS
from moorage.pages.sessions.session import csrf_of
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = [pytest.mark.root, pytest.mark.long]

LONGEST_SECONDS = 0.05
KIBIBYTE = 1024
ANYWHERE = (15 * KIBIBYTE, 63 * KIBIBYTE)
"""Just below what most operations take, and what is parsed in the loop at the most."""
HUGE = 50 * KIBIBYTE**2
MCP_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
WITH_BODY = [each for each in OPERATIONS if each.body is not None]


def filled(piece: str, size: int) -> str:
    return piece * (size // len(piece.encode()))


def members(size: int) -> str:
    return ",".join(f'"k{number:05}":1' for number in range(size // 11))


def worst(size: int) -> dict[str, str]:
    """JSON objects of about so many bytes, each slow to parse in its own way."""
    deep = min(size // 2, 5_000)
    return {
        "keys": "{" + members(size) + "}",
        "one key again and again": '{"a":1' + filled(',"a":1', size) + "}",
        "arrays": in_a("[" + filled("[],", size) + "1]"),
        "depth": in_a("[" * deep + "]" * deep),
        "text": in_a('"' + filled("x", size) + '"'),
        "escapes": in_a('"' + filled("\\u00e9", size) + '"'),
        "numbers": in_a("[" + filled("1.5e300,", size) + "1]"),
        "long numbers": in_a("[" + filled("9" * 4_000 + ",", size) + "1]"),
        "characters": in_a('"' + filled("\U0001f6a2", size) + '"'),
        "files": of_files(filled('{"path":"a","content":""},', size) + "{}"),
        "paths": of_files('{"path":"' + filled("a/", size) + '","content":""}'),
        "variables": '{"runEnvs":{' + members(size).replace(":1", ':"1"') + "}}",
    }


def in_a(value: str) -> str:
    return '{"a":' + value + "}"


def of_files(files: str) -> str:
    upload = '{"type":"files","files":[' + files + "]}"
    return '{"uniqueName":"shop","displayName":"x","upload":' + upload + "}"


class Measured:
    """A gateway that notes how long its loop is at work at a stretch."""

    def __init__(self, gateway: DevGateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session
        self.longest: dict[str, float] = {}
        self._noted = gateway.data_dir / "stretches"

    async def send(self, name: str, method: str, path: str, data: Any, **headers: str) -> None:
        """One request; what its answer is does not count here, but what it costs."""
        before = self._noted.stat().st_size
        data = io.BytesIO(data) if isinstance(data, bytes) else data
        with contextlib.suppress(aiohttp.ClientError):  # it was refused before all was sent
            async with self.session.request(
                method, self.gateway.url + path, data=data, headers=headers, allow_redirects=False
            ) as response:
                assert response.status < 500 or response.status == 503, await response.text()
                await response.read()
        async with self.session.get(f"{self.gateway.url}/health") as response:
            assert response.status == 200
        noted = self._noted.read_text()[before:].split()
        what = f"{method} {path}: {name}"
        self.longest[what] = max([*map(float, noted), self.longest.get(what, 0.0)])

    def assert_short(self) -> None:
        slow = {name: taken for name, taken in self.longest.items() if taken >= LONGEST_SECONDS}
        assert self.longest
        assert slow == {}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    program = (sys.executable, str(Path(__file__).with_name("measured_gateway.py")))
    directory = tmp_path_factory.mktemp("measured")
    with running(directory, program=program, requests_per_minute="100000") as started:
        yield started


@pytest.fixture
async def measured(gateway: DevGateway) -> AsyncIterator[Measured]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield Measured(gateway, session)


@pytest.fixture(scope="module")
def owner(gateway: DevGateway) -> "Owner":
    return Owner(gateway)


class Owner:
    """A wallet that paid, with a project: most operations read a body for such a one alone."""

    def __init__(self, gateway: DevGateway) -> None:
        self.wallet = Wallet(gateway)
        self.project_id = ""

    async def settle(self) -> None:
        if self.project_id:
            return
        await self.wallet.fund()
        deployed = await self.wallet.deploy_paid(fresh_name())
        await self.wallet.settled(deployed)
        self.project_id = deployed.body["projectId"]

    def path(self, template: str, data: bytes) -> str:
        """An operation's path; one with another parameter has to be taken in here."""
        digest = hashlib.sha256(data).hexdigest()
        return template.format(projectId=self.project_id, offerId="none", sha256=digest)


async def test_worst_small_body_of_every_operation_is_parsed_in_no_time(
    measured: Measured, owner: Owner
) -> None:
    await owner.settle()
    for operation in WITH_BODY:
        for size in ANYWHERE:
            for name, text in worst(size).items():
                data = text.encode()
                signed = owner.wallet.signed() if operation.signed else {}
                path = owner.path(operation.path, data)
                await measured.send(f"{name} {size}", operation.method, path, data, **signed)
    measured.assert_short()


async def in_pieces(start: bytes, piece: bytes, end: bytes) -> AsyncIterator[bytes]:
    yield start
    for _ in range(HUGE // len(piece)):
        yield piece
    yield end


HUGE_BODIES = {
    "keys": (b"{", (members(64 * KIBIBYTE) + ",").encode(), b'"z":1}'),
    "arrays": (b'{"a":[', filled("[],", 64 * KIBIBYTE).encode(), b"1]}"),
    "text": (b'{"a":"', b"x" * 64 * KIBIBYTE, b'"}'),
    "escaped content": (
        b'{"upload":{"type":"zip","data":"',
        filled("\\u0041", 64 * KIBIBYTE).encode(),
        b'"}}',
    ),
}


@pytest.mark.parametrize("name", HUGE_BODIES)
async def test_worst_huge_body_of_every_operation_is_refused_or_read_in_pieces(
    measured: Measured, owner: Owner, name: str
) -> None:
    await owner.settle()
    for operation in WITH_BODY:
        signed = owner.wallet.signed() if operation.signed else {}
        path, body = owner.path(operation.path, b""), in_pieces(*HUGE_BODIES[name])
        await measured.send(name, operation.method, path, body, **signed)
    await measured.send(name, "POST", "/mcp", in_pieces(*HUGE_BODIES[name]), **MCP_HEADERS)
    measured.assert_short()


@pytest.mark.parametrize("era", ["", "2026-07-28"])
async def test_worst_call_of_a_tool_is_read_in_no_time(measured: Measured, era: str) -> None:
    headers = MCP_HEADERS | (
        {"MCP-Protocol-Version": era, "MCP-Method": "tools/call"} if era else {}
    )
    listing = json.dumps(CALL | {"method": "tools/list"})
    await measured.send("first", "POST", "/mcp", listing, **headers)  # loads the library
    measured.longest.clear()
    for size in (1_900 * 11, 63 * KIBIBYTE, 500 * KIBIBYTE):
        for name, text in worst(size).items():
            for tool in ("quote", "set_variables"):
                arguments = f'{{"name":"{tool}","arguments":{text}}}'
                meta = f'{{"name":"{tool}","_meta":{text},"arguments":{{}}}}'
                envelope = json.dumps(CALL)[:-1]
                for params in (arguments, meta):
                    body = f'{envelope},"params":{params}}}'.encode()
                    await measured.send(f"{name} {size}", "POST", "/mcp", body, **headers)
            await measured.send(f"{name} {size}, alone", "POST", "/mcp", text.encode(), **headers)
    measured.assert_short()


def forms(size: int) -> dict[str, bytes]:
    """Forms of about so many bytes, each slow to read in its own way."""
    lines = {
        "quote that nothing closes": b'A="' + b"\n" * size,
        "spaces": b"A=x" + b" " * size + b"y",
        "lines": b"\n".join(b"A%d=1" % number for number in range(size // 8)),
    }
    return {
        "escapes": b"pasted=" + b"%41" * (size // 3),
        "broken escapes": b"pasted=" + b"%" * size,
        "fields": b"&".join(b"f%d=1" % number for number in range(2_000)),
        **{name: b"pasted=" + quote_from_bytes(text).encode() for name, text in lines.items()},
        **{
            f"{name}, unescaped": b"pasted=" + text.replace(b" ", b"+")
            for name, text in lines.items()
        },
    }


async def test_worst_form_of_a_page_is_read_in_no_time(measured: Measured, owner: Owner) -> None:
    await owner.settle()
    made = await owner.wallet.call_bound("POST", "/agent/links", json={"once": True})
    own_page = {"Sec-Fetch-Site": "same-origin"}
    async with measured.session.post(
        made.body["url"], headers=own_page, allow_redirects=False
    ) as opened:
        secret = opened.cookies["moorage"].value
    headers = own_page | {"Content-Type": "application/x-www-form-urlencoded"}
    signed_in = headers | {"Cookie": f"moorage={secret}"}
    token = b"&csrf=" + csrf_of(secret).encode()
    variables = f"/wallet/projects/{owner.project_id}/variables"
    await measured.send("first", "POST", variables, b"pasted=A" + token, **signed_in)
    await measured.send("first", "POST", variables, b"pasted=A", **headers)
    measured.longest.clear()  # templates are compiled once
    for size in (20 * KIBIBYTE, 63 * KIBIBYTE, 500 * KIBIBYTE):
        for name, form in forms(size).items():
            told = f"{name} {size}"
            await measured.send(told, "POST", variables, form + token, **signed_in)
            await measured.send(f"{told}, signed out", "POST", variables, form, **headers)
            for door in ("/sign-in", "/sign-in/text"):
                await measured.send(told, "POST", door, form, **headers)
    measured.assert_short()


async def test_bodies_of_one_address_hold_up_nobody_at_another(
    measured: Measured, gateway: DevGateway
) -> None:
    """Eight connections of one address send calls that are slow to read; another one asks on."""
    bodies = [
        f'{json.dumps(CALL)[:-1]},"params":{{"name":"quote","arguments":{text}}}}}'.encode()
        for text in worst(480 * KIBIBYTE).values()
    ]
    over = asyncio.Event()

    async def attack(number: int) -> None:
        connector = aiohttp.TCPConnector(local_addr=("127.0.9.1", 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            while not over.is_set():
                body = bodies[number % len(bodies)]
                number += 1
                async with session.post(
                    f"{gateway.url}/mcp", data=io.BytesIO(body), headers=MCP_HEADERS
                ) as response:
                    await response.read()

    wallet = Wallet(gateway)
    attacks = [asyncio.create_task(attack(number)) for number in range(8)]
    for _ in range(20):
        signed = wallet.signed()
        await measured.send("a neighbour's", "GET", "/agent/projects", None, **signed)
        await measured.send("a neighbour's", "GET", "/agent/chains", None)
    over.set()
    await asyncio.gather(*attacks)
    measured.assert_short()
