import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from yard import APP_LIMITS, BUILD_LIMITS, HOST, SETTINGS, Yard, socket_of

from moorage.engines.engine import AppExit, Instance, InstanceSpec, Limits
from moorage.errors import (
    ClusterUnavailable,
    DatabaseUnavailable,
    DeployFailed,
    FailureCause,
    NoCapacity,
)
from moorage.hosting.work import worker as worker_module
from moorage.hosting.work.workflow import MAX_ATTEMPTS
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import (
    UNDER_WAY,
    Advice,
    DeploymentStatus,
    JobKind,
    JobStatus,
    LogKind,
    LostJob,
)
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.money import accounts
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ALICE, PLAN, add_project, fund
from support.books.yielding import committing_of
from support.gateway.clock import START_MS, MovableClock
from support.gateway.fakes import app_address
from support.gateway.waiting import until

BUILDING_PLAN = msgspec.structs.replace(PLAN, install="npm ci", build="npm run build")
AN_HOUR = 685  # micro-USD at $0.50 a month
STAGES = ("build", "start", "health", "proxy")
CAUSES = [
    ("build", FailureCause.UPLOAD_INVALID),
    ("build", FailureCause.INSTALL_FAILED),
    ("build", FailureCause.BUILD_FAILED),
    ("build", FailureCause.BUILD_TIMEOUT),
    ("build", FailureCause.OUT_OF_MEMORY),
    ("build", FailureCause.OUT_OF_DISK),
    ("start", FailureCause.CRASHED),
    ("start", FailureCause.PORT_NOT_BOUND),
    ("start", FailureCause.INTERRUPTED),
    ("health", FailureCause.UNHEALTHY),
]


def fail(yard: Yard, stage: str, fault: Exception) -> None:
    """Have a stage of the next deployment raise."""
    if stage == "health":
        yard.unhealthy.append(fault)
    elif stage == "proxy":
        yard.answers = raising(fault)
    else:
        yard.runtime.faults[stage] = [fault]


def raising(fault: Exception) -> Callable[[], Awaitable[bool]]:
    async def answers() -> bool:
        raise fault

    return answers


async def silent() -> bool:
    return False


async def test_deployment_goes_from_queued_to_ready(yard: Yard, project: Project) -> None:
    seen: list[tuple[str, str, str]] = []
    await fund(yard.db, ALICE, AN_HOUR)
    queued = await yard.queued(project, BUILDING_PLAN)

    def look(step: str) -> None:
        rows = yard.db.sql("SELECT d.status, p.status FROM deployments d, projects p").fetchall()
        seen.append((step, *rows[0]))

    yard.on_step = look
    yard.clock.advance(5_000)
    ready = await yard.deployed()

    assert seen == [
        ("build", "queued", "queued"),
        ("built", "building", "building"),
        ("start", "deploying", "deploying"),
        ("health", "deploying", "deploying"),
        ("route", "deploying", "deploying"),
        ("ready", "deploying", "deploying"),
    ]
    assert (ready.status, ready.reason, ready.note) == (DeploymentStatus.READY, None, "")
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, queued.id)
    assert yard.routes.table == {HOST: socket_of(queued)}
    assert await yard.job_status(queued) == JobStatus.DONE
    assert not (yard.sources / queued.id).exists()
    (spec,) = yard.runtime.built.values()
    assert (spec.source, spec.plan) == (yard.sources / queued.id, BUILDING_PLAN)
    assert (spec.limits, spec.timeout_seconds) == (BUILD_LIMITS, 100)


async def test_billing_begins_at_ready_and_never_before(yard: Yard, project: Project) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project)

    def nothing_billed(_: str) -> None:
        assert yard.db.sql("SELECT count(*) FROM run_intervals").fetchone() == (0,)
        yard.clock.advance(60_000)

    yard.on_step = nothing_billed
    await yard.deployed()

    ((_, started_at_ms, ended_at_ms),) = await yard.intervals(project)
    assert (started_at_ms, ended_at_ms) == (yard.clock.now_ms(), None)


ON_PYTHON = msgspec.structs.replace(
    PLAN,
    stack=Stack.PYTHON,
    install="uv venv -q --clear --python python3.13 .venv && uv sync -q --python python3.13",
    host_tools={"python": "3.13.5", "uv": "0.9.5"},
    install_inputs=("pyproject.toml",),
    older_python="3.11.2",
)
BY_NPM = msgspec.structs.replace(
    PLAN, stack=Stack.NODE, install="npm ci", install_inputs=("package-lock.json",)
)
NO_WHEEL = DeployFailed(
    FailureCause.INSTALL_FAILED,
    "the install failed with exit code 1",
    log_tail="Because torch==2.0.1 has no wheels with a matching Python ABI tag\n",
)
PEERS = DeployFailed(
    FailureCause.INSTALL_FAILED,
    "`npm ci` failed with exit code 1",
    log_tail="npm error code ERESOLVE\nnpm error ERESOLVE could not resolve\n",
)


@pytest.mark.parametrize(
    ("plan", "fault", "install", "told"),
    [
        (
            ON_PYTHON,
            NO_WHEEL,
            "uv venv -q --clear --python python3.11 .venv && uv sync -q --python python3.11",
            "torch 2.0.1 has no wheel for this Python. It is tried again on Python 3.11.2",
        ),
        (
            BY_NPM,
            PEERS,
            "npm install --legacy-peer-deps",
            "contradict each other. It is tried again by `npm install --legacy-peer-deps`",
        ),
    ],
)
async def test_failed_install_is_tried_once_more_where_another_may_succeed_and_the_plan_says_so(
    yard: Yard, project: Project, plan: Plan, fault: DeployFailed, install: str, told: str
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project, plan)
    fail(yard, "build", fault)

    ready = await yard.deployed()

    assert ready.status is DeploymentStatus.READY
    (spec,) = yard.runtime.built.values()
    assert spec.plan.install == install
    assert spec.plan.because[-1].startswith("The install failed: ")
    assert spec.plan.because[-1].endswith(told)
    assert spec.plan == msgspec.json.decode(ready.plan, type=Plan)
    if plan is ON_PYTHON:
        assert spec.plan.host_tools == {"python": "3.11.2", "uv": "0.9.5"}


@pytest.mark.parametrize(("plan", "fault"), [(ON_PYTHON, NO_WHEEL), (BY_NPM, PEERS)])
async def test_install_that_worked_is_done_at_once_by_the_next_deploy(
    yard: Yard, project: Project, plan: Plan, fault: DeployFailed
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project, plan)
    fail(yard, "build", fault)
    worked = msgspec.json.decode((await yard.deployed()).plan, type=Plan)

    await yard.queued(project, plan)
    ready = await yard.deployed()

    assert [method for method, _ in yard.runtime.calls].count("build") == 3
    redone = yard.runtime.built[ready.id].plan
    assert (redone.install, redone.host_tools) == (worked.install, worked.host_tools)
    assert redone == msgspec.json.decode(ready.plan, type=Plan)
    assert redone.because[-1] in ready.note


@pytest.mark.parametrize(("plan", "fault"), [(ON_PYTHON, NO_WHEEL), (BY_NPM, PEERS)])
async def test_other_lists_of_packages_are_installed_as_planned(
    yard: Yard, project: Project, plan: Plan, fault: DeployFailed
) -> None:
    """What an install has shown is true of the files that it read."""
    await fund(yard.db, ALICE, AN_HOUR)
    first = await yard.queued(project, plan)
    (yard.sources / first.id / plan.install_inputs[0]).write_text("one")
    fail(yard, "build", fault)
    await yard.deployed()

    second = await yard.queued(project, plan)
    (yard.sources / second.id / plan.install_inputs[0]).write_text("two")
    ready = await yard.deployed()

    assert ready.status is DeploymentStatus.READY
    assert yard.runtime.built[ready.id].plan == plan


async def test_install_that_worked_before_and_fails_now_is_done_as_planned(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project, ON_PYTHON)
    fail(yard, "build", NO_WHEEL)
    await yard.deployed()

    await yard.queued(project, ON_PYTHON)
    fail(yard, "build", NO_WHEEL)
    ready = await yard.deployed()

    assert ready.status is DeploymentStatus.READY
    assert yard.runtime.built[ready.id].plan == ON_PYTHON
    assert [method for method, _ in yard.runtime.calls].count("build") == 4


@pytest.mark.parametrize(
    "plan",
    [
        msgspec.structs.replace(ON_PYTHON, install="uv sync"),  # other lists
        msgspec.structs.replace(ON_PYTHON, older_python=msgspec.UNSET),  # settings.runtime
    ],
)
async def test_what_an_install_has_shown_holds_for_the_same_install_alone(
    yard: Yard, project: Project, plan: Plan
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project, ON_PYTHON)
    fail(yard, "build", NO_WHEEL)
    await yard.deployed()

    await yard.queued(project, plan)
    ready = await yard.deployed()

    assert yard.runtime.built[ready.id].plan == plan


@pytest.mark.parametrize(
    ("took_ms", "tries", "status"),
    [(1_000, 2, DeploymentStatus.READY), (1_500, 1, DeploymentStatus.FAILED)],
)
async def test_second_try_costs_nobody_anything(
    yard: Yard, project: Project, took_ms: int, tries: int, status: DeploymentStatus
) -> None:
    """What was paid gives 2.4 s of builds: 60 minutes a dollar."""
    await fund(yard.db, ALICE, 2_400_000 // 3_600)
    await yard.queued(project, ON_PYTHON)
    fail(yard, "build", NO_WHEEL)

    def take_time(method: str, _: str) -> None:
        if method == "build":
            yard.clock.advance(took_ms)

    yard.runtime.on_call = take_time
    assert (await yard.deployed()).status is status
    assert [method for method, _ in yard.runtime.calls].count("build") == tries
    assert await accounts.balance(yard.db, ALICE) == 2_400_000 // 3_600


@pytest.mark.parametrize(("plan", "fault"), [(ON_PYTHON, NO_WHEEL), (BY_NPM, PEERS)])
async def test_install_is_tried_twice_at_most(
    yard: Yard, project: Project, plan: Plan, fault: DeployFailed
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project, plan)
    yard.runtime.faults["build"] = [fault, fault]

    failed = await yard.deployed()

    assert (failed.status, failed.reason_code) == (DeploymentStatus.FAILED, fault.cause)
    assert yard.runtime.faults["build"] == []


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        (msgspec.structs.replace(BY_NPM, install_inputs=()), PEERS),  # settings.installCommand
        (msgspec.structs.replace(ON_PYTHON, older_python=msgspec.UNSET), NO_WHEEL),
        (ON_PYTHON, PEERS),
        (ON_PYTHON, DeployFailed(FailureCause.BUILD_FAILED, "no", log_tail=NO_WHEEL.log_tail)),
        (BY_NPM, DeployFailed(FailureCause.INSTALL_FAILED, "no", log_tail="npm error 404")),
    ],
)
async def test_install_that_was_given_or_has_no_other_is_not_tried_again(
    yard: Yard, project: Project, plan: Plan, fault: DeployFailed
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project, plan)
    fail(yard, "build", fault)

    failed = await yard.deployed()

    assert (failed.status, failed.plan) == (
        DeploymentStatus.FAILED,
        msgspec.json.encode(plan).decode(),
    )


@pytest.mark.parametrize(("stage", "cause"), CAUSES)
async def test_failure_is_recorded_with_its_reason_and_cleared_up(
    yard: Yard, project: Project, stage: str, cause: FailureCause
) -> None:
    await fund(yard.db, ALICE, 500_000)
    queued = await yard.queued(project)
    fail(yard, stage, DeployFailed(cause, "It is broken: mend it.", log_tail="the last line"))
    yard.clock.advance(1_000)

    failed = await yard.deployed()

    assert failed.status is DeploymentStatus.FAILED
    assert failed.reason_code == cause
    assert failed.reason == "It is broken: mend it. Its log: the last line"
    assert failed.log_tail == "the last line"
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.FAILED, None)
    assert yard.routes.table == {}
    assert yard.runtime.built == {}
    assert yard.runtime.apps == {}
    assert not (yard.sources / queued.id).exists()
    assert await yard.job_status(queued) == JobStatus.DONE
    assert await yard.intervals(project) == []
    assert await accounts.balance(yard.db, ALICE) == 500_000


async def test_operator_may_turn_second_tries_off(
    db: FaultyDatabase, clock: MovableClock, project: Project, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(SETTINGS, retry_installs=False)
    yard = Yard(db, clock, tmp_path / "sources", settings=settings)
    await fund(db, ALICE, AN_HOUR)
    await yard.queued(project, ON_PYTHON)
    fail(yard, "build", NO_WHEEL)

    failed = await yard.deployed()

    assert failed.status is DeploymentStatus.FAILED
    assert [method for method, _ in yard.runtime.calls].count("build") == 1


async def test_failure_is_explained_once_with_what_to_send_next(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, AN_HOUR)
    await yard.queued(project)
    fail(yard, "build", PEERS)

    failed = await yard.deployed()

    assert (failed.reason or "").startswith(
        "`npm ci` failed with exit code 1. Peer dependencies contradict each other. Its log: npm"
    )
    advice = msgspec.json.decode(failed.advice, type=Advice)
    assert advice.next_settings == {"installCommand": "npm install --legacy-peer-deps"}
    assert "settings.installCommand" in advice.next_actions[0]
    assert "same uniqueName" in advice.next_actions[-1]


async def test_failure_without_a_tail_shows_the_end_of_the_apps_log(
    yard: Yard, project: Project
) -> None:
    queued = await yard.queued(project)
    yard.runtime.logs[queued.id, LogKind.RUNTIME] = "listening\ncannot reach the database\n"
    fail(yard, "health", DeployFailed(FailureCause.UNHEALTHY, "no answer"))

    failed = await yard.deployed()

    assert failed.log_tail == "listening\ncannot reach the database\n"


async def test_address_that_does_not_answer_fails_and_leads_nowhere(
    yard: Yard, project: Project
) -> None:
    await yard.queued(project)
    yard.answers = silent

    failed = await yard.deployed()

    assert failed.reason_code == FailureCause.UNHEALTHY
    assert "https://hello.example.com" in (failed.reason or "")
    assert yard.routes.table == {}


@pytest.mark.parametrize(
    ("ended", "cause", "says"),
    [
        (AppExit(exit_code=3, out_of_memory=False), FailureCause.CRASHED, "exit code 3"),
        (AppExit(exit_code=None, out_of_memory=False), FailureCause.CRASHED, "unknown exit code"),
        (AppExit(exit_code=137, out_of_memory=True), FailureCause.OUT_OF_MEMORY, "exit code 137"),
    ],
)
async def test_app_that_ends_before_it_answers_has_crashed(
    yard: Yard, project: Project, ended: AppExit, cause: FailureCause, says: str
) -> None:
    queued = await yard.queued(project)
    fail(yard, "health", DeployFailed(FailureCause.UNHEALTHY, "no answer"))

    def end(step: str) -> None:
        if step == "health":
            del yard.runtime.apps[queued.id]
            yard.runtime.exits[queued.id] = ended

    yard.on_step = end
    failed = await yard.deployed()

    assert yard.has_ended == [True]
    assert failed.reason_code == cause
    assert says in (failed.reason or "")


async def test_app_on_another_port_is_served_and_said(yard: Yard, project: Project) -> None:
    await yard.queued(project)
    yard.runtime.port = 4567

    ready = await yard.deployed()

    assert ready.status is DeploymentStatus.READY
    assert "4567" in ready.note
    assert "3000" in ready.note


async def test_next_build_of_a_wallet_begins_when_the_one_before_is_built(
    yard: Yard, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not when that one serves, or when somebody looks at the queue again."""
    monkeypatch.setattr(worker_module, "POLL_SECONDS", 3600)
    other = await add_project(yard.db, name="other", status=ProjectStatus.QUEUED)
    started = yard.runtime.gates["start"] = asyncio.Event()
    for owned in (project, other):
        await yard.queued(owned, BUILDING_PLAN)
    first_building = yard.runtime.gates["build"] = asyncio.Event()
    working = asyncio.create_task(yard.worker.run())
    try:
        await until(lambda: len(yard.runtime.called("build")) == 1)
        first_building.set()
        await until(lambda: len(yard.runtime.called("build")) == 2)
    finally:
        started.set()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


@pytest.fixture
async def old(yard: Yard, project: Project) -> str:
    """A version of the project that serves and is billed; its id."""
    serving = await yard.active(project, micro_usd=500_000, created_at_ms=START_MS - 1)
    return serving.id


async def test_redeploy_replaces_the_old_version_and_goes_on_billing(
    yard: Yard, project: Project, old: str
) -> None:
    billed = await yard.intervals(project)
    new = await yard.queued(project)

    def old_serves(step: str) -> None:
        if step != "ready":  # from then on the address leads to the new one
            assert yard.routes.table[HOST] == app_address(old)
        assert old in yard.runtime.apps

    yard.on_step = old_serves
    yard.clock.advance(1_000)
    ready = await yard.deployed()

    assert ready.status is DeploymentStatus.READY
    assert (await yard.deployment(old)).status is DeploymentStatus.SUPERSEDED
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, new.id)
    assert yard.routes.table == {HOST: socket_of(new)}
    assert set(yard.runtime.apps) == {old, new.id}  # until it is drained
    assert (await yard.deployment(old)).superseded_at_ms == yard.clock.now_ms()
    assert await yard.intervals(project) == billed


@pytest.mark.parametrize("stage", STAGES)
async def test_old_version_serves_on_when_the_new_one_fails(
    yard: Yard, project: Project, old: str, stage: str
) -> None:
    billed = await yard.intervals(project)
    await yard.queued(project)
    if stage == "proxy":
        yard.answers = silent
    else:
        fail(yard, stage, DeployFailed(FailureCause.CRASHED, "It ended."))

    failed = await yard.deployed()

    assert failed.status is DeploymentStatus.FAILED
    assert (await yard.deployment(old)).status is DeploymentStatus.READY
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, old)
    assert yard.routes.table[HOST] == app_address(old)
    assert set(yard.runtime.apps) == {old}
    assert await yard.intervals(project) == billed


@pytest.mark.parametrize("stage", STAGES)
async def test_job_taken_away_changes_nothing_more(
    yard: Yard, project: Project, old: str, stage: str
) -> None:
    billed = await yard.intervals(project)
    new = await yard.queued(project)
    taken = threading.Event()

    def take_away(_: object = None, __: object = None) -> None:
        if not taken.is_set():
            taken.set()
            yard.db.sql("UPDATE jobs SET fence = fence + 1")

    async def answers() -> bool:
        take_away()
        return True

    def on_step(step: str) -> None:
        if step == stage:
            take_away()

    yard.on_step = on_step
    if stage == "proxy":
        yard.answers = answers
    job = await yard.claim()

    with pytest.raises(LostJob):
        await yard.workflow.run(job)

    assert (await yard.deployment(new.id)).status in UNDER_WAY
    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, old)
    assert yard.routes.table[HOST] == app_address(old)
    assert old in yard.runtime.apps
    assert await yard.intervals(project) == billed


async def test_failure_of_a_job_taken_away_is_not_recorded(yard: Yard, project: Project) -> None:
    new = await yard.queued(project)
    gate = yard.runtime.gates["build"] = asyncio.Event()
    fail(yard, "build", DeployFailed(FailureCause.BUILD_FAILED, "killed"))
    working = asyncio.create_task(yard.deployed())
    await until(lambda: yard.runtime.called("build") == [new.id])
    async with yard.db.transaction(durable=False) as tx:
        await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=new.id)
        await deployments.move(tx, new.id, DeploymentStatus.FAILED, reason="replaced")
    gate.set()

    with pytest.raises(LostJob):
        await working

    assert (await yard.deployment(new.id)).reason == "replaced"


async def test_cancelled_switch_leads_the_address_back(
    yard: Yard, project: Project, old: str
) -> None:
    await yard.queued(project)
    reached = asyncio.Event()

    async def linger() -> bool:
        reached.set()
        await asyncio.Event().wait()
        return True

    yard.answers = linger
    deploying = asyncio.create_task(yard.deployed())
    await reached.wait()
    assert yard.routes.table[HOST] != app_address(old)
    deploying.cancel()
    await asyncio.gather(deploying, return_exceptions=True)

    assert yard.routes.table[HOST] == app_address(old)


async def test_switch_cancelled_while_it_is_recorded_stays(
    yard: Yard, project: Project, old: str
) -> None:
    new = await yard.queued(project)
    gate, loop = threading.Event(), asyncio.get_running_loop()
    reached = asyncio.Event()
    committing: list[asyncio.Event] = []

    def hold(step: str) -> None:
        if step == "ready":
            yard.db.delay_commits(gate.wait)
            committing.append(committing_of(yard.db))
            loop.call_soon(reached.set)

    yard.on_step = hold
    deploying = asyncio.create_task(yard.deployed())
    await reached.wait()
    await committing[0].wait()
    deploying.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(deploying, return_exceptions=True)

    assert deploying.cancelled()
    assert (await yard.deployment(new.id)).status is DeploymentStatus.READY
    assert yard.routes.table == {HOST: socket_of(new)}


async def test_switch_of_a_project_deleted_meanwhile_leads_nowhere(
    yard: Yard, project: Project, old: str
) -> None:
    await yard.queued(project)

    async def deleted() -> bool:
        async with yard.db.transaction(durable=True) as tx:
            await projects.set_status(tx, project.id, ProjectStatus.DELETING)
        return True

    yard.answers = deleted
    job = await yard.claim()
    with pytest.raises(LostJob):
        await yard.workflow.run(job)

    assert yard.routes.table == {}


async def test_resumed_deployment_is_not_built_again(yard: Yard, project: Project) -> None:
    await yard.queued(project)
    yard.runtime.faults["start"] = [OSError("the machine went down")]
    job = await yard.claim()
    with pytest.raises(OSError, match="went down"):
        await yard.workflow.run(job)
    yard.clock.advance(120_000)

    ready = await yard.deployed()

    assert ready.status is DeploymentStatus.READY
    assert len(yard.runtime.called("build")) == 1


async def test_deployment_begun_too_often_fails(yard: Yard, project: Project) -> None:
    queued = await yard.queued(project)
    for _ in range(MAX_ATTEMPTS):
        yard.runtime.faults["build"] = [OSError("again")]
        job = await yard.claim()
        with pytest.raises(OSError, match="again"):
            await yard.workflow.run(job)
        assert (await yard.deployment(queued.id)).status is DeploymentStatus.BUILDING
        yard.clock.advance(120_000)

    failed = await yard.deployed()

    assert (failed.status, failed.reason_code) == (DeploymentStatus.FAILED, "interrupted")
    assert (await yard.project(project)).status is ProjectStatus.FAILED


async def test_deployment_that_the_cluster_lets_down_each_time_says_so(
    yard: Yard, project: Project
) -> None:
    await yard.queued(project)
    for _ in range(MAX_ATTEMPTS - 1):
        yard.runtime.faults["build"] = [ClusterUnavailable("Its registry failed.")]
        job = await yard.claim()
        with pytest.raises(ClusterUnavailable):
            await yard.workflow.run(job)
        yard.clock.advance(120_000)
    yard.runtime.faults["build"] = [ClusterUnavailable("Its registry failed.")]

    failed = await yard.deployed()

    assert (failed.status, failed.reason_code) == (DeploymentStatus.FAILED, "interrupted")
    assert "Its registry failed." in (failed.reason or "")


async def test_upload_that_is_gone_fails_the_deployment(yard: Yard, project: Project) -> None:
    queued = await yard.queued(project)
    (yard.sources / queued.id).rmdir()

    failed = await yard.deployed()

    assert (failed.status, failed.reason_code) == (DeploymentStatus.FAILED, "interrupted")


@pytest.mark.parametrize("over", [s for s in DeploymentStatus if s not in UNDER_WAY])
async def test_job_of_a_deployment_that_is_over_is_closed(
    yard: Yard, project: Project, over: DeploymentStatus
) -> None:
    queued = await yard.queued(project, status=over)

    await yard.deployed()

    assert await yard.job_status(queued) == JobStatus.DONE
    assert yard.runtime.calls == []


async def test_job_of_a_deleted_project_is_closed(yard: Yard, project: Project) -> None:
    queued = await yard.queued(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_deleted(tx, project.id, at_ms=START_MS)

    await yard.workflow.run(await yard.claim())

    assert await yard.job_status(queued) == JobStatus.DONE
    assert yard.runtime.calls == []


@pytest.mark.parametrize(
    ("credits_left", "status"),
    [
        (0, ProjectStatus.SUSPENDED),
        (AN_HOUR - 1, ProjectStatus.SUSPENDED),
        (AN_HOUR, ProjectStatus.ACTIVE),
    ],
)
async def test_project_suspended_while_it_is_redeployed_wakes_only_with_credits(
    yard: Yard, project: Project, credits_left: int, status: ProjectStatus
) -> None:
    await yard.serving(project, created_at_ms=START_MS - 1)
    await fund(yard.db, ALICE, credits_left)
    new = await yard.queued(project)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.SUSPENDED)

    await yard.deployed()

    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (status, new.id)
    assert len(await yard.intervals(project)) == (status is ProjectStatus.ACTIVE)


async def test_deployment_that_finds_no_room_fails_and_says_so(
    yard: Yard, project: Project
) -> None:
    await yard.queued(project)
    yard.runtime.faults["build"] = [NoCapacity()]
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (DeploymentStatus.FAILED, "no_capacity")
    assert failed.reason is not None
    assert "deploy again" in failed.reason


@pytest.mark.parametrize("credits_left", [0, 1, AN_HOUR - 1])
async def test_app_whose_first_hour_nobody_can_pay_is_not_served(
    yard: Yard, project: Project, credits_left: int
) -> None:
    """A credit of next to nothing would else be an hour of each project that never served."""
    await fund(yard.db, ALICE, credits_left)
    await yard.queued(project)

    ready = await yard.deployed()

    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.SUSPENDED, ready.id)
    assert await yard.intervals(project) == []
    await yard.reconcile()
    assert yard.runtime.apps == {}
    assert yard.routes.table == {}


async def test_credits_that_pay_an_hour_of_one_project_serve_one(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, 2 * AN_HOUR - 1)
    other = await add_project(yard.db, name="other", status=ProjectStatus.ACTIVE)
    async with yard.db.transaction(durable=True) as tx:
        await yard.metering.begin(tx, other.id)
    await yard.queued(project)

    await yard.deployed()

    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED
    assert (await yard.project(other)).status is ProjectStatus.ACTIVE


async def test_redeploy_of_what_is_billed_goes_on_while_there_are_credits(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, 1)
    await yard.serving(project, created_at_ms=START_MS - 1)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
        await yard.metering.begin(tx, project.id)
    new = await yard.queued(project)

    await yard.deployed()

    now = await yard.project(project)
    assert (now.status, now.serving_deployment_id) == (ProjectStatus.ACTIVE, new.id)
    assert len(await yard.intervals(project)) == 1


async def test_database_that_is_away_is_for_the_worker_to_retry(
    yard: Yard, project: Project, db: FaultyDatabase
) -> None:
    queued = await yard.queued(project)
    job = await yard.claim()
    db.refuse_writes()
    with pytest.raises(DatabaseUnavailable):
        await yard.workflow.run(job)
    db.allow_writes()

    await yard.workflow.run(job)

    assert (await yard.deployment(queued.id)).status is DeploymentStatus.READY


async def test_failure_that_cannot_be_cleared_up_stays_recorded(
    yard: Yard, project: Project
) -> None:
    queued = await yard.queued(project)
    fail(yard, "build", DeployFailed(FailureCause.BUILD_FAILED, "no"))
    yard.runtime.faults["discard"] = [OSError("busy")]

    with pytest.raises(OSError, match="busy"):
        await yard.deployed()

    assert (await yard.deployment(queued.id)).status is DeploymentStatus.FAILED
    assert await yard.job_status(queued) == JobStatus.DONE


async def test_app_is_started_within_the_limits_of_an_app(
    yard: Yard, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    await yard.queued(project)
    seen: list[tuple[Limits, Plan, float]] = []
    start = yard.runtime.start

    async def spy(spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        seen.append((spec.limits, spec.plan, timeout_seconds))
        return await start(spec, timeout_seconds=timeout_seconds)

    monkeypatch.setattr(yard.runtime, "start", spy)
    await yard.deployed()

    assert seen == [(APP_LIMITS, PLAN, 20)]
