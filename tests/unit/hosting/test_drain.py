"""A version that was replaced is stopped when nobody uses it, or at the limit."""

import pytest
from yard import HOST, Yard, socket_of

from moorage.hosting.keeping.releases import IDLE_SECONDS, Drain
from moorage.hosting.limits import DRAIN_SECONDS
from moorage.records.deployment import Deployment
from moorage.records.project import Project
from support.books.records_fixture import ALICE, fund
from support.gateway.clock import START_MS


@pytest.fixture
def drain(yard: Yard) -> Drain:
    return Drain(
        runtime=yard.runtime, apps=yard.apps, limit_seconds=DRAIN_SECONDS, clock=yard.clock
    )


@pytest.fixture
async def old(yard: Yard, project: Project) -> Deployment:
    """A version that serves."""
    return await yard.active(project, created_at_ms=START_MS - 1)


async def test_idle_version_is_let_go_after_one_and_a_half_seconds(
    yard: Yard, drain: Drain, old: Deployment
) -> None:
    assert await drain.over([old.id]) == []
    yard.clock.advance(1_499)
    assert await drain.over([old.id]) == []
    yard.clock.advance(1)
    assert await drain.over([old.id]) == [old.id]


async def test_version_runs_until_the_proxies_of_all_gateways_have_switched(
    yard: Yard, old: Deployment
) -> None:
    drain = Drain(
        runtime=yard.runtime, apps=yard.apps, limit_seconds=0, clock=yard.clock, min_seconds=5
    )
    assert await drain.over([old.id]) == []
    yard.clock.advance(4_999)
    assert not drain.may_stop(old.id)
    assert await drain.over([old.id]) == []
    yard.clock.advance(1)
    assert drain.may_stop(old.id)
    assert await drain.over([old.id]) == [old.id]


async def test_connection_holds_a_version_and_its_end_starts_the_wait_afresh(
    yard: Yard, drain: Drain, old: Deployment
) -> None:
    assert await drain.over([old.id]) == []
    yard.runtime.open_connections[old.id] = 1
    yard.clock.advance(5_000)
    assert await drain.over([old.id]) == []
    yard.runtime.open_connections[old.id] = 0
    assert await drain.over([old.id]) == []
    yard.clock.advance(1_500)
    assert await drain.over([old.id]) == [old.id]


async def test_version_whose_connections_nothing_counts_has_all_of_the_time(
    yard: Yard, drain: Drain, old: Deployment
) -> None:
    yard.runtime.open_connections[old.id] = None
    waited = 0
    while await drain.over([old.id]) == []:
        yard.clock.advance(1_000)
        waited += 1
    assert waited == DRAIN_SECONDS


async def test_connection_that_never_ends_holds_a_version_no_longer_than_the_limit(
    yard: Yard, drain: Drain, old: Deployment
) -> None:
    yard.runtime.open_connections[old.id] = 1
    waited = 0
    while await drain.over([old.id]) == []:
        yard.clock.advance(1_000)
        waited += 1
    assert waited == DRAIN_SECONDS


async def test_replaced_version_is_stopped_when_drained_and_its_files_are_kept(
    yard: Yard, project: Project, old: Deployment
) -> None:
    await fund(yard.db, ALICE, 500_000)
    new = await yard.queued(project)
    yard.runtime.open_connections[old.id] = 1
    await yard.deployed()

    for _ in range(5):
        await yard.reconcile()
        yard.clock.advance(2_000)
    assert old.id in yard.runtime.apps

    yard.runtime.open_connections.clear()
    for _ in range(2):
        await yard.reconcile()
        yard.clock.advance(int(IDLE_SECONDS * 1000))
    assert set(yard.runtime.apps) == {new.id}
    assert set(yard.runtime.built) == {old.id, new.id}
    assert yard.routes.table == {HOST: socket_of(new)}


@pytest.mark.parametrize("method", ["known", "running"])
async def test_version_replaced_during_a_comparison_is_neither_stopped_nor_removed(
    yard: Yard, project: Project, old: Deployment, method: str
) -> None:
    """The rows may change between the looks at what is on the machine and at what they want."""
    new = await yard.queued(project)
    yard.runtime.built[new.id] = yard.runtime.built[old.id]

    def switch(called: str, _: str) -> None:
        if called == method:
            run = yard.db.sql
            run(f"UPDATE projects SET serving_deployment_id = '{new.id}'")
            run(f"UPDATE deployments SET status = 'ready' WHERE id = '{new.id}'")
            run(
                "UPDATE deployments SET status = 'superseded', superseded_at_ms = 1 "
                f"WHERE id = '{old.id}'"
            )

    yard.runtime.on_call = switch
    yard.runtime.open_connections[old.id] = 1
    await yard.reconcile()

    assert old.id in yard.runtime.apps
    assert old.id in yard.runtime.built
