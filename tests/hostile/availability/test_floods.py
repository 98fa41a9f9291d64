"""Floods of the proxy, from one address and from sixty: a neighbour's visitor is answered."""

import asyncio
import json
import os
import re
import ssl
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from moorage.address import Address
from moorage.gateway.platform import find_tool
from moorage.process import find_running
from moorage.routing.haproxy import HAProxy
from moorage.routing.haproxy_config import ProxySettings
from moorage.routing.router import Router
from support.gateway.ports import quiet_port
from support.gateway.self_signed import self_signed
from support.gateway.waiting import until

HERE = Path(__file__).parent
MIB = 1024 * 1024
MEMORY_BYTES = 400 * MIB
NEIGHBOUR, FLOODED = "neighbour.localhost", "flooded.localhost"
VISITOR = "127.0.1.1"

FLOOD_SECONDS = int(os.environ.get("FLOOD_SECONDS", "3"))
QUIET_VISITS = 20
PAUSE_SECONDS = 0.05
LONGEST_SECONDS = 10.0  # of one answer: whoever waits longer was not served
EACH_OPENS = 5  # of so many questions, one is asked over a new connection

# How many connections a flood has.
FLOODS = {
    "streams": 110,
    "resets": 20,
    "continuations": 20,
    "settings": 20,
    "pings": 20,
    "slow-heads": 600,
    "slow-bodies": 600,
    "slow-reads": 300,
    "small-windows": 20,
    "idle": 10_000,
    "idle-tls": 600,
    "hints": 30,
    "never": 600,
    "forever": 30,
    "unread-bodies": 100,
}
ENDED = {"resets", "continuations"}  # by the proxy, connection by connection


@contextmanager
def app() -> Iterator[Address]:
    """An app in a process of its own, see `flooded_app`."""
    with subprocess.Popen(
        [sys.executable, HERE / "flooded_app.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield Address(f"127.0.0.1:{int(process.stdout.readline())}")
        process.kill()


@dataclass
class Flooded:
    """A proxy before two apps, and what its visitor has seen."""

    settings: ProxySettings
    trust: ssl.SSLContext
    ports: tuple[int, int]  # its own, over which visitors come
    app: Address
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def pid(self) -> int:
        """The proxy's process."""
        (process,) = find_running(("-db", "-f", str(self.settings.state_dir / "haproxy.cfg")))
        return process.pid

    async def visit(self) -> None:
        """Asks the neighbour's app again and again, some times over a new connection."""
        loop = asyncio.get_running_loop()
        while True:
            async with self._connected() as (reader, writer):
                for _ in range(EACH_OPENS):
                    began = loop.time()
                    async with asyncio.timeout(LONGEST_SECONDS):
                        writer.write(f"GET / HTTP/1.1\r\nHost: {NEIGHBOUR}\r\n\r\n".encode())
                        head = await reader.readuntil(b"\r\n\r\n")
                        assert head.startswith(b"HTTP/1.1 200 "), head
                        assert await reader.readexactly(5) == b"hello"
                    self.seconds.append(loop.time() - began)
                    await asyncio.sleep(PAUSE_SECONDS)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        async with asyncio.timeout(LONGEST_SECONDS):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1",
                self.ports[1],
                ssl=self.trust,
                server_hostname=NEIGHBOUR,
                local_addr=(VISITOR, 0),
            )
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def weigh(self) -> None:
        """Measures the memory of the proxy and its sockets again and again."""
        while True:
            self.memory.append(resident_bytes(self.pid) + await asyncio.to_thread(self._in_sockets))
            await asyncio.sleep(0.2)

    def _in_sockets(self) -> int:
        """What waits in the kernel to be read by the proxy or by its visitors, in bytes."""
        of = " or ".join(f"sport = :{port}" for port in self.ports) + f" or dst {self.app}"
        words = ["ss", "--tcp", "--numeric", "--memory", "--no-header", of]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        held = re.findall(r"skmem:\(r(\d+),rb\d+,t(\d+),tb\d+,f\d+,w(\d+)", told)
        return sum(int(number) for numbers in held for number in numbers)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is resident."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def flooded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Flooded]:
    directory, ports = tmp_path_factory.mktemp("flooded"), (quiet_port(), quiet_port())
    settings = ProxySettings(
        run_dir=directory / "run",
        state_dir=directory / "proxy",
        base_domain="localhost",
        http_port=ports[0],
        https_port=ports[1],
        memory_bytes=MEMORY_BYTES,
        visitor_connections=512,
    )
    proxy = HAProxy(find_tool("haproxy"), settings)
    async with AsyncExitStack() as stack:
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        pem, root = self_signed(NEIGHBOUR, FLOODED)
        router = Router(settings.run_dir, settings.base_domain)
        apps = [stack.enter_context(app()) for _ in range(2)]
        for host, address in zip((NEIGHBOUR, FLOODED), apps, strict=True):
            await proxy.certificates.install(host, pem)
            await router.point(host, address)
        trust = ssl.create_default_context(cadata=root)
        yield Flooded(settings, trust, ports, apps[1])


async def flood(flooded: Flooded, kind: str, addresses: int) -> str:
    """Runs the flood to its end; what came of it."""
    words = (kind, *flooded.ports, FLOODED, addresses, FLOODS[kind], FLOOD_SECONDS)
    process = await asyncio.create_subprocess_exec(
        *("nice", sys.executable, str(HERE / "floods.py"), *map(str, words)),
        stdout=subprocess.PIPE,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0
    return told.decode().strip()


def late(seconds: list[float]) -> float:
    """How long an answer takes of which there are slower ones, one in twenty."""
    return sorted(seconds)[len(seconds) * 19 // 20]


def figures(seconds: list[float]) -> str:
    """Median, late and worst."""
    of = (statistics.median(seconds), late(seconds), max(seconds))
    return " / ".join(f"{each * 1000:.0f}" for each in of) + " ms"


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("addresses", [1, 60])
@pytest.mark.parametrize("kind", FLOODS)
async def test_flood_takes_no_answer_from_a_neighbour_and_no_memory_from_the_proxy(
    flooded: Flooded, kind: str, addresses: int
) -> None:
    pid = flooded.pid
    flooded.seconds.clear()
    flooded.memory.clear()
    async with asyncio.TaskGroup() as tasks:
        visiting = tasks.create_task(flooded.visit())
        await until(lambda: len(flooded.seconds) >= QUIET_VISITS)
        quiet = flooded.seconds[:]
        flooded.seconds.clear()
        weighing = tasks.create_task(flooded.weigh())
        told = await flood(flooded, kind, addresses)
        for task in (visiting, weighing):
            task.cancel()
    print(
        f"{kind} from {addresses}: quiet {figures(quiet)}, then {figures(flooded.seconds)};"
        f" {max(flooded.memory) // MIB} MiB; {told}"
    )
    assert flooded.pid == pid
    came = json.loads(told)
    assert came["opened"] > 0
    assert bool(came["failed"]) or kind not in ENDED
    assert max(flooded.memory) < MEMORY_BYTES
    assert statistics.median(flooded.seconds) < 10 * statistics.median(quiet) + 0.1
