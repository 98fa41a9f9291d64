"""What is said of one project, and of a change of it."""

import uuid
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from moorage.api.deploy import accepted
from moorage.api.http.caller import answered
from moorage.api.http.idempotency import Idempotency
from moorage.api.projects import adopt_project, change_project, set_purse, show_project
from moorage.clock import iso_utc
from moorage.engines.engine import WrittenFiles
from moorage.errors import InvalidField
from moorage.hosting.entrance.attempt import Admitted
from moorage.hosting.entrance.configuration import ProjectConfiguration
from moorage.hosting.entrance.written import Written
from moorage.hosting.keeping.suspension import Pausing
from moorage.ledger import ledger
from moorage.ledger.metering import Metering
from moorage.records.deployment import DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.records.size import PriceList
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database
from moorage.storage.money import payments
from moorage.storage.vault import Vault
from support.books.records_fixture import ALICE, UNLIMITED, add_deployment, add_project, fund
from support.gateway.believed import HOSTS, Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock
from support.gateway.fakes import FakeRuntime, roomy

CONTRACTS = "Deployment started. Poll status for updates."


@pytest.mark.parametrize(
    ("redeploys", "months", "said"),
    [(False, 1, ""), (False, 3, ""), (True, 1, "kept"), (True, 3, "months does not count")],
)
def test_redeploy_is_told_what_is_kept_and_that_months_do_not_count(
    redeploys: bool, months: int, said: str
) -> None:
    admitted = Admitted("project", "deployment", 0, redeploys=redeploys, months=months)
    response = accepted(admitted)
    body: dict[str, Any] = msgspec.json.decode(bytes(response.body))
    assert body["message"].startswith(CONTRACTS)
    assert (body["message"] != CONTRACTS) == bool(said)
    assert said in body["message"]


AN_HOUR = 0.000685
"""Of $0.50 a month, in dollars: a 730th, rounded up to the micro-USD."""


class Asking(Believed):
    """Asks as the owner, whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.metering = Metering(db=db, clock=clock)
        self.engine = FakeRuntime()
        super().__init__(
            db,
            clock,
            hosts=HOSTS,
            metering=self.metering,
            facts=SimpleNamespace(retention_days=30, min_sleep_seconds=60),
            parsers=None,  # small bodies need none
            idempotency=Idempotency(db=db, clock=clock),
            pausing=Pausing(
                db=db,
                metering=self.metering,
                resumptions=UNLIMITED,
                on_given_up=lambda _: None,
                clock=clock,
            ),
            written=Written(self.engine, clock, wait_seconds=60),
            configuration=ProjectConfiguration(
                db=db,
                vault=Vault([bytes(32)]),
                sizes=PriceList().sizes(),
                capacity=roomy(db),
                metering=self.metering,
                copies=UNLIMITED,
                clock=clock,
                on_queued=lambda: None,
            ),
        )

    async def shown(self, project: Project) -> dict[str, Any]:
        return body_of(await answered(show_project, self.room, request_of(projectId=project.id)))

    async def purse(self, project: Project, body: str, *, key: str = "") -> dict[str, Any]:
        request = request_of(
            body=body.encode(),
            projectId=project.id,
            method="PUT",
            headers={"idempotency-key": key or str(uuid.uuid4())},
        )
        return body_of(await answered(set_purse, self.room, request))

    async def changed(self, project: Project, **change: Any) -> dict[str, Any]:
        request = request_of(body=msgspec.json.encode(change), projectId=project.id)
        return body_of(await answered(change_project, self.room, request))


@pytest.fixture
def asking(db: Database, clock: MovableClock) -> Asking:
    return Asking(db, clock)


async def test_project_is_warned_of_files_that_its_serving_version_has_written(
    db: Database, asking: Asking
) -> None:
    project = await add_project(db)
    assert "warnings" not in await asking.shown(project)
    deployment = await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    asking.engine.wrote = {deployment.id: WrittenFiles(files=3, size_bytes=1, complete=True)}
    serving = await projects.by_id(db, project.id)
    assert serving is not None
    (told,) = (await asking.shown(serving))["warnings"]
    assert told["code"] == "files_written"


async def test_adopted_project_shares_its_wallets_credits_and_asked_again_changes_nothing(
    db: Database, asking: Asking
) -> None:
    project = await add_project(db)
    await fund(db, ALICE, 700_000)
    async with db.transaction(durable=True) as tx:
        (paid,) = await payments.every(tx)
        assert await ledger.fill_purse(tx, paid, project.id, now_ms=START_MS)
        await asking.metering.begin(tx, project.id)
    assert (await asking.shown(project))["purse"]["balance_usd"] == 0.7
    answers = [await adopt_project(asking.room, project) for _ in range(2)]
    assert [each.moved_usd for each in answers] == [0.7, 0.0]
    for answer in answers:
        assert (answer.credits_usd, answer.burn_per_hour_usd) == (0.7, AN_HOUR)
    assert "purse" not in await asking.shown(project)


async def test_a_purse_is_changed_once_for_each_key(db: Database, asking: Asking) -> None:
    project = await add_project(db)
    await fund(db, ALICE, 700_000)
    body = '{"add_usd": 0.2, "shared": false, "limit_usd_month": 0.5}'
    answers = [await asking.purse(project, body, key="one") for _ in range(2)]
    expected = {
        "projectId": project.id,
        "balance_usd": 0.2,
        "shared": False,
        "limit_usd_month": 0.5,
        "burned_usd_month": 0,
        "runs_out_at": None,
        "credits_usd": 0.5,
    }
    assert answers == [expected, expected]
    del expected["credits_usd"]
    assert (await asking.shown(project))["purse"] == expected
    answer = await asking.purse(project, '{"take_usd": "0.2", "shared": true}')
    assert (answer["balance_usd"], answer["limit_usd_month"]) == (0, 0.5)
    await asking.purse(project, '{"limit_usd_month": null}')
    assert "purse" not in await asking.shown(project)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"add_usd": -1}', "add_usd"),
        ('{"add_usd": 0.0000001}', "add_usd"),
        ('{"add_usd": "NaN"}', "add_usd"),
        ('{"take_usd": "Infinity"}', "take_usd"),
        ('{"add_usd": 1, "take_usd": 1}', "take_usd"),
        ('{"limit_usd_month": 100001}', "limit_usd_month"),
        ('{"shared": "no"}', "shared"),
        ('{"limit": 1}', "limit"),
    ],
)
async def test_amounts_of_a_purse_are_whole_micro_dollars(
    db: Database, asking: Asking, body: str, field: str
) -> None:
    project = await add_project(db)
    await fund(db, ALICE, 700_000)
    with pytest.raises(InvalidField) as refused:
        await asking.purse(project, body)
    assert refused.value.field == field


async def test_paused_project_says_so_and_until_when_it_is_kept(
    db: Database, asking: Asking
) -> None:
    project = await add_project(db)
    await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    changed = await asking.changed(project, paused=True)
    assert (changed["status"], "30 days" in changed["message"]) == ("changed", True)
    paused = await projects.by_id(db, project.id)
    assert paused is not None
    shown = await asking.shown(paused)
    assert (shown["status"], shown["suspendedBecause"]) == ("suspended", "project_paused")
    assert shown["keptUntil"] == iso_utc(START_MS + 30 * 24 * 3_600_000)


async def test_project_burns_from_its_first_ready_until_it_is_suspended(
    db: Database, asking: Asking
) -> None:
    project = await add_project(db, status=ProjectStatus.QUEUED)
    burned = [(await asking.shown(project))["burnPerHourUsd"]]
    async with db.transaction(durable=False) as tx:
        await asking.metering.begin(tx, project.id)
    burned.append((await asking.shown(project))["burnPerHourUsd"])
    async with db.transaction(durable=False) as tx:
        await asking.metering.end(tx, project.id)
    told = await asking.shown(project)
    assert ([*burned, told["burnPerHourUsd"]], told["pricePerHourUsd"]) == (
        [0, AN_HOUR, 0],
        AN_HOUR,
    )


async def test_change_of_what_is_suspended_does_not_say_that_anything_serves(
    db: Database, asking: Asking
) -> None:
    project = await add_project(db)
    await add_deployment(db, project, DeploymentStatus.READY, serving=True)
    await fund(db, ALICE, 1)
    active = await asking.changed(project, restart=True)
    assert "serves until" in active["message"]
    async with db.transaction(durable=False) as tx:
        await projects.suspend(tx, project.id, at_ms=START_MS)
    for under_way in await deployments.under_way_of(db, project.id):
        async with db.transaction(durable=False) as tx:
            await deployments.move(tx, under_way.id, DeploymentStatus.FAILED)
    suspended = await asking.changed(project, restart=True)
    assert suspended["status"] == "deploying"
    assert "nothing of it serves" in suspended["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"displayName": "Shop"}, "Changed."),
        ({"displayName": "Hello", "runEnvs": {"NEVER_SET": None}}, "Nothing is changed"),
        ({"restart": True}, "nothing was restarted"),
        ({"runEnvs": {"A": "1"}, "restart": True}, "next upload"),
    ],
)
async def test_change_of_what_has_never_served_says_what_it_did(
    db: Database, asking: Asking, change: dict[str, Any], said: str
) -> None:
    project = await add_project(db, status=ProjectStatus.FAILED, display_name="Hello")
    told = await asking.changed(project, **change)
    assert told["status"] == "changed"
    assert said in told["message"]
