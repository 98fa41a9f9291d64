"""What is said of one deployment, and of a wallet's last events."""

from typing import Any, cast

import msgspec
import pytest

from moorage.api.deployments import show_deployment
from moorage.api.http.caller import Person, answered
from moorage.api.webhooks import list_events
from moorage.clock import iso_utc
from moorage.errors import DeploymentNotFound
from moorage.money import MicroUsd
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.event import EventData, EventKind
from moorage.records.project import Project
from moorage.storage import events
from moorage.storage.database import Database
from moorage.storage.money import billing
from moorage.storage.money.billing import Work
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock
from support.gateway.fakes import FakeRuntime


class Asking(Believed):
    """Asks as ALICE, whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        super().__init__(db, clock, runtime=FakeRuntime())

    async def shown(self, project: Project, deployment_id: str) -> dict[str, Any]:
        request = request_of(projectId=project.id, deploymentId=deployment_id)
        return body_of(await answered(show_deployment, self.room, request))

    async def events(self, query: str = "", person: Person | None = None) -> list[dict[str, Any]]:
        answer = await answered(list_events, self.room, request_of(query, person=person))
        return cast("list[dict[str, Any]]", body_of(answer)["events"])

    async def sequences(self, query: str) -> list[int]:
        return [each["sequence"] for each in await self.events(query)]


@pytest.fixture
def ask(db: Database, clock: MovableClock) -> Asking:
    return Asking(db, clock)


async def built(db: Database, deployment: Deployment, wallet: str, begun_ms: int) -> None:
    run = Work(
        id=f"{deployment.id}{wallet}{begun_ms}",
        wallet=wallet,
        project_id=deployment.project_id,
        deployment_id=deployment.id,
        monthly_price_micro_usd=MicroUsd(1),
        started_at_ms=begun_ms,
        ran_ms=2_500,
    )
    async with db.transaction(durable=False) as tx:
        await billing.add_work(tx, run)


async def test_deployment_tells_its_plan_and_its_last_build(db: Database, ask: Asking) -> None:
    project = await add_project(db)
    deployment = await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    for begun_ms in (START_MS + 5_000, START_MS + 1_000):
        await built(db, deployment, ALICE, begun_ms)
    told = await ask.shown(project, "latest")
    assert told["id"] == deployment.id
    assert told["buildStartedAt"] == iso_utc(START_MS + 5_000)
    assert told["buildSeconds"] == 2.5
    assert told["supersededAt"] is None
    assert msgspec.convert(told["plan"], Plan) == msgspec.json.decode(deployment.plan, type=Plan)


async def test_deployment_that_was_never_built_tells_no_build(db: Database, ask: Asking) -> None:
    project = await add_project(db)
    deployment = await add_deployment(db, project)
    told = await ask.shown(project, deployment.id)
    assert (told["buildStartedAt"], told["buildSeconds"]) == (None, None)


async def test_deployment_of_another_project_is_not_found(db: Database, ask: Asking) -> None:
    project, other = await add_project(db), await add_project(db, BOB, "other")
    others = await add_deployment(db, other)
    with pytest.raises(DeploymentNotFound):
        await ask.shown(project, others.id)


async def test_last_events_are_had_without_the_first(db: Database, ask: Asking) -> None:
    for number in range(5):
        async with db.transaction(durable=False) as tx:
            await events.record(
                tx,
                wallet=ALICE,
                kind=EventKind.CREDITS_LOW,
                data={"hours": number},
                now_ms=START_MS,
            )
    assert await ask.sequences("before=9223372036854775807&limit=2") == [4, 5]
    assert await ask.sequences("before=4&limit=2") == [2, 3]
    assert await ask.sequences("before=1") == []


async def test_links_readers_are_not_told_where_an_export_can_be_had(
    db: Database, ask: Asking
) -> None:
    data: EventData = {"project_id": "one", "path": "/exports/f00d"}
    async with db.transaction(durable=False) as tx:
        kind = EventKind.PROJECT_EXPORTED
        await events.record(tx, wallet=ALICE, kind=kind, data=data, now_ms=START_MS)
    for owner in (None, Person(ALICE)):
        assert [each["data"] for each in await ask.events(person=owner)] == [data]
    (told,) = await ask.events(person=Person(ALICE, may_change=False))
    assert told["data"] == {"project_id": "one"}
