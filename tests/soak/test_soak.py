"""Long use, with crashes of everything: the machine is afterwards as it was before.

`make soak` runs it for ten minutes with two hundred apps; `make test` for some seconds with a few.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet

from support.engines.remains import of_gateway
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

APPS = int(os.environ.get("SOAK_APPS", "6"))
SECONDS = int(os.environ.get("SOAK_SECONDS", "20"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
AT_ONCE = 6
KILL_EVERY_SECONDS = max(10, SECONDS // 10)
CALM_SHARE = 0.3  # of the time is without kills, to see memory of one process over a while
MOST_GROWTH_BYTES = 24 * 1024 * 1024
MOST_NEW_DESCRIPTORS = 32


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[DevGateway]:
    with running(
        tmp_path / "soak",
        requests_per_minute="1000000",
        app_memory_mib="128",
        app_disk_mib="64",
    ) as started:
        yield started


async def test_nothing_stays_and_memory_is_flat_after_long_use(gateway: DevGateway) -> None:
    idle = remains(gateway)
    fleet = Fleet(gateway, APPS, random.Random(SEED))
    await fleet.fund()
    await fleet.fill()
    await _rough(gateway, fleet, seconds=SECONDS * (1 - CALM_SHARE))
    await fleet.settle_doubts()
    await fleet.fill()
    memory, descriptors = _resident_bytes(gateway.pid), _descriptors(gateway.pid)
    await _busy(fleet, seconds=SECONDS * CALM_SHARE)

    assert _resident_bytes(gateway.pid) - memory < MOST_GROWTH_BYTES
    await fleet.serves()
    # Starts and stops that are still under way have some for a moment.
    await until(lambda: _descriptors(gateway.pid) - descriptors < MOST_NEW_DESCRIPTORS)
    await fleet.clear()
    with contextlib.suppress(TimeoutError):
        await until(lambda: remains(gateway) == idle, seconds=60)
    assert _added(idle, remains(gateway)) == {}
    print(f"acts: {fleet.acts}; resident {memory >> 20} MiB, {descriptors} descriptors")


async def _rough(gateway: DevGateway, fleet: Fleet, *, seconds: float) -> None:
    """Random acts, and the gateway is killed now and then."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        acts = asyncio.create_task(_busy(fleet, seconds=min(left, KILL_EVERY_SECONDS)))
        await asyncio.wait([acts], timeout=min(left, KILL_EVERY_SECONDS) * 0.8)
        await asyncio.to_thread(gateway.kill)
        await asyncio.to_thread(gateway.start)
        await acts


async def _busy(fleet: Fleet, *, seconds: float) -> None:
    end = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < end:
            await fleet.act()

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


def remains(gateway: DevGateway) -> dict[str, set[str]]:
    """What the gateway has on the machine besides its own records, found by looking."""
    return of_gateway(gateway.data_dir, gateway.instance_id)


def _added(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, set[str]]:
    return {kind: after[kind] - found for kind, found in before.items() if after[kind] - found}


def _resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
