"""Apps that write until the machine's disk is full: neighbours lose nothing, nor the gateway."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from neighbour import Neighbour, settle

from support.clients.wallet import Answer, Wallet, fresh_name
from support.engines.small_disk import errors_in, free_mib, small_disk
from support.gateway.gateway_fixture import MOORAGE, DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

SIZE_MIB, RESERVE_MIB = 1536, 200
SHARE = {"X-Use-Existing-Credits": "true"}

# Writes to its own disk without end once it was told to.
FILLS = """\
const fs = require('fs'), one = Buffer.alloc(1 << 20, 'x');
require('http').createServer((request, response) => {
  response.end('filling');
  if (request.url !== '/fill') return;
  const file = fs.openSync('/app/' + Date.now(), 'w');
  const on = () => { for (let i = 0; i < 32; i++) fs.writeSync(file, one); setImmediate(on); };
  on();
}).listen(process.env.PORT);
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[DevGateway]:
    """On a disk of its own, which it promises to more than it could hold."""
    settings = {
        "disk_reserve_mib": str(RESERVE_MIB),
        "disk_overcommit": "100",
        "app_volume_mib": "128",
        "requests_per_minute": "100000",
    }
    with (
        small_disk(tmp_path, SIZE_MIB) as disk,
        running(disk / "gateway", run_dir=f"/run/moorage-{tmp_path.name}", **settings) as started,
    ):
        yield started


@asynccontextmanager
async def going_on(neighbour: Neighbour) -> AsyncIterator[None]:
    """The neighbour's app writes to its volume all the while, and `/health` answers."""
    over = asyncio.Event()

    async def visit() -> None:
        while not over.is_set():
            await neighbour.ask_health()
            await neighbour.visit()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(visit())
        yield
        over.set()


async def attack(gateway: DevGateway) -> tuple[Wallet, list[tuple[str, Answer]]]:
    """Two apps of one payment that fill their disks; names, and answers of their deploys."""
    attacker, names = await Wallet(gateway).fund(), (fresh_name(), fresh_name())
    apps = [(names[0], await attacker.deploy_paid(names[0], {"index.js": FILLS}))]
    assert (await attacker.settled(apps[0][1]))["status"] == "ready"
    shared = await attacker.deploy(names[1], {"index.js": FILLS}, headers=SHARE)
    apps.append((names[1], shared))
    assert (await attacker.settled(shared))["status"] == "ready"
    visits = await asyncio.gather(*(attacker.visit(name, "/fill") for name in names))
    assert visits == [(200, "filling")] * 2
    return attacker, apps


async def standing(wallet: Wallet, deployed: Answer) -> dict[str, Any]:
    path = f"/agent/deploy/{deployed.body['projectId']}/{deployed.body['deploymentId']}/status"
    return (await wallet.call("GET", path)).body


async def test_disk_that_apps_fill_up_harms_nobody_else(gateway: DevGateway) -> None:
    neighbour = await settle(gateway)
    disk = gateway.data_dir.parent
    async with going_on(neighbour):
        attacker, apps = await attack(gateway)

        async def some_are_ended() -> bool:
            told = [await standing(attacker, deployed) for _, deployed in apps]
            return any(each.get("reason_code") == "no_capacity" for each in told)

        await until(some_are_ended)
        ended = [
            (name, deployed)
            for name, deployed in apps
            if (await standing(attacker, deployed)).get("reason_code") == "no_capacity"
        ]
        subprocess.run(["sync", "-f", disk], check=True)
        assert free_mib(disk) > 0

        # A newcomer is told before it is asked to pay.
        newcomer = Wallet(gateway)
        for headers in ({}, {"X-Dry-Run": "true"}):
            refused = await newcomer.deploy(fresh_name(), headers=headers)
            assert (refused.status, refused.body["code"]) == (503, "no_capacity")

        # Whose app was ended is told: at its address, in its status, by an event, in its log.
        name, deployed = ended[0]
        status, page = await attacker.visit(name)
        assert status == 503
        assert "app_without_space" in page
        project = (await attacker.call("GET", f"/agent/projects/{deployed.body['projectId']}")).body
        assert project["status"] == "suspended"
        assert project["suspendedBecause"] == "no_capacity"
        assert project["burnPerHourUsd"] == 0
        events = (await attacker.call("GET", "/agent/events")).body["events"]
        suspended = [each for each in events if each["type"] == "project.suspended"]
        assert suspended[0]["data"]["reason_code"] == "no_capacity"

        # The operator stops, and an owner deletes, on the disk as it is.
        suspend = [MOORAGE, "operator", "suspend", apps[0][0], "--reason", "fills the disk"]
        subprocess.run([*suspend, f"--data-dir={gateway.data_dir}"], check=True)
        for _, each in apps:
            gone = await attacker.call("DELETE", f"/agent/projects/{each.body['projectId']}")
            assert gone.status in (200, 202), gone.body

        async def is_free() -> bool:
            return free_mib(disk) > RESERVE_MIB

        await until(is_free)

    gateway.stop()
    image = gateway.data_dir / f"apps/volumes/{neighbour.deployed.body['projectId']}/disk.img"
    assert not errors_in(image)
    gateway.start()
