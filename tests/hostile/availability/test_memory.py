"""Apps and builds take all the memory there is, and neither the gateway nor a neighbour notices.

The machine is made up: a control group with a limit, which the gateway takes for the whole machine,
as it would in a container. So its out-of-memory can be met without harm to anybody else.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from neighbour import settle

from moorage.engines.host import probe
from moorage.engines.host.cgroup import parse_oom_kills
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import MOORAGE, DevGateway, running
from support.gateway.waiting import until

pytestmark = pytest.mark.root

MIB = 1 << 20
MACHINE_MIB = 2048
RESERVE_MIB = 1024  # for two chains' nodes, the proxy and the gateway itself
APPS_MIB = 512  # what is left, when builds have half of the rest
APP_MIB = 128
TWICE = 2

# Answers, then takes all that its limit allows, for as long as it is let.
GLUTTON = f"""\
require('http').createServer((request, response) => response.end('here')).listen(process.env.PORT,
  () => setTimeout(() => {{
    const held = [];
    setInterval(() => {{
      if (held.length < {APP_MIB - 28}) held.push(Buffer.alloc({MIB}, 1));
    }}, 20);
  }}, 1000));
"""
HUNGRY_BUILD = 'node -e "const a=[];for(;;)a.push(Buffer.alloc(1<<20,1))"'


@pytest.fixture(scope="module")
def machine() -> Iterator[Path]:
    """The made-up machine's group, where memory is limited."""
    found = probe.hierarchy()
    assert found is not None
    group = found.mounts["memory"] / f"machine-{os.getpid()}"
    group.mkdir()
    limit = "memory.max" if found.version == 2 else "memory.limit_in_bytes"
    (group / limit).write_text(str(MACHINE_MIB * MIB))
    yield group
    for directory in sorted(group.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
        if directory.is_dir():
            directory.rmdir()
    group.rmdir()


@pytest.fixture(scope="module")
def gateway(machine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """One that sees no group but the machine's, and is in it with all that it starts."""
    inside = 'echo 0 > "$1/cgroup.procs"; mount --bind "$1" "$2"; shift 2; exec "$@"'
    program = ("unshare", "--mount", "sh", "-ec", inside, "sh", str(machine), str(machine.parent))
    with running(
        tmp_path_factory.mktemp("small"),
        program=(*program, MOORAGE),
        memory_reserve_mib=str(RESERVE_MIB),
        build_memory_mib="256",
        app_memory_mib=str(APP_MIB),
        memory_overcommit=str(TWICE),
        requests_per_minute="100000",
    ) as started:
        yield started


def killed(machine: Path) -> int:
    """How often the kernel killed for want of the machine's own memory, not of a share's."""
    for name in ("memory.events.local", "memory.oom_control"):
        with contextlib.suppress(FileNotFoundError):
            return parse_oom_kills((machine / name).read_text())
    raise AssertionError("nothing counts kills")


def is_full(machine: Path, gateway: DevGateway, share: str) -> bool:
    """Whether a share has been used up, so that the kernel had to look for what to give up."""
    group = machine / f"moorage-{gateway.instance_id}" / share
    with contextlib.suppress(FileNotFoundError):
        most = int((group / "memory.max_usage_in_bytes").read_text())
        return most > int((group / "memory.limit_in_bytes").read_text()) - MIB
    events = dict(line.split() for line in (group / "memory.events").read_text().splitlines())
    return int(events["max"]) > 0


async def test_apps_and_builds_that_take_all_memory_stop_nobody_else(
    gateway: DevGateway, machine: Path
) -> None:
    neighbour = await settle(gateway)
    attacker = await Wallet(gateway).fund()
    first = await attacker.deploy_paid(fresh_name(), {"index.js": GLUTTON})
    await attacker.settled(first)
    shared = {"X-Use-Existing-Credits": "true"}
    async with neighbour.unharmed():
        deployed = [
            await attacker.deploy(
                fresh_name(),
                {"index.js": GLUTTON},
                headers=shared,
                settings={"buildCommand": HUNGRY_BUILD} if number == 0 else {},
            )
            for number in range(APPS_MIB * TWICE // APP_MIB - 3)  # but what the neighbour deploys
        ]
        assert {answer.status for answer in deployed} == {200}
        ended = await asyncio.gather(*(attacker.settled(each) for each in deployed))
        assert "out of memory" in ended[0]["reason"]
        await until(lambda: is_full(machine, gateway, "apps"))
    assert killed(machine) == 0
    assert (await neighbour.wallet.status(neighbour.deployed)).body["status"] == "ready"


async def test_no_more_apps_are_taken_in_than_their_memory_allows(gateway: DevGateway) -> None:
    """And whoever comes then is told before anybody asks for money."""
    hoarder, late = await Wallet(gateway).fund(), await Wallet(gateway).fund()
    await hoarder.pay(5_000_000)
    shared = {"X-Use-Existing-Credits": "true"}
    answers = [await hoarder.deploy_paid(fresh_name())]
    async with asyncio.timeout(60):
        while answers[-1].status == 200:
            answers.append(await hoarder.deploy(fresh_name(), headers=shared))
    assert (answers[-1].status, answers[-1].body["code"]) == (503, "no_capacity")
    assert len(answers[:-1]) <= APPS_MIB * TWICE // APP_MIB
    refused = await late.deploy(fresh_name())
    assert (refused.status, refused.body["code"]) == (503, "no_capacity")
