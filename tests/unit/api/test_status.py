from typing import Any

import msgspec
import pytest

from moorage.api.deployments import status
from moorage.api.http.caller import Person, answered
from moorage.engines.engine import WrittenFiles
from moorage.errors import (
    DeploymentNotFound,
    MoorageError,
    ProjectNotFound,
    RateLimited,
    WrongWallet,
)
from moorage.hosting.entrance.written import Written
from moorage.hosting.keeping.restarts import History
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd
from moorage.records.deployment import UNDER_WAY, Deployment, DeploymentStatus, ReleaseStep
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database
from moorage.storage.money import payments
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project, fund
from support.gateway.believed import HOSTS, Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock
from support.gateway.fakes import FakeRuntime

ENDPOINT = "https://hello.example.com"


class Asking(Believed):
    """Asks for a status as `wallet`, whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.metering = Metering(db=db, clock=clock)
        self.engine = FakeRuntime()
        super().__init__(
            db,
            clock,
            limit=30,
            hosts=HOSTS,
            metering=self.metering,
            minimum_charge=MicroUsd(500_000),
            written=Written(self.engine, clock, wait_seconds=60),
        )

    async def status(
        self, project_id: str, deployment_id: str, *, person: Person | None = None
    ) -> dict[str, Any]:
        request = request_of(projectId=project_id, deploymentId=deployment_id, person=person)
        return body_of(await answered(status, self.room, request))

    async def refused(self, project_id: str, deployment_id: str) -> type[MoorageError]:
        with pytest.raises(MoorageError) as error:
            await self.status(project_id, deployment_id)
        return error.type


@pytest.fixture
def asking(db: Database, clock: MovableClock) -> Asking:
    return Asking(db, clock)


async def made(
    db: Database,
    status: DeploymentStatus,
    project_status: ProjectStatus = ProjectStatus.ACTIVE,
    **changed: Any,
) -> tuple[Project, Deployment]:
    project = await add_project(db, ALICE, "hello", project_status)
    serving = status is DeploymentStatus.READY
    return project, await add_deployment(db, project, status, serving=serving, **changed)


@pytest.mark.parametrize("status", UNDER_WAY)
async def test_deployment_under_way_tells_its_stage(
    db: Database, asking: Asking, status: DeploymentStatus
) -> None:
    project, deployment = await made(db, status, ProjectStatus(status))
    assert await asking.status(project.id, deployment.id) == {
        "status": "deploying",
        "deployment_id": deployment.id,
        "deployment_status": status,
    }


async def test_queued_deployment_tells_its_place_in_the_queue(db: Database, asking: Asking) -> None:
    queued = [
        await add_deployment(
            db, await add_project(db, name=name, status=ProjectStatus.QUEUED), queued=True
        )
        for name in ("first", "second")
    ]
    told = [await asking.status(each.project_id, each.id) for each in queued]
    assert {(each["status"], each["deployment_status"]) for each in told} == {
        ("deploying", "queued")
    }
    assert {each["position"] for each in told} == {1, 2}


async def test_ready_has_an_endpoint(db: Database, asking: Asking) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    assert await asking.status(project.id, deployment.id) == {
        "status": "ready",
        "deployment_id": deployment.id,
        "endpoint": ENDPOINT,
    }


async def test_serving_version_alone_is_warned_of_files_that_it_has_written(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    earlier = await add_deployment(db, project, DeploymentStatus.SUPERSEDED)
    three = WrittenFiles(files=3, size_bytes=1, complete=True)
    asking.engine.wrote = {deployment.id: three, earlier.id: three}
    (told,) = (await asking.status(project.id, deployment.id))["warnings"]
    assert told["code"] == "files_written"
    assert "3 files" in told["message"]
    assert "warnings" not in await asking.status(project.id, earlier.id)


async def test_what_the_deployer_should_know_is_said(db: Database, asking: Asking) -> None:
    project, deployment = await made(db, DeploymentStatus.READY, note="It listens elsewhere.")
    assert (await asking.status(project.id, deployment.id))["message"] == "It listens elsewhere."


async def test_app_that_does_not_run_at_the_moment_is_not_ready(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    async with db.transaction(durable=False) as tx:
        await deployments.set_down(tx, project.id, serving=deployment.id, since_ms=START_MS)
    told = await asking.status(project.id, deployment.id)
    assert "started again" in told.pop("message")
    assert told == {
        "status": "deploying",
        "deployment_id": deployment.id,
        "deployment_status": "restarting",
    }


async def test_app_that_does_not_last_is_said_to_be_in_a_crash_loop(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    async with db.transaction(durable=False) as tx:
        await deployments.set_down(tx, project.id, serving=deployment.id, since_ms=START_MS)
    history = History(
        times_ms=[START_MS - seconds * 1000 for seconds in (500, 300, 200, 100, 50, 10)],
        is_loop=True,
        pause_seconds=32,
        exit_code=137,
        out_of_memory=True,
    )
    async with db.transaction(durable=False) as tx:
        await deployments.store_restarts(
            tx,
            deployment.id,
            last_ms=START_MS - 10_000,
            history=msgspec.json.encode(history).decode(),
            before_ms=0,
        )
    told = await asking.status(project.id, deployment.id)
    assert "memory limit" in told.pop("reason")
    assert told == {
        "status": "failed",
        "deployment_id": deployment.id,
        "deployment_status": "crash_looping",
        "reason_code": "out_of_memory",
        "restarts": 6,
        "exit_code": 137,
        "out_of_memory": True,
        "next_try_at": "2026-04-07T10:00:22.000Z",
    }


async def test_failed_has_a_reason_and_the_advice_that_was_stored_with_it(
    db: Database, asking: Asking
) -> None:
    """Whatever its log says: that was read once, when it failed."""
    project, deployment = await made(
        db,
        DeploymentStatus.FAILED,
        ProjectStatus.FAILED,
        reason="It ended. Its log: TypeError: boom",
        reason_code="crashed",
        log_tail="KeyError: 'STRIPE_KEY'\n",
        advice='{"next_actions": ["Do this."], "next_settings": {"port": 80}}',
    )
    assert await asking.status(project.id, deployment.id) == {
        "status": "failed",
        "deployment_id": deployment.id,
        "reason": "It ended. Its log: TypeError: boom",
        "reason_code": "crashed",
        "log_tail": "KeyError: 'STRIPE_KEY'\n",
        "next_actions": ["Do this."],
        "next_settings": {"port": 80},
    }


async def test_failed_redeploy_says_that_what_served_serves_on(
    db: Database, asking: Asking
) -> None:
    project, serving = await made(db, DeploymentStatus.READY)
    failed = await add_deployment(
        db, project, DeploymentStatus.FAILED, reason="`make` failed with exit code 2"
    )
    body = await asking.status(project.id, failed.id)
    assert body["reason"] == f"`make` failed with exit code 2. Deployment {serving.id} serves on."
    assert body["serving_deployment_id"] == serving.id


async def test_failed_redeploy_of_what_does_not_run_does_not_say_that_it_serves(
    db: Database, asking: Asking
) -> None:
    project, serving = await made(db, DeploymentStatus.READY)
    failed = await add_deployment(db, project, DeploymentStatus.FAILED, reason="It ended.")
    async with db.transaction(durable=False) as tx:
        await deployments.set_down(tx, project.id, serving=serving.id, since_ms=START_MS)
    dead = await asking.status(project.id, failed.id)
    async with db.transaction(durable=False) as tx:
        await projects.suspend(tx, project.id, at_ms=START_MS)
    suspended = await asking.status(project.id, failed.id)
    for body in (dead, suspended):
        assert body["reason"] == "It ended."
        assert "serving_deployment_id" not in body


async def test_suspended_project_says_what_it_needs(db: Database, asking: Asking) -> None:
    """More than nothing may be left: what it lacks to is the next hour."""
    project, deployment = await made(db, DeploymentStatus.READY, ProjectStatus.SUSPENDED)
    await fund(db, ALICE, 100)
    assert await asking.status(project.id, deployment.id) == {
        "status": "failed",
        "deployment_id": deployment.id,
        "deployment_status": "suspended",
        "reason": "Out of credits: the app is stopped and kept. "
        "Its next hour costs $0.000685, and $0.0001 is left. "  # 730 hours are $0.50
        "Top up by $0.50 or more, and it starts again by itself.",
        "reason_code": "out_of_credits",
        "next_actions": ["Top up with POST /agent/credits; the app then starts by itself."],
    }


async def test_suspended_project_with_a_purse_tells_what_that_has_and_not_its_wallet(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.READY, ProjectStatus.SUSPENDED)
    await fund(db, ALICE, 100)
    async with db.transaction(durable=True) as tx:
        (paid,) = await payments.every(tx)
        assert await ledger.fill_purse(tx, paid, project.id, now_ms=START_MS)
    await fund(db, ALICE, 5_000_000)
    body = await asking.status(project.id, deployment.id)
    assert "and $0.0001 is left" in body["reason"]
    assert "manage_token" in body["next_actions"][0]
    assert "/adopt" in body["next_actions"][1]


async def test_replaced_version_says_so(db: Database, asking: Asking) -> None:
    project, old = await made(db, DeploymentStatus.SUPERSEDED)
    await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    body = await asking.status(project.id, old.id)
    assert (body["status"], body["deployment_status"]) == ("ready", "superseded")


@pytest.mark.parametrize("project_status", [ProjectStatus.DELETING, ProjectStatus.DELETED])
async def test_project_that_goes_is_gone(
    db: Database, asking: Asking, project_status: ProjectStatus
) -> None:
    project, deployment = await made(db, DeploymentStatus.STOPPED, project_status)
    assert await asking.refused(project.id, deployment.id) is ProjectNotFound


async def test_others_are_told_nothing(db: Database, asking: Asking) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    other = await add_project(db, BOB, "other")
    assert await asking.refused(project.id, "unknown") is DeploymentNotFound
    assert await asking.refused(other.id, deployment.id) is DeploymentNotFound
    asking.wallet = BOB
    assert await asking.refused(project.id, deployment.id) is WrongWallet


async def test_polls_count_for_each_deployment_and_not_for_the_wallet(
    db: Database, asking: Asking
) -> None:
    project, first = await made(db, DeploymentStatus.READY)
    second = await add_deployment(db, project)
    for deployment in (first, second):
        for _ in range(30):
            await asking.status(project.id, deployment.id)
        assert await asking.refused(project.id, deployment.id) is RateLimited
    assert asking.nonces_used == 60
    await asking.limiters.wallets.check(ALICE)


async def test_person_who_watches_uses_up_no_poll_of_the_agent(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    for _ in range(30):
        await asking.status(project.id, deployment.id, person=Person(ALICE))
    await asking.status(project.id, deployment.id)


async def test_polls_of_what_is_not_ones_own_count_for_the_wallet(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    asking.wallet = BOB
    for _ in range(30):
        assert await asking.refused(project.id, deployment.id) is WrongWallet
    assert await asking.refused(project.id, deployment.id) is RateLimited
    asking.wallet = ALICE
    await asking.status(project.id, deployment.id)


async def test_release_command_that_runs_is_a_stage_of_deploying(
    db: Database, asking: Asking
) -> None:
    project, deployment = await made(db, DeploymentStatus.DEPLOYING, release_step=ReleaseStep.BEGUN)
    body = await asking.status(project.id, deployment.id)
    assert (body["status"], body["deployment_status"]) == ("deploying", "releasing")


async def test_worker_that_is_ready_has_no_endpoint(db: Database, asking: Asking) -> None:
    project, deployment = await made(db, DeploymentStatus.READY)
    async with db.transaction(durable=True) as tx:
        await projects.set_serving(tx, project.id, deployment.id, kind=Kind.WORKER)
    body = await asking.status(project.id, deployment.id)
    assert (body["status"], body["endpoint"], body["kind"]) == ("ready", None, "worker")
