"""What apps and their visitors do to the proxy that all share: a neighbour goes on being served."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from neighbour import Neighbour, settle

from moorage.process import find_running
from support.clients.visitor import fetch
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = pytest.mark.root

MIB = 1024 * 1024
DEADLINE_SECONDS = 120.0

# Ends when it is told to, and then takes its time.
SLOW_TO_START = """\
const fs = require('fs'), again = fs.existsSync('ended');
const server = require('http').createServer((request, response) => {
  if (request.url === '/end') { fs.writeFileSync('ended', ''); process.exit(1); }
  response.end('here');
});
setTimeout(() => server.listen(process.env.PORT), again ? SECONDS * 1000 : 0);
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    settings = {"requests_per_minute": "100000", "memory_reserve_mib": "1024"}
    with running(tmp_path_factory.mktemp("proxy"), **settings) as started:
        yield started


def proxy_pid(gateway: DevGateway) -> int | None:
    """The running proxy's process."""
    config = str(gateway.data_dir / "proxy" / "haproxy.cfg")
    found = find_running(("-db", "-f", config))
    return found[0].pid if found else None


async def deployed(wallet: Wallet, script: str) -> str:
    """The name of an app that is ready."""
    name = fresh_name()
    answer = await wallet.deploy_paid(name, {"index.js": script})
    assert (await wallet.settled(answer))["status"] == "ready"
    return name


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


addresses = (f"127.0.{high}.{low}" for high, low in itertools.product(range(1, 200), range(1, 250)))


@asynccontextmanager
async def asking(
    gateway: DevGateway, name: str, path: str, *, times: int, per_address: int
) -> AsyncIterator[list[asyncio.StreamReader]]:
    """So many requests over connections of their own, from so many addresses as it takes."""
    async with AsyncExitStack() as stack:
        readers = []
        for number in range(times):
            if number % per_address == 0:
                address = next(addresses)
            made = socket.socket()
            made.setblocking(False)
            made.bind((address, 0))
            try:
                loop = asyncio.get_running_loop()
                await loop.sock_connect(made, ("127.0.0.1", gateway.proxy_port))
                reader, writer = await asyncio.open_connection(sock=made)
            except BaseException:
                made.close()
                raise
            stack.push_async_callback(hang_up, writer)
            host = f"{name}.{gateway.info['base_domain']}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            readers.append(reader)
        yield readers


async def is_answered(neighbour: Neighbour) -> None:
    """Wait until the neighbour's app answers; until then nobody may be listening."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await neighbour.visit()
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
            else:
                return


def memory_limit(pid: int) -> int:
    """Of the control group that a process is in (cgroups(7))."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return int(Path(f"/sys/fs/cgroup/memory{path}/memory.limit_in_bytes").read_text())
        if controllers == "" and Path(f"/sys/fs/cgroup{path}/memory.max").exists():
            return int(Path(f"/sys/fs/cgroup{path}/memory.max").read_text())
    raise AssertionError("no group")


async def test_proxy_that_is_killed_is_back_in_a_group_of_its_own(gateway: DevGateway) -> None:
    """Half of the reserve is its memory, however it ended before."""
    neighbour = await settle(gateway)
    pid = proxy_pid(gateway)
    assert pid is not None
    assert 64 * MIB < memory_limit(pid) <= 512 * MIB
    os.kill(pid, signal.SIGKILL)
    await is_answered(neighbour)
    again = proxy_pid(gateway)
    assert again not in {None, pid}
    assert again is not None
    assert 64 * MIB < memory_limit(again) <= 512 * MIB


async def test_held_requests_keep_no_page_and_no_other_waking_away(gateway: DevGateway) -> None:
    """1,500 of three apps that begin to listen after half a minute."""
    neighbour = await settle(gateway)
    quick = await deployed(neighbour.wallet, SLOW_TO_START.replace("SECONDS", "0"))
    attacker = await Wallet(gateway).fund()
    slow = [await deployed(attacker, SLOW_TO_START.replace("SECONDS", "30")) for _ in range(3)]
    for name in slow:
        assert (await fetch(gateway, name)).status == 200
    async with neighbour.unharmed(), AsyncExitStack() as held:
        for name in slow:
            await fetch(gateway, name, "/end", method="POST")  # a GET would be sent once more
            requests = asking(gateway, name, "/", times=500, per_address=200)
            await held.enter_async_context(requests)
        for _ in range(3):  # the fourth restart of an app is too far off to be waited for
            assert (await fetch(gateway, fresh_name())).status == 404
            await fetch(gateway, quick, "/end", method="POST")
            assert (await fetch(gateway, quick)).status == 200
