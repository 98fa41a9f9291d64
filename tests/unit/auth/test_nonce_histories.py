"""Histories of a gateway in which processes crash, the power fails and the clock steps.

The store runs on real files; the disk around it forgets, when the power fails, whatever it was not
forced to keep, in any of the ways a file system may. Whatever happens, no request passes twice.
"""

import asyncio
import contextlib
import os
import random
import stat
import tempfile
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moorage.auth.nonces import NonceStore
from moorage.auth.wallet import Wallet
from moorage.errors import NonceReused, TimestampExpired

WALLET = Wallet("0x" + "a" * 40)
START_MS = 1_775_556_000_000
RECORD_BYTES = 32


class Request:
    def __init__(self, number: int, timestamp_ms: int) -> None:
        self.timestamp_ms = timestamp_ms
        self.nonce = f"00000000-0000-4000-8000-{number:012x}"


class PowerCut(Exception):
    """The power fails in the middle of what the disk was asked to do."""


class Disk:
    """A directory that keeps through a power cut what was synced, and of the rest anything."""

    def __init__(self, root: Path) -> None:
        self.directory = root / "nonces"
        self.directory.mkdir()
        self._inodes = root / "inodes"
        self._inodes.mkdir()
        self._synced: dict[int, bytes] = {}
        self._synced_names: dict[str, int] = {}
        self.syncs_until_cut: int | None = None

    def sync(self, fd: int) -> None:
        if self.syncs_until_cut is not None:
            self.syncs_until_cut -= 1
            if self.syncs_until_cut < 0:
                raise PowerCut
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self._hold()
            self._synced_names = self._names()
        else:
            self._synced[status.st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def cut_power(self, chance: random.Random) -> None:
        self._hold()
        names = self._names()
        for name in {*names, *self._synced_names}:
            (self.directory / name).unlink(missing_ok=True)
            kept, gone = self._synced_names.get(name), names.get(name)
            inode = kept if kept == gone else chance.choice([kept, gone])
            if inode is not None:
                path = self._inodes / str(inode)
                os.link(path, self.directory / name)
                path.write_bytes(self._surviving(inode, path.read_bytes(), chance))
        self._synced_names = self._names()

    def _surviving(self, inode: int, content: bytes, chance: random.Random) -> bytes:
        synced = self._synced.get(inode, b"")
        assert content.startswith(synced)
        rest = content[len(synced) :]
        style = chance.choice(["all", "none", "prefix", "holes"])
        if style == "holes":
            records = [rest[at : at + RECORD_BYTES] for at in range(0, len(rest), RECORD_BYTES)]
            rest = b"".join(chance.choice([r, bytes(len(r))]) for r in records)
        length = {"all": len(rest), "none": 0, "holes": len(rest)}.get(style)
        survived = synced + rest[: chance.randint(0, len(rest)) if length is None else length]
        self._synced[inode] = survived
        return survived

    def _hold(self) -> None:
        """Keep every inode linked, so that none is used for two files."""
        for name, inode in self._names().items():
            held = self._inodes / str(inode)
            if not held.exists():
                os.link(self.directory / name, held)

    def _names(self) -> dict[str, int]:
        return {path.name: path.stat().st_ino for path in self.directory.glob("*.log")}


class Thread(Executor):
    """A thread that gets on with its work only when the history says so."""

    def __init__(self) -> None:
        self._work: list[tuple[Callable[[], Any], Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        assert not args
        future: Future[Any] = Future()
        self._work.append((fn, future))
        return future

    def step(self) -> bool:
        if not self._work:
            return False
        fn, future = self._work.pop(0)
        future.set_result(fn())
        return True

    def abandon(self) -> None:
        self._work.clear()


class Gateway:
    """The gateway, its clock and its machine, as one history goes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.disk = Disk(root)
        self.clock_ms = START_MS
        self.boot = 0
        self.sent: list[Request] = []
        self.passed: set[tuple[int, str]] = set()
        self.under_way: dict[asyncio.Task[None], Request] = {}
        self.clock_is_steady = True
        self.refused_until_ms = 0
        self.start()

    def now_ms(self) -> int:
        return self.clock_ms

    def monotonic_seconds(self) -> float:
        raise AssertionError("timestamps are wall time")

    def start(self) -> None:
        self.thread = Thread()
        self.store = NonceStore.open(
            self.disk.directory,
            clock=self,
            boot_id=str(self.boot),
            sync=self.disk.sync,
            executor=self.thread,
        )

    async def send(self, request: Request) -> None:
        consuming = self.store.consume(WALLET, request.timestamp_ms, request.nonce)
        self.under_way[asyncio.create_task(consuming)] = request
        await self.settle()

    async def settle(self) -> None:
        for _ in range(8):
            await asyncio.sleep(0)
        for task in [task for task in self.under_way if task.done()]:
            request = self.under_way.pop(task)
            error = task.exception()
            if error is None:
                key = (request.timestamp_ms, request.nonce)
                assert key not in self.passed, "a replay passed"
                self.passed.add(key)
            else:
                assert isinstance(error, NonceReused | TimestampExpired)

    async def work_off(self) -> None:
        while self.thread.step():
            await self.settle()

    async def end_process(self) -> None:
        for task in [*self.under_way, self.store._flush]:
            if task is not None:
                task.cancel()
        self.under_way.clear()
        self.thread.abandon()
        await asyncio.sleep(0)
        self.store._journal.close()
        os.close(self.store._lock_fd)

    # What may happen, each with a number that says how much of it.

    async def wait(self, ms: int) -> None:
        self.clock_ms += abs(ms)

    async def step_clock(self, ms: int) -> None:
        self.clock_ms += ms
        self.clock_is_steady = False

    async def request(self, offset_ms: int) -> None:
        number = len(self.sent)
        if number and self.chance.random() < 0.2:  # a wallet may sign one nonce twice
            number = self.chance.randrange(number)
        request = Request(number, self.clock_ms + offset_ms)
        self.sent.append(request)
        await self.send(request)

    async def replay(self, back: int) -> None:
        if self.sent:
            await self.send(self.sent[-1 - abs(back) % len(self.sent)])

    async def honest_request(self, _: int) -> None:
        request = Request(10**9 + len(self.sent), self.clock_ms)
        self.sent.append(request)
        await self.send(request)
        await self.work_off()
        if self.clock_is_steady and self.clock_ms > self.refused_until_ms:
            assert (request.timestamp_ms, request.nonce) in self.passed, "an honest client waits"

    async def disk_works(self, steps: int) -> None:
        for _ in range(1 + abs(steps) % 3):
            self.thread.step()
            await self.settle()

    async def stop(self, _: int) -> None:
        await self.work_off()
        await self.store.close()
        self.start()

    async def crash(self, _: int) -> None:
        await self.end_process()
        self.start()

    async def power_cut(self, syncs: int) -> None:
        self.disk.syncs_until_cut = abs(syncs) % 4
        with contextlib.suppress(PowerCut):
            self.thread.step()
        self.disk.syncs_until_cut = None
        await self.end_process()
        self.disk.cut_power(self.chance)
        self.boot += 1
        self.refused_until_ms = self.clock_ms + 5_000
        self.start()


OFFSETS = st.one_of(st.integers(-62_000, 62_000), st.sampled_from([-60_000, 0, 5_000, 60_000]))
STEPS = st.one_of(st.integers(-200_000, 200_000), st.integers(-10_000, 10_000))
EVENTS = st.one_of(
    st.tuples(st.sampled_from(["wait"]), st.one_of(st.integers(0, 3_000), st.integers(0, 90_000))),
    st.tuples(st.sampled_from(["request"]), OFFSETS),
    st.tuples(st.sampled_from(["request", "replay"]), st.integers(0, 12)),
    st.tuples(st.sampled_from(["replay"]), st.integers(0, 12)),
    st.tuples(st.sampled_from(["honest_request", "disk_works", "stop"]), st.integers(0, 3)),
    st.tuples(st.sampled_from(["crash", "power_cut"]), st.integers(0, 3)),
)
EVENTS_WITH_STEPS = st.one_of(EVENTS, st.tuples(st.sampled_from(["step_clock"]), STEPS))
HISTORIES = st.one_of(st.lists(EVENTS, max_size=60), st.lists(EVENTS_WITH_STEPS, max_size=60))


async def run(history: list[tuple[str, int]], seed: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        gateway = Gateway(Path(root), seed)
        for event, amount in history:
            await getattr(gateway, event)(amount)
        for _ in range(2):  # at the end every request is tried again, on this boot and the next
            for request in gateway.sent:
                await gateway.send(request)
            await gateway.work_off()
            await gateway.power_cut(0)
        await gateway.end_process()


# The corners that chance seldom finds, each the way through one careless order of writes.
DIRECTED = {
    "a future timestamp is acted on only once it is on disk": [
        ("request", 60_000),
        ("power_cut", 0),
    ],
    "a mark is in force only once it is on disk": [
        ("wait", 3_000),
        ("request", 0),
        ("request", 4_000),
        ("power_cut", 0),
    ],
    "a mark is lowered only over what is on disk": [
        ("request", 4_000),
        ("step_clock", -20_000),
        ("request", 60_000),
        ("disk_works", 1),  # begins a segment and drops those under the floor
        ("power_cut", 0),
    ],
    "a mark being lowered holds for what comes meanwhile": [
        ("step_clock", -20_000),
        ("request", 60_000),
        ("disk_works", 2),
        ("request", 10_000),
        ("power_cut", 0),
    ],
    "a start forces to disk what the process before it left": [
        ("request", 4_000),
        ("step_clock", -20_000),
        ("crash", 0),
        ("power_cut", 0),
    ],
    "a sync covers the segment before": [
        ("wait", 61_000),
        ("request", 60_000),
        ("disk_works", 2),
        ("disk_works", 2),
        ("power_cut", 0),
    ],
    "a new segment repeats the mark in force": [
        ("request", 4_000),
        ("wait", 61_000),
        ("request", 0),
        ("disk_works", 0),
        ("power_cut", 0),
    ],
    "nonces that expire under the floor do not lower it": [
        ("request", 0),
        ("request", 60_000),
        ("disk_works", 2),
        ("request", 4_000),
        ("power_cut", 0),
        ("wait", 61_500),
        ("honest_request", 0),
    ],
}


@pytest.mark.parametrize("rule", DIRECTED)
def test_no_request_passes_twice_because(rule: str) -> None:
    for seed in range(25):
        asyncio.run(run(DIRECTED[rule], seed))


@settings(
    max_examples=int(os.environ.get("MOORAGE_HISTORIES", "150")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(HISTORIES, st.integers(0, 2**16))
def test_no_request_passes_twice_and_honest_clients_wait_five_seconds_at_most(
    history: list[tuple[str, int]], seed: int
) -> None:
    asyncio.run(run(history, seed))
