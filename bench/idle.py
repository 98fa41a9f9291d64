"""What a gateway costs while fifty apps run and nobody asks for anything."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

from gateway import example_files, funded, gateway
from measure import MIB, Row, cpu_seconds, median, proportional_bytes, resident_bytes, spread
from support.clients.wallet import Answer, Wallet
from support.gateway.gateway_fixture import DevGateway

APPS = 50
ROUNDS = 5
ROUND_SECONDS = 12.0  # a few periods of everything that happens now and then
SETTLE_SECONDS = 10.0
_EXISTING_CREDITS = {"X-Use-Existing-Credits": "true"}
# Of an app's control groups, what is not the app itself.
_OURS = frozenset({"bwrap", "sh", "systemd-socket-"})


def run() -> list[Row]:
    """Memory and processor time of the gateway, and what isolates and reaches each app."""
    with gateway(pinned=False, app_memory_mib="128", app_disk_mib="64") as started:
        asyncio.run(_deploy_all(started))
        time.sleep(SETTLE_SECONDS)
        shares = [_share(started.pid) for _ in range(ROUNDS)]
        resident = resident_bytes(started.pid) / MIB
        overhead, apps = _memory(started.instance_id)
    assert len(apps) == APPS, f"{len(apps)} apps run"
    share, beyond = median(shares), median(overhead) / MIB
    return [
        Row(
            f"idle with {APPS} apps: gateway's resident memory",
            f"{resident:.0f} MiB",
            "< 120 MB",
            resident * MIB < 120e6,
        ),
        Row(
            f"idle with {APPS} apps: gateway's processor time",
            f"{share:.2f} % of a core",
            "< 0.8 %",
            share < 0.8,
            f"with the programs it starts; {spread(shares, 2)}",
        ),
        Row(
            "beyond the app's own processes, each app",
            f"{beyond:.1f} MiB",
            "≤ 5 MB",
            beyond * MIB <= 5e6,
            f"proportional set size; bwrap and door; the app itself has {median(apps) / MIB:.0f}",
        ),
    ]


async def _deploy_all(started: DevGateway) -> None:
    """One app is paid for; its overpayment is enough for the others to be let in."""
    wallet = await funded(started)
    paid = await wallet.pay(100_000_000)
    deployed = [await wallet.deploy("idle-0", example_files("hello-node"), tx=paid)]
    for number in range(1, APPS):
        files = example_files("hello-node")
        deployed.append(
            await wallet.deploy(f"idle-{number}", files, headers=dict(_EXISTING_CREDITS))
        )
    await asyncio.gather(*(_ready(wallet, answer) for answer in deployed))


async def _ready(wallet: Wallet, answer: Answer) -> None:
    assert answer.status == 200, answer.body
    settled = await wallet.settled(answer, within_seconds=120)
    assert settled["status"] == "ready", settled


def _share(pid: int) -> float:
    """Percent of one core that a process used over a round, and what it started."""
    used, began = cpu_seconds(pid, children=True), time.perf_counter()
    time.sleep(ROUND_SECONDS)
    return (cpu_seconds(pid, children=True) - used) / (time.perf_counter() - began) * 100


def _memory(instance_id: str) -> tuple[list[float], list[float]]:
    """Bytes of each app: of what is ours around it, and of its own processes."""
    overhead: dict[str, float] = {}
    apps: dict[str, float] = {}
    for deployment_id, pid in _processes(instance_id):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        whose = overhead if name in _OURS else apps
        whose[deployment_id] = whose.get(deployment_id, 0) + proportional_bytes(pid)
    return list(overhead.values()), list(apps.values())


def _processes(instance_id: str) -> Iterator[tuple[str, int]]:
    """Deployment and process id of everything in the control groups of this gateway's apps."""
    group = re.compile(rf"/moorage-{instance_id}/apps/(?:app|door)-([0-9a-f-]+)")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            found = group.search((entry / "cgroup").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
        if found:
            yield found[1], int(entry.name)
