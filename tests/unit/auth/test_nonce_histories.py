"""Histories of a gateway in which processes crash, the power fails and the clock steps.

The store runs on real files; the disk around it forgets, when the power fails, whatever it was not
forced to keep. Whatever happens, no request passes twice.
"""

import asyncio
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nonce_machine import NonceMachine

from moorage.auth.wallet import Wallet
from moorage.errors import NonceReused, TimestampExpired

WALLET = Wallet("0x" + "a" * 40)


class Request:
    def __init__(self, number: int, timestamp_ms: int) -> None:
        self.timestamp_ms = timestamp_ms
        self.nonce = f"00000000-0000-4000-8000-{number:012x}"


class Gateway:
    """The gateway and its machine, as one history goes."""

    def __init__(self, root: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.machine = NonceMachine(root / "nonces", self.chance)
        self.machine.is_slow = True
        self.sent: list[Request] = []
        self.passed: set[tuple[int, str]] = set()
        self.under_way: dict[asyncio.Task[None], Request] = {}
        self.clock_is_steady = True
        self.refused_until_ms = 0
        self.machine.start()

    async def send(self, request: Request) -> None:
        consuming = self.machine.store.consume(WALLET, request.timestamp_ms, request.nonce)
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
        while self.machine.disk_works():
            await self.settle()

    async def drop_requests(self) -> None:
        for task in self.under_way:
            task.cancel()
        self.under_way.clear()
        await asyncio.sleep(0)

    # What may happen, each with a number that says how much of it.

    async def wait(self, ms: int) -> None:
        self.machine.clock_ms += abs(ms)

    async def step_clock(self, ms: int) -> None:
        self.machine.clock_ms += ms
        self.clock_is_steady = False

    async def request(self, offset_ms: int) -> None:
        number = len(self.sent)
        if number and self.chance.random() < 0.2:  # a wallet may sign one nonce twice
            number = self.chance.randrange(number)
        request = Request(number, self.machine.clock_ms + offset_ms)
        self.sent.append(request)
        await self.send(request)

    async def replay(self, back: int) -> None:
        if self.sent:
            await self.send(self.sent[-1 - abs(back) % len(self.sent)])

    async def honest_request(self, _: int) -> None:
        request = Request(10**9 + len(self.sent), self.machine.clock_ms)
        self.sent.append(request)
        await self.send(request)
        await self.work_off()
        if self.clock_is_steady and self.machine.clock_ms > self.refused_until_ms:
            assert (request.timestamp_ms, request.nonce) in self.passed, "an honest client waits"

    async def disk_works(self, steps: int) -> None:
        for _ in range(1 + abs(steps) % 3):
            self.machine.disk_works()
            await self.settle()

    async def stop(self, _: int) -> None:
        await self.work_off()
        await self.machine.store.close()
        self.machine.start()

    async def crash(self, _: int) -> None:
        await self.drop_requests()
        await self.machine.crash()
        self.machine.start()

    async def power_cut(self, _: int) -> None:
        await self.drop_requests()
        await self.machine.cut_power()
        newest_ms = max((request.timestamp_ms for request in self.sent), default=0)
        self.refused_until_ms = max(newest_ms, self.machine.clock_ms) + 5_000
        self.machine.start()


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
        await gateway.drop_requests()
        await gateway.machine.crash()


# The corners that chance seldom finds, each the way through one careless order of writes.
DIRECTED = {
    "a future timestamp is acted on only once the mark is on disk": [
        ("request", 60_000),
        ("power_cut", 0),
    ],
    "a mark is in force only once it is on disk": [
        ("wait", 3_000),
        ("request", 0),
        ("request", 4_000),
        ("power_cut", 0),
    ],
    "the mark in force is the one on disk": [
        ("request", 3_000),
        ("disk_works", 0),
        ("request", 8_500),
        ("power_cut", 0),
    ],
    "a mark is never lowered": [
        ("request", 4_000),
        ("step_clock", -20_000),
        ("request", 60_000),
        ("disk_works", 1),
        ("power_cut", 0),
    ],
    "a start does not lower the mark of the process before it": [
        ("request", 4_000),
        ("step_clock", -20_000),
        ("crash", 0),
        ("power_cut", 0),
    ],
    "a floor survives the machine": [
        ("request", 0),
        ("request", 60_000),
        ("disk_works", 2),
        ("request", 4_000),
        ("power_cut", 0),
        ("power_cut", 0),
        ("wait", 66_000),
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
def test_no_request_passes_twice_and_honest_clients_wait_only_after_a_power_cut(
    history: list[tuple[str, int]], seed: int
) -> None:
    asyncio.run(run(history, seed))
