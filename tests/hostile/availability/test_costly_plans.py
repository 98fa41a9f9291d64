"""Uploads that are made to be slow to read: refused, while everybody else goes on being served."""

import asyncio
import base64
import io
import os
import zipfile
from collections.abc import Iterator, Mapping
from json import dumps
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from neighbour import settle

from support.clients.wallet import Answer, Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

PACKAGES = {f"p{number}/package.json": "{}" for number in range(199)}
MANY_PARTS = ".".join(["a"] * 32_000) + " = 1"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    with running(tmp_path_factory.mktemp("costly"), requests_per_minute="100000") as started:
        yield started


def zipped(files: Mapping[str, str]) -> dict[str, str]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return {"type": "zip", "data": base64.b64encode(buffer.getvalue()).decode()}


def listed(files: Mapping[str, str]) -> dict[str, Any]:
    found = [
        {"path": path, "content": base64.b64encode(text.encode()).decode()}
        for path, text in files.items()
    ]
    return {"type": "files", "files": found}


COSTLY: dict[str, dict[str, Any]] = {
    "key of 32,000 parts": listed({"Cargo.toml": MANY_PARTS}),
    "such keys in members of a workspace, zipped": zipped(
        {"Cargo.toml": "[workspace]", **{f"m{n}/Cargo.toml": MANY_PARTS for n in range(100)}}
    ),
    "comment of JSON that is never closed": listed({"deno.json": "/*a" * 21_000}),
    "string of JSON that is never closed": listed({"deno.json": '"' + '\\"' * 32_700}),
    "workspaces of a megabyte": listed(
        {"package.json": dumps({"workspaces": ["/".join(["a"] * 500_000)]}), **PACKAGES}
    ),
    "workspaces at any depth at any depth": listed(
        {"package.json": dumps({"workspaces": ["/".join(["**"] * 100_000)]}), **PACKAGES}
    ),
}


REFUSED = ("plan_too_costly", "upload_invalid", "plan_not_found", "planners_busy")


async def quoted(gateway: DevGateway, upload: dict[str, Any], **others: Any) -> Answer:
    """What a wallet without money is answered, for which no plan costs a thing."""
    body = {"uniqueName": fresh_name(), "displayName": "x", "upload": upload, **others}
    return await Wallet(gateway).call("POST", "/agent/quote", json=body)


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


async def test_costly_uploads_are_refused_and_harm_nobody(gateway: DevGateway) -> None:
    neighbour = await settle(gateway)
    before = resident_bytes(gateway.pid)
    async with neighbour.unharmed():
        answers = await asyncio.gather(*(quoted(gateway, upload) for upload in COSTLY.values()))
    for name, answer in zip(COSTLY, answers, strict=True):
        assert answer.status == 200 or answer.body["code"] in REFUSED, (name, answer.body)
    assert resident_bytes(gateway.pid) < before + 64 * 1024**2


async def test_bodies_that_are_slow_to_parse_harm_nobody(gateway: DevGateway) -> None:
    neighbour = await settle(gateway)
    brackets = '{"x":[' + "[]," * 340_000 + "[]]}"
    exploding = {f"{number}/" + "\ufdfa" * 60: "1" for number in range(4_000)}
    numbers = '{"x":[' + "1.5e300," * 120_000 + "1]}"
    escapes = '{"x":[' + '"\\n",' * 200_000 + "1]}"
    bodies = [brackets, dumps({"upload": listed(exploding)}, ensure_ascii=False), numbers, escapes]
    async with neighbour.unharmed():
        answers = await asyncio.gather(*(sent(gateway, body.encode()) for body in bodies))
    assert [answer.status for answer in answers] == [400] * len(bodies)


async def test_large_archives_of_strangers_take_turns_with_small_ones(gateway: DevGateway) -> None:
    """24 archives of one address that unpack to 240 MiB each; meanwhile a small one of another."""
    block = os.urandom(12_000).hex() + " " * (1024**2 - 24_000)
    large = zipped({f"f{number}": block for number in range(240)})
    small = zipped({"index.js": "1"})
    under_way = [
        asyncio.create_task(sent(gateway, body_of(large), address="127.0.1.1")) for _ in range(24)
    ]
    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
    answer = await sent(gateway, body_of(small), address="127.0.1.2")
    assert answer.status == 200
    unpacked = [task.result() for task in under_way if task.done()]
    assert sum(answer.body["code"] == "plan_not_found" for answer in unpacked) < 4
    codes = [(await task).body["code"] for task in under_way]
    told = {"plan_not_found", "planners_busy", "too_many_uploads"}  # no app in them
    assert {"plan_not_found"} < set(codes) <= told


def body_of(upload: dict[str, Any]) -> bytes:
    return dumps({"uniqueName": fresh_name(), "displayName": "x", "upload": upload}).encode()


async def sent(gateway: DevGateway, data: bytes, *, address: str = "127.0.0.1") -> Answer:
    """What a wallet that nobody knows is answered, from an address of its own."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=(address, 0))) as session,
        session.post(
            f"{gateway.url}/agent/quote",
            data=io.BytesIO(data),
            headers=Wallet(gateway).signed() | {"Content-Type": "application/json"},
        ) as response,
    ):
        return Answer(response.status, await response.json(), response.headers)
