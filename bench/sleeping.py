"""A thousand apps that sleep: what they cost the gateway, and what they cost other deployments."""

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec

from deploying import through_gateway
from gateway import gateway
from gateway_fixture import DevGateway
from measure import MIB, Row, cpu_seconds, median, resident_bytes, spread
from moorage.engines.host.listeners import Listener
from moorage.engines.host.record import Stage
from moorage.engines.sandbox.record import Record
from moorage.money import MicroUsd
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database

SLEEPERS = 1_000
DEPLOYS = 11
ROUNDS = 4
ROUND_SECONDS = 12.0
_SETTLE_SECONDS = 5.0
_WALLET = "0x" + "51" * 20
_NOW_MS = 1_775_556_000_000
_PLAN = Plan(
    stack=Stack.NODE,
    directory="",
    install=None,
    build=None,
    start="node index.js",
    port=3000,
    build_env={},
    run_env={},
    because=(),
)


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
            "< 100 MB",
            resident < 100e6,
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
        [await through_gateway(started, "hello-node") for started in gateways]
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
    db = Database(data_dir / "moorage.db")
    try:
        async with db.transaction(durable=True) as tx:
            for number, (project, deployment) in enumerate(_sleepers()):
                await projects.add(tx, project)
                await deployments.add(tx, deployment)
                _files(data_dir / "apps" / "deployments" / deployment.id, number)
    finally:
        db.close()


def _sleepers() -> Iterator[tuple[Project, Deployment]]:
    for number in range(SLEEPERS):
        project_id, deployment_id = str(uuid.uuid4()), str(uuid.uuid4())
        yield (
            Project(
                id=project_id,
                wallet=_WALLET,
                unique_name=f"sleeper-{number}",
                display_name="",
                description="",
                status=ProjectStatus.ACTIVE,
                monthly_price_micro_usd=MicroUsd(500_000),
                serving_deployment_id=deployment_id,
                created_at_ms=_NOW_MS,
                asleep_since_ms=_NOW_MS,
            ),
            Deployment(
                id=deployment_id,
                project_id=project_id,
                status=DeploymentStatus.READY,
                request_digest="",
                plan=msgspec.json.encode(_PLAN).decode(),
                note="",
                reason=None,
                reason_code=None,
                log_tail="",
                created_at_ms=_NOW_MS,
            ),
        )


def _files(directory: Path, number: int) -> None:
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
