"""A thousand apps that sleep: what they cost the gateway, and what they cost other deployments."""

import asyncio
import time
from pathlib import Path

from customers import Customers, fill
from deploying import through_gateway
from gateway import example_files, gateway
from measure import MIB, Row, cpu_seconds, median, resident_bytes, spread
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.listeners import Listener
from moorage.engines.sandbox.deployment_directory import Record
from moorage.storage.opening import open_database
from support.gateway.gateway_fixture import DevGateway

SLEEPERS = 1_000
DEPLOYS = 11
ROUNDS = 4
ROUND_SECONDS = 12.0
_SETTLE_SECONDS = 5.0
_NOW_MS = 1_775_556_000_000


def run() -> list[Row]:
    """Two gateways: one with nothing, one beside whose apps the sleepers were put."""
    with gateway(pinned=False) as empty, gateway(pinned=False) as full:
        full.kill()
        asyncio.run(_put(full.data_dir))
        full.start()
        time.sleep(_SETTLE_SECONDS)
        shares = [_share(full.pid) for _ in range(ROUNDS)]
        resident = resident_bytes(full.pid)
        few, many = asyncio.run(_deploys(empty, full))
    share, ratio = median(shares), median(many) / median(few)
    asleep = f"{SLEEPERS:,} sleeping apps"
    return [
        Row(
            f"{asleep}: gateway's resident memory",
            f"{resident / MIB:.0f} MiB",
            "< 80 MiB",
            resident < 80 * MIB,
        ),
        Row(
            f"{asleep}: gateway's processor time",
            f"{share:.2f} % of a core",
            "< 1 %",
            share < 1,
            f"with the programs it starts; {spread(shares, 2)}",
        ),
        Row(
            f"a deploy beside {asleep} ÷ beside none",
            f"{ratio:.2f}×",
            "≤ 1.10×",
            ratio <= 1.1,
            f"{median(many):.2f} s ÷ {median(few):.2f} s; {spread(many, 2)} and {spread(few, 2)} s",
        ),
    ]


async def _deploys(*gateways: DevGateway) -> list[list[float]]:
    """Seconds from paid requests to answers, of each gateway in turn; the first warm up."""
    rounds = [
        [await through_gateway(started, example_files("hello-node")) for started in gateways]
        for _ in range(DEPLOYS + 1)
    ]
    return [list(took) for took in zip(*rounds[1:], strict=True)]


def _share(pid: int) -> float:
    """Percent of one core that the gateway used over a round, and what it started."""
    used, began = cpu_seconds(pid, children=True), time.perf_counter()
    time.sleep(ROUND_SECONDS)
    return (cpu_seconds(pid, children=True) - used) / (time.perf_counter() - began) * 100


async def _put(data_dir: Path) -> None:
    """Rows and files of projects that were deployed, served, and fell asleep."""
    db = open_database(data_dir / "moorage.db")
    try:
        made_up = Customers(
            projects=SLEEPERS, projects_of_wallet=SLEEPERS, asleep=SLEEPERS, billed_ms=_NOW_MS
        )
        for number, deployment_id in enumerate(await fill(db, made_up)):
            sleeper(data_dir / "apps" / "deployments" / deployment_id, number)
    finally:
        db.close()


def sleeper(directory: Path, number: int) -> None:
    """Makes the files of an app that sleeps."""
    directory.mkdir(parents=True)
    record = Record(
        deployment_id=directory.name,
        slot=10 + number,
        stage=Stage.STARTED,
        cpu_millis=500,
        listener=Listener("127.0.0.1", 3000, loopback_only=False),
        exit_code=143,
    )
    record.write(directory)
    with (directory / "disk.img").open("wb") as image:
        image.truncate(64 * MIB)
