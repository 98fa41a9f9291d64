"""Cancelling: what is under way ends at once, and what served before serves on."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from yard import HOST, Yard, socket_of

from moorage.errors import DeploymentOver
from moorage.hosting.work.cancellation import Cancellation
from moorage.records.deployment import UNDER_WAY, DeploymentStatus, JobStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from support.books.records_fixture import ALICE, add_deployment
from support.gateway.clock import START_MS
from support.gateway.waiting import until


@pytest.fixture
def cancellation(yard: Yard) -> Cancellation:
    return Cancellation(
        db=yard.db,
        clear_up=yard.services.clear_up,
        runtime=yard.runtime,
        clock=yard.clock,
    )


@pytest.fixture
async def working(yard: Yard) -> AsyncIterator[None]:
    """The worker works."""
    task = asyncio.create_task(yard.worker.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("stage", ["build", "start"])
@pytest.mark.usefixtures("working")
async def test_cancelled_deployment_is_failed_and_nothing_of_it_runs(
    yard: Yard, cancellation: Cancellation, project: Project, stage: str
) -> None:
    yard.runtime.gates[stage] = asyncio.Event()
    queued = await yard.queued(project)
    yard.worker.wake()
    await until(lambda: yard.runtime.called(stage) == [queued.id])

    await cancellation.cancel(project, queued)

    ended = await yard.deployment(queued.id)
    assert (ended.status, ended.reason_code) == (DeploymentStatus.FAILED, "cancelled")
    assert ended.reason == "You cancelled this deployment."  # its status says what serves
    assert yard.runtime.apps == {}
    assert yard.runtime.built == {}
    assert not (yard.sources / queued.id).exists()
    assert await yard.job_status(queued) == JobStatus.DONE
    assert (await yard.project(project)).status is ProjectStatus.FAILED


@pytest.mark.usefixtures("working")
async def test_version_that_serves_goes_on_when_its_successor_is_cancelled(
    yard: Yard, cancellation: Cancellation, project: Project
) -> None:
    old = await yard.active(project, micro_usd=500_000, created_at_ms=START_MS - 1, billed=False)
    reached = asyncio.Event()

    async def linger() -> bool:
        reached.set()
        await asyncio.Event().wait()
        return True

    yard.answers = linger  # the address leads to the new one already
    new = await yard.queued(project)
    yard.worker.wake()
    await reached.wait()

    await cancellation.cancel(project, new)

    assert yard.routes.table == {HOST: socket_of(old)}
    assert set(yard.runtime.apps) == {old.id}
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, old.id)


@pytest.mark.parametrize("over", [s for s in DeploymentStatus if s not in UNDER_WAY])
async def test_what_is_over_cannot_be_cancelled(
    yard: Yard, cancellation: Cancellation, project: Project, over: DeploymentStatus
) -> None:
    deployment = await add_deployment(yard.db, project, over)
    with pytest.raises(DeploymentOver):
        await cancellation.cancel(project, deployment)
    assert yard.runtime.calls == []
    assert (await yard.deployment(deployment.id)).status is over


async def test_queued_deployment_that_is_cancelled_is_never_begun(
    yard: Yard, cancellation: Cancellation, project: Project
) -> None:
    queued = await yard.queued(project)
    await cancellation.cancel(project, queued)
    task = asyncio.create_task(yard.worker.run())
    other = await yard.queued(project)
    yard.worker.wake()
    await until(lambda: other.id in yard.runtime.apps)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert queued.id not in yard.runtime.called("build")


async def test_cancellation_is_told(
    yard: Yard, cancellation: Cancellation, project: Project
) -> None:
    queued = await yard.queued(project)
    await cancellation.cancel(project, queued)
    (event,) = await events.of_wallet(yard.db, ALICE, after=0, limit=10)
    assert (event.kind, event.data["reason_code"]) == ("deployment.failed", "cancelled")
