"""Changes of configuration: what they are made to, what they wait for, who may make them."""

import asyncio
from typing import Any

import pytest
from yard import Yard

from moorage.acting import ACTING, Acting
from moorage.auth.rate_limit import MemoryRateLimiter, RateLimiter
from moorage.errors import (
    DelegateLimit,
    DeployFailed,
    FailureCause,
    InvalidField,
    MoorageError,
    NoCapacity,
    OutOfCredits,
    ProjectBlocked,
    ProjectNotFound,
    ProjectPaused,
    RateLimited,
)
from moorage.hosting.entrance.configuration import (
    Change,
    Changed,
    Effect,
    ProjectConfiguration,
    change_request,
)
from moorage.ledger.running_costs import hour_of
from moorage.money import MicroUsd
from moorage.records.deployment import Deployment, DeploymentStatus, Origin
from moorage.records.project import Project, ProjectStatus, Variables
from moorage.records.size import PriceList
from moorage.storage.apps import projects
from moorage.storage.money import accounts
from support.books.records_fixture import ALICE, CAROL, UNLIMITED, add_deployment, add_project, fund
from support.gateway.fakes import roomy


def test_every_change_is_taken() -> None:
    assert change_request(
        {
            "displayName": "Shop",
            "description": "sells",
            "healthPath": "/up",
            "runEnvs": {"A": "$1\n'\"", "B": None},
            "buildVars": {"C": ""},
            "volume": True,
            "restart": True,
        }
    ) == Change(
        display_name="Shop",
        description="sells",
        health_path="/up",
        run_envs={"A": "$1\n'\"", "B": None},
        build_vars={"C": ""},
        volume=True,
        restart=True,
    )


def test_pausing_stands_alone() -> None:
    assert change_request({"paused": False}) == Change(paused=False)
    with pytest.raises(InvalidField, match="alone"):
        change_request({"paused": True, "restart": True})


def test_nothing_asks_for_nothing() -> None:
    assert change_request({}) == Change()


def test_null_is_what_a_project_has_at_first() -> None:
    changed = change_request({"description": None, "healthPath": None})
    assert changed == Change(description="", health_path="/")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ("x", "body"),
        ({"uniqueName": "other"}, "uniqueName"),
        ({"runenvs": {}}, "runenvs"),
        ({"x" * 100: 1}, "x" * 64),
        ({"displayName": None}, "displayName"),
        ({"displayName": ""}, "displayName"),
        ({"displayName": "x" * 101}, "displayName"),
        ({"description": 7}, "description"),
        ({"healthPath": "up"}, "healthPath"),
        ({"healthPath": "/\r\nX: 1"}, "healthPath"),
        ({"healthPath": 7}, "healthPath"),
        ({"runEnvs": None}, "runEnvs"),
        ({"runEnvs": []}, "runEnvs"),
        ({"runEnvs": {"A": 1}}, "runEnvs.A"),
        ({"runEnvs": {"1A": ""}}, "runEnvs"),
        ({"runEnvs": {"A": "\0"}}, "runEnvs.A"),
        ({"runEnvs": {"A": "\ud800"}}, "runEnvs.A"),
        ({"runEnvs": {"A": "x" * 32_769}}, "runEnvs.A"),
        ({"runEnvs": {"PORT": "80"}}, "runEnvs.PORT"),
        ({"buildVars": {"PORT": None}}, "buildVars.PORT"),
        ({"buildVars": {f"A{n}": None for n in range(201)}}, "buildVars"),
        ({"volume": False}, "volume"),  # it would take data away
        ({"volume": None}, "volume"),
        ({"sleepAfterSeconds": 0}, "sleepAfterSeconds"),
        ({"sleepAfterSeconds": True}, "sleepAfterSeconds"),
        ({"sleepAfterSeconds": "10m"}, "sleepAfterSeconds"),
        ({"sleepAfterSeconds": 31_536_001}, "sleepAfterSeconds"),
        ({"restart": 1}, "restart"),
        ({"paused": None}, "paused"),
        ({"restart": None}, "restart"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(body: Any, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        change_request(body)
    assert refused.value.field == field


def test_sleep_sooner_than_the_operator_lets_apps_is_refused_with_the_least() -> None:
    with pytest.raises(InvalidField, match="60 to") as refused:
        change_request({"sleepAfterSeconds": 59}, min_sleep_seconds=60)
    assert refused.value.field == "sleepAfterSeconds"
    asked = change_request({"sleepAfterSeconds": 60}, min_sleep_seconds=60)
    assert asked.sleep_after_seconds == 60
    assert change_request({"sleepAfterSeconds": None}).sleep_after_seconds is None


def test_a_refusal_repeats_no_value() -> None:
    for body in ({"runEnvs": {"A": "hunter2\0"}}, {"buildVars": {"A": "hunter2" * 9_000}}):
        with pytest.raises(InvalidField) as refused:
            change_request(body)
        assert "hunter2" not in refused.value.message


class Desk:
    """A project that serves, and changes of it."""

    def __init__(self, yard: Yard, project: Project) -> None:
        self.yard = yard
        self.project = project
        self.queued = 0
        self.copies: RateLimiter = UNLIMITED
        self.service = self.with_reserve(0)

    def with_copies(self, copies: RateLimiter) -> None:
        """As after a restart with another rate."""
        self.copies = copies
        self.with_reserve(0)

    def with_reserve(self, reserve_bytes: int) -> ProjectConfiguration:
        """As after a restart with another setting."""
        self.service = ProjectConfiguration(
            db=self.yard.db,
            vault=self.yard.vault,
            sizes=PriceList().sizes(),
            capacity=roomy(self.yard.db, reserve_bytes=reserve_bytes),
            metering=self.yard.metering,
            copies=self.copies,
            clock=self.yard.clock,
            on_queued=self._wake,
        )
        return self.service

    def _wake(self) -> None:
        self.queued += 1

    def sealed(self, **run: str) -> str:
        return self.yard.vault.seal(Variables(run=run), self.project.id)

    async def change(self, **document: Any) -> Changed:
        return await self.service.change(self.project, change_request(document))

    async def refused(self, **document: Any) -> MoorageError:
        with pytest.raises(MoorageError) as refused:
            await self.change(**document)
        return refused.value

    async def run_of(self, deployment_id: str | None) -> dict[str, str]:
        assert deployment_id is not None
        deployment = await self.yard.deployment(deployment_id)
        return self.yard.vault.open(deployment.variables, self.project.id).run


@pytest.fixture
async def desk(yard: Yard, project: Project) -> Desk:
    await fund(yard.db, ALICE, 500_000)
    return Desk(yard, project)


@pytest.fixture
async def serving(desk: Desk) -> Deployment:
    return await desk.yard.serving(desk.project, variables=desk.sealed(A="1"))


async def test_change_queues_a_copy_of_what_serves(desk: Desk, serving: Deployment) -> None:
    changed = await desk.change(runEnvs={"B": "2"}, healthPath="/up")

    assert (changed.effect, desk.queued) == (Effect.DEPLOYING, 1)
    assert changed.deployment_id is not None
    queued = await desk.yard.deployment(changed.deployment_id)
    assert (queued.origin, queued.copy_of) == (Origin.CONFIGURATION, serving.id)
    assert (queued.status, queued.plan) == (DeploymentStatus.QUEUED, serving.plan)
    assert queued.health_path == "/up"
    assert queued.request_digest == ""  # of a body with secrets, it could be guessed from
    assert await desk.run_of(queued.id) == {"A": "1", "B": "2"}
    assert await desk.run_of(serving.id) == {"A": "1"}


async def test_changed_app_sees_its_variables_and_is_asked_at_its_path(
    desk: Desk, serving: Deployment
) -> None:
    await desk.change(runEnvs={"B": "2"}, healthPath="/up")
    ready = await desk.yard.deployed()
    assert (ready.status, desk.yard.asked) == (DeploymentStatus.READY, ["/up"])
    started = desk.yard.runtime.specs[ready.id]
    assert started.variables == {"A": "1", "B": "2"}


async def test_second_change_goes_into_the_deployment_under_way(
    desk: Desk, serving: Deployment
) -> None:
    first = await desk.change(runEnvs={"B": "2"})
    second = await desk.change(runEnvs={"A": None, "C": "3"})

    assert second == Changed(Effect.UNDER_WAY, first.deployment_id)
    assert await desk.run_of(first.deployment_id) == {"B": "2", "C": "3"}


async def test_change_while_its_app_starts_has_it_started_once_more(
    desk: Desk, serving: Deployment
) -> None:
    first = await desk.change(runEnvs={"B": "2"})
    changes = [desk.change(runEnvs={"B": "3"})]

    def on_call(method: str, subject: str) -> None:
        if (method, subject) == ("start", first.deployment_id) and changes:
            tasks.append(asyncio.ensure_future(changes.pop()))

    tasks: list[asyncio.Future[Changed]] = []
    desk.yard.runtime.on_call = on_call
    ready = await desk.yard.deployed()

    assert (ready.status, len(tasks)) == (DeploymentStatus.READY, 1)
    assert tasks[0].result().effect is Effect.UNDER_WAY
    assert desk.yard.runtime.called("start") == [ready.id, ready.id]
    assert desk.yard.runtime.specs[ready.id].variables["B"] == "3"


async def test_app_that_fails_as_it_was_is_started_as_it_is_to_be(
    desk: Desk, serving: Deployment
) -> None:
    first = await desk.change(runEnvs={"B": "bad"})
    mending = [desk.change(runEnvs={"B": "good"})]

    async def mended(*_: object) -> None:
        if mending:
            await mending.pop()
            raise DeployFailed(FailureCause.UNHEALTHY, "It answered 500.")

    desk.yard.before_healthy = mended
    ready = await desk.yard.deployed()
    assert (ready.id, ready.status) == (first.deployment_id, DeploymentStatus.READY)
    assert desk.yard.runtime.specs[ready.id].variables["B"] == "good"


async def test_what_failed_is_given_up(desk: Desk, serving: Deployment) -> None:
    await desk.change(runEnvs={"BAD": "1"}, healthPath="/bad")
    desk.yard.unhealthy.append(DeployFailed(FailureCause.UNHEALTHY, "It answered 500."))
    assert (await desk.yard.deployed()).status is DeploymentStatus.FAILED

    now = await desk.service.show(await desk.yard.project(desk.project))
    assert (now.variables.run, now.health_path) == ({"A": "1"}, "/")
    mended = await desk.change(runEnvs={"GOOD": "1"})
    assert await desk.run_of(mended.deployment_id) == {"A": "1", "GOOD": "1"}


async def test_variables_of_builds_wait_for_an_upload_and_outlive_failures(
    desk: Desk, serving: Deployment
) -> None:
    waits = await desk.change(buildVars={"TOKEN": "t"})
    assert waits == Changed(Effect.NEXT_UPLOAD)
    await desk.change(runEnvs={"BAD": "1"})
    desk.yard.unhealthy.append(DeployFailed(FailureCause.UNHEALTHY, "It answered 500."))
    await desk.yard.deployed()
    now = await desk.service.show(await desk.yard.project(desk.project))
    assert now.variables.build == {"TOKEN": "t"}


async def test_same_values_again_change_nothing(desk: Desk, serving: Deployment) -> None:
    same = {"runEnvs": {"A": "1", "GONE": None}, "healthPath": "/"}
    assert await desk.change(**same) == Changed(Effect.NONE)
    named = {"displayName": desk.project.display_name, "description": None}
    assert await desk.change(**same, **named) == Changed(Effect.NONE)
    assert await desk.change(**same, **named | {"displayName": "Shop"}) == Changed(Effect.AT_ONCE)
    first = await desk.change(runEnvs={"A": "2"})
    again = await desk.change(runEnvs={"A": "2"}, restart=True)
    assert again.deployment_id == first.deployment_id


@pytest.mark.parametrize("in_purse", [0, 500_000])
async def test_change_of_a_project_with_a_purse_needs_what_that_has_and_not_its_wallet(
    yard: Yard, in_purse: int
) -> None:
    desk = Desk(yard, await add_project(yard.db, ALICE, "hello", ProjectStatus.ACTIVE))
    await yard.serving(desk.project)
    await fund(yard.db, ALICE, 500_000)
    async with yard.db.transaction(durable=True) as tx:
        await accounts.open_purse(tx, desk.project.id, wallet=ALICE, adopted=False, now_ms=1)
        if in_purse:
            assert await accounts.change_balance(tx, ALICE, -in_purse)
            await accounts.change_balance(tx, accounts.purse_of(desk.project.id), in_purse)
    if in_purse:
        assert (await desk.change(restart=True)).effect is Effect.DEPLOYING
    else:
        assert isinstance(await desk.refused(restart=True), OutOfCredits)


async def test_nothing_serves_so_it_waits_for_an_upload(desk: Desk) -> None:
    for document in ({"runEnvs": {"A": "1"}}, {"healthPath": "/up", "restart": True}):
        assert await desk.change(**document) == Changed(Effect.NEXT_UPLOAD)
    assert await desk.change(restart=True) == Changed(Effect.NOTHING_RUNS)
    now = await desk.service.show(await desk.yard.project(desk.project))
    assert (now.variables.run, now.health_path) == ({"A": "1"}, "/up")


async def test_change_of_the_app_needs_credits_and_one_of_its_name_does_not(yard: Yard) -> None:
    broke = Desk(yard, await add_project(yard.db, ALICE, "hello", ProjectStatus.ACTIVE))
    await yard.serving(broke.project)
    refused = await broke.refused(displayName="Shop", restart=True)
    assert isinstance(refused, OutOfCredits)
    assert (await yard.project(broke.project)).display_name != "Shop"  # all of it or nothing
    await broke.change(displayName="Shop")
    assert (await yard.project(broke.project)).display_name == "Shop"


async def test_change_that_needs_a_copy_is_refused_while_the_disk_has_no_room_for_it(
    desk: Desk, serving: Deployment
) -> None:
    """What the reserve holds is for the apps that are there."""
    desk.with_reserve(1 << 62)
    refused = await desk.refused(displayName="Shop", restart=True)
    assert isinstance(refused, NoCapacity)
    assert (await desk.yard.project(desk.project)).display_name == desk.project.display_name
    assert await desk.change(displayName="Shop", buildVars={"A": "1"})
    assert desk.queued == 0


async def test_changes_that_copy_a_disk_have_a_rate_of_their_own(
    desk: Desk, serving: Deployment
) -> None:
    desk.with_copies(MemoryRateLimiter(clock=desk.yard.clock, limit=1, window_seconds=300))
    await desk.change(restart=True)
    await desk.yard.deployed()
    refused = await desk.refused(displayName="Shop", restart=True)
    assert isinstance(refused, RateLimited)
    assert refused.retry_after_seconds == 300
    assert (await desk.yard.project(desk.project)).display_name == desk.project.display_name
    await desk.change(displayName="Shop")  # copies nothing


async def test_what_the_operator_suspended_is_not_changed(desk: Desk, serving: Deployment) -> None:
    async with desk.yard.db.transaction(durable=False) as tx:
        await projects.block_project(tx, desk.project.id, "phishing")
    for document in ({"displayName": "x"}, {"restart": True}):
        assert isinstance(await desk.refused(**document), ProjectBlocked)


async def test_what_its_owner_paused_is_not_changed(desk: Desk, serving: Deployment) -> None:
    async with desk.yard.db.transaction(durable=False) as tx:
        await projects.set_paused(tx, desk.project.id, at_ms=1)
    for document in ({"displayName": "x"}, {"restart": True}):
        assert isinstance(await desk.refused(**document), ProjectPaused)


async def test_what_is_being_deleted_is_not_changed(desk: Desk, serving: Deployment) -> None:
    async with desk.yard.db.transaction(durable=False) as tx:
        await projects.set_status(tx, desk.project.id, ProjectStatus.DELETING)
    assert isinstance(await desk.refused(displayName="x"), ProjectNotFound)


async def test_too_many_variables_are_refused_and_nothing_is_changed(
    desk: Desk, serving: Deployment
) -> None:
    many = {f"V{number}": "" for number in range(200)}
    refused = await desk.refused(displayName="x", runEnvs=many)
    assert isinstance(refused, InvalidField)
    assert refused.field == "runEnvs"
    assert (await desk.yard.project(desk.project)).display_name != "x"


async def test_changes_made_at_once_are_all_there(desk: Desk, serving: Deployment) -> None:
    changed = await asyncio.gather(
        *(desk.change(runEnvs={f"V{number}": str(number)}) for number in range(10))
    )
    (deployment_id,) = {each.deployment_id for each in changed}
    expected = {"A": "1"} | {f"V{number}": str(number) for number in range(10)}
    assert await desk.run_of(deployment_id) == expected


async def test_upload_that_is_queued_has_what_is_changed(desk: Desk, serving: Deployment) -> None:
    upload = await desk.yard.queued(desk.project, variables=desk.sealed(FROM="upload"))
    changed = await desk.change(runEnvs={"AND": "patch"})
    assert changed == Changed(Effect.UNDER_WAY, upload.id)
    assert await desk.run_of(upload.id) == {"FROM": "upload", "AND": "patch"}


async def test_builds_and_apps_see_only_their_own(desk: Desk) -> None:
    variables = Variables(build={"B": "1"}, run={"R": "2"})
    sealed = desk.yard.vault.seal(variables, desk.project.id)
    await desk.yard.queued(desk.project, variables=sealed)
    ready = await desk.yard.deployed()
    assert desk.yard.runtime.built[ready.id].variables == {"B": "1"}
    assert desk.yard.runtime.specs[ready.id].variables == {"R": "2"}


async def test_no_app_runs_without_its_variables(desk: Desk) -> None:
    sealed = desk.yard.vault.seal(Variables(run={"R": "2"}), "another project")
    await add_deployment(desk.yard.db, desk.project, queued=True, variables=sealed)
    with pytest.raises(MoorageError, match="cannot be opened"):
        await desk.yard.workflow.run(await desk.yard.claim())
    assert desk.yard.runtime.apps == {}


async def test_change_of_size_runs_and_is_billed_from_the_switch_on(
    desk: Desk, serving: Deployment
) -> None:
    changed = await desk.change(size="large")
    assert changed.effect is Effect.DEPLOYING
    assert (await desk.yard.project(desk.project)).size == "standard"
    ready = await desk.yard.deployed()
    limits = desk.yard.runtime.specs[ready.id].limits
    assert (limits.memory_bytes, limits.cpu_millis) == (2048 * 1024**2, 2000)
    project = await desk.yard.project(desk.project)
    assert (project.size, project.monthly_price_micro_usd) == ("large", 2_000_000)


async def test_failed_change_of_size_leaves_size_and_price(desk: Desk, serving: Deployment) -> None:
    await desk.change(size="large")
    desk.yard.runtime.faults["start"] = [DeployFailed(FailureCause.OUT_OF_MEMORY, "too small")]
    failed = await desk.yard.deployed()
    assert failed.status is DeploymentStatus.FAILED
    project = await desk.yard.project(desk.project)
    assert (project.size, project.monthly_price_micro_usd) == ("standard", 500_000)


async def test_sizes_one_after_the_other_go_into_the_deployment_under_way(
    desk: Desk, serving: Deployment
) -> None:
    first = await desk.change(size="large")
    assert await desk.change(size="small") == Changed(Effect.UNDER_WAY, first.deployment_id)
    ready = await desk.yard.deployed()
    assert (ready.size, (await desk.yard.project(desk.project)).size) == ("small", "small")


async def test_larger_size_of_a_deployment_under_way_needs_room_as_any(
    desk: Desk, serving: Deployment
) -> None:
    begun = await desk.change(healthPath="/up")
    desk.with_reserve(2**40)
    assert isinstance(await desk.refused(size="large"), NoCapacity)
    assert (await desk.change(healthPath="/")).effect is Effect.UNDER_WAY
    assert begun.deployment_id is not None
    assert (await desk.yard.deployment(begun.deployment_id)).size == "standard"


async def test_size_whose_next_hour_the_credits_do_not_pay_is_refused(
    desk: Desk, serving: Deployment
) -> None:
    """At the switch the app would be suspended, which the present size still pays for."""
    spare = hour_of(MicroUsd(2_000_000)) - 1
    desk.yard.db.sql("UPDATE wallets SET balance_micro_usd = ?", (spare,))
    assert isinstance(await desk.refused(size="large"), OutOfCredits)
    assert (await desk.change(size="small")).effect is Effect.DEPLOYING
    assert isinstance(await desk.refused(size="large"), OutOfCredits)
    desk.yard.db.sql("UPDATE wallets SET balance_micro_usd = ?", (spare + 1,))
    assert (await desk.change(size="large")).effect is Effect.UNDER_WAY


async def test_delegate_makes_no_project_dearer_that_burns_its_owners_credits(
    desk: Desk, serving: Deployment
) -> None:
    ACTING.set(Acting(ALICE, CAROL))
    assert isinstance(await desk.refused(size="large"), DelegateLimit)
    assert (await desk.change(size="small")).effect is Effect.DEPLOYING


async def test_size_that_there_is_not_is_refused_with_those_that_there_are(
    desk: Desk, serving: Deployment
) -> None:
    refused = await desk.refused(size="huge")
    assert isinstance(refused, InvalidField)
    assert refused.field == "size"
    assert "small, standard, large" in refused.message
