"""A build that is cancelled ends at once, with all it has begun, and says so."""

import asyncio
from pathlib import Path

import pytest

from moorage.engines.engine import log_tail
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.sandbox.deployment_directory import DeploymentDirectory, Record
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed
from moorage.planning.plan import Plan
from moorage.records.deployment import LogKind
from support.engines.small_apps import OWN, belongings, build, plan, processes, start
from support.gateway.waiting import until

pytestmark = pytest.mark.root

OWNER = "0x" + "a1" * 20


@pytest.mark.parametrize(
    "the_plan",
    [
        plan(install=f"setsid sleep 8482{OWN} & sleep 8482{OWN}", install_inputs=("index.js",)),
        plan(install="true", build=f"trap '' TERM; setsid sleep 8482{OWN} & sleep 8482{OWN}"),
    ],
    ids=["install", "build"],
)
async def test_cancelled_step_leaves_nothing_but_its_log(
    caching_sandbox: Sandbox, source: Path, the_plan: Plan
) -> None:
    task = asyncio.create_task(build(caching_sandbox, source, the_plan, owner=OWNER))
    await until(
        lambda: len([line for line in processes(f"sleep 8482{OWN}") if "bwrap" not in line]) >= 2
    )
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes(f"sleep 8482{OWN}") == []
    left = belongings(caching_sandbox.instance_id)
    assert {kind: found for kind, found in left.items() if found} == {}
    last = (await log_tail(caching_sandbox, "first", LogKind.BUILD)).splitlines()[-1]
    assert last == f"CANCELLED: `{the_plan.build or the_plan.install}` was ended"
    with pytest.raises(DeployFailed):
        await start(caching_sandbox, the_plan)


async def test_cancellation_at_any_moment_leaves_nothing(
    caching_sandbox: Sandbox, source: Path
) -> None:
    """Also while the disk is made, a layer is filled from or kept, and the network comes up."""
    the_plan = plan(install="true", build="true", install_inputs=("index.js",))
    for number in range(12):
        task = asyncio.create_task(build(caching_sandbox, source, the_plan, owner=OWNER))
        await asyncio.wait([task], timeout=0.015 * number)
        task.cancel()
        await asyncio.wait([task])
        if task.cancelled():
            left = belongings(caching_sandbox.instance_id)
            assert {kind: found for kind, found in left.items() if found} == {}
    await build(caching_sandbox, source, the_plan, owner=OWNER)


async def test_cancellation_while_the_end_is_recorded_leaves_nothing(
    caching_sandbox: Sandbox, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, write = asyncio.get_running_loop(), DeploymentDirectory.write
    task = asyncio.create_task(build(caching_sandbox, source, plan(), owner=OWNER))

    def write_and_cancel(directory: DeploymentDirectory, record: Record) -> None:
        write(directory, record)
        if record.stage is Stage.BUILT:
            loop.call_soon_threadsafe(task.cancel)

    monkeypatch.setattr(DeploymentDirectory, "write", write_and_cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    left = belongings(caching_sandbox.instance_id)
    assert {kind: found for kind, found in left.items() if found} == {}
    with pytest.raises(DeployFailed):
        await start(caching_sandbox, plan())
