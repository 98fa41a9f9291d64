"""Beside the gateway that keeps the apps: what another one is asked for, the leader does."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest
from yard import HOST, SETTINGS, Yard

from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.loops import loops_of
from moorage.hosting.platform import AppPlatform
from moorage.hosting.services import DeployServices
from moorage.ledger.services import LedgerServices, LedgerSettings
from moorage.money import MicroUsd
from moorage.records.deployment import DeploymentStatus
from moorage.records.domain import Domain, DomainStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import domains, projects
from moorage.storage.several.leases import Leases
from support.books.records_fixture import add_deployment, add_project
from support.gateway.fakes import app_address
from support.gateway.waiting import until

KEEPING = {"apps", "given up", "domains' routes"}


@pytest.fixture
def beside(yard: Yard) -> DeployServices:
    """Another gateway on the same database, which keeps no apps."""
    of_ledger = LedgerSettings(
        build_minutes_per_usd=60, build_month=MicroUsd(2_000_000), minimum_charge=MicroUsd(1)
    )
    platform = AppPlatform(
        view=yard.runtime,
        keeping=None,
        routes=yard.routes,
        hosts=Hosts(base_domain="example.com", scheme="https", port=None),
        gateway_host="gateway.example",
        max_host_length=200,
    )
    ledger = LedgerServices(yard.core, of_ledger)
    return DeployServices(yard.core, SETTINGS, platform=platform, ledger=ledger)


@pytest.fixture
async def keeping(yard: Yard) -> AsyncIterator[None]:
    """The leader's worker and its loops."""
    leases = Leases(db=yard.db, holder="leader", clock=yard.clock)
    works = [loop for loop in loops_of(yard.services) if loop.name in KEEPING]
    assert {loop.name for loop in works} == KEEPING
    tasks = [asyncio.create_task(yard.worker.run())]
    tasks += [asyncio.create_task(loop.run(leases.hold, speed=200)) for loop in works]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_other_gateway_keeps_no_apps(beside: DeployServices) -> None:
    assert beside.runs == ()
    assert KEEPING.isdisjoint(loop.name for loop in loops_of(beside))


@pytest.mark.usefixtures("keeping")
async def test_build_that_another_gateway_cancels_is_ended_by_the_leader(
    yard: Yard, beside: DeployServices, project: Project
) -> None:
    yard.runtime.gates["build"] = asyncio.Event()
    queued = await yard.queued(project)
    yard.worker.wake()
    await until(lambda: yard.runtime.called("build") == [queued.id])

    await beside.cancellation.cancel(project, queued)

    assert not (yard.sources / queued.id).exists()
    assert (yard.runtime.apps, yard.runtime.built) == ({}, {})
    ended = await yard.deployment(queued.id)
    assert (ended.status, ended.reason_code) == (DeploymentStatus.FAILED, "cancelled")


@pytest.mark.usefixtures("keeping")
async def test_project_that_another_gateway_deletes_is_gone_with_its_app_and_build(
    yard: Yard, beside: DeployServices, project: Project
) -> None:
    await yard.serving(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
    yard.runtime.gates["build"] = asyncio.Event()
    queued = await yard.queued(project)
    yard.worker.wake()
    await until(lambda: yard.runtime.called("build") == [queued.id])

    await beside.deletion.delete(project)

    assert await projects.by_id(yard.db, project.id) is None
    assert (yard.runtime.apps, yard.routes.table) == ({}, {})
    await until(lambda: not yard.worker.works_on(queued.id))


@pytest.mark.usefixtures("keeping")
async def test_route_of_a_domain_goes_with_its_row(yard: Yard, project: Project) -> None:
    serving = await yard.active(project)
    address = app_address(serving.id)
    yard.routes.table["lost.example.org"] = address
    assert await domains.verified(yard.db) == {}

    await until(lambda: "lost.example.org" not in yard.routes.table)

    assert yard.routes.table == {HOST: address}


async def test_domain_that_a_sleeping_project_has_proved_leads_to_the_former_no_more(
    yard: Yard, project: Project
) -> None:
    serving = await yard.serving(project)
    former = app_address(serving.id)
    asleep = await add_project(yard.db, name="asleep")
    async with yard.db.transaction(durable=True) as tx:
        for host, owner in (("kept.example.org", project), ("moved.example.org", asleep)):
            proved = Domain(
                host=host,
                project_id=owner.id,
                token=host,
                status=DomainStatus.VERIFIED,
                created_at_ms=0,
            )
            await domains.add(tx, proved)
    (routes,) = [loop for loop in loops_of(yard.services) if loop.name == "domains' routes"]
    kept = {HOST: former, "kept.example.org": former}
    yard.routes.table.clear()
    yard.routes.table.update({**kept, "moved.example.org": former})

    await routes.tick()

    assert yard.routes.table == kept


async def test_files_of_a_request_under_way_outlast_a_change_of_leader(
    yard: Yard, project: Project
) -> None:
    under_way = await yard.queued(project)
    for name, age_seconds in (("coming", 60), ("left", 7200)):
        (yard.sources / name).mkdir()
        at = time.time() - age_seconds
        os.utime(yard.sources / name, (at, at))

    await yard.reconciler.sweep(min_age_seconds=3600)

    assert {path.name for path in yard.sources.iterdir()} == {under_way.id, "coming"}


async def test_files_of_what_failed_are_removed_and_of_what_serves_nothing_is(
    yard: Yard, project: Project
) -> None:
    failed = await add_deployment(yard.db, project, DeploymentStatus.FAILED)
    (given_up,) = [loop for loop in loops_of(yard.services) if loop.name == "given up"]
    (yard.sources / failed.id).mkdir(parents=True)
    (yard.sources / "unknown").mkdir()

    await given_up.tick()

    assert {path.name for path in yard.sources.iterdir()} == {"unknown"}
