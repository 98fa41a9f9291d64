"""Runs: begun once, followed over restarts of the gateway, ended as they end, and paid for."""

import asyncio
import time
from pathlib import Path

import pytest
from yard import SETTINGS, Yard

from moorage.acting import ACTING, Acting
from moorage.engines.engine import AppExit
from moorage.errors import (
    InvalidField,
    NothingServes,
    OutOfCredits,
    ProjectPaused,
    RunNotFound,
    TooManyRuns,
)
from moorage.failpoints import armed
from moorage.hosting.work.runs import AT_ONCE, KEPT_LOGS, POLL_SECONDS, Runner
from moorage.ledger.running_costs import charge_up_to
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.records.deployment import Deployment
from moorage.records.project import Project
from moorage.records.run import Run, RunKind, RunStatus
from moorage.storage import events
from moorage.storage.apps import runs
from moorage.storage.money import accounts
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import ARBITRUM, CAROL, add_project
from support.gateway.clock import MovableClock
from support.gateway.waiting import until

ENDED = AppExit(exit_code=0, out_of_memory=False)
PRICE = 730_000_000  # micro-USD a month of 730 hours: a dollar an hour
CREDITS = 500_000


@pytest.fixture
def yard(db: FaultyDatabase, clock: MovableClock, tmp_path: Path) -> Yard:
    (tmp_path / "sources").mkdir()
    return Yard(db, clock, tmp_path / "sources", speed=100)


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    yard.db.sql(f"UPDATE projects SET monthly_price_micro_usd = {PRICE}")
    return await yard.active(project, micro_usd=CREDITS, billed=False)


class Crash(BaseException):
    """The gateway ends here."""


async def queue(
    yard: Yard,
    project: Project,
    command: str = "work",
    *,
    timeout_seconds: int = 600,
    size: str | None = None,
) -> str:
    service = yard.services.runs_of_projects
    queued = await service.queue(project, command, timeout_seconds=timeout_seconds, size=size)
    return queued.run_id


async def run_of(yard: Yard, run_id: str) -> Run:
    found = await runs.by_id(yard.db, run_id)
    assert found is not None
    return found


async def came_to(yard: Yard, run_id: str, status: RunStatus, runner: Runner | None = None) -> Run:
    """The run, once it has a status and nothing of an ended one is left but its log."""
    worker = runner or yard.services.runner

    async def is_so() -> bool:
        await worker.look()
        await asyncio.sleep(0.01)
        run = await run_of(yard, run_id)
        return run.status is status and not (run.is_over and run.holds)

    await until(is_so)
    return await run_of(yard, run_id)


async def told(yard: Yard, project: Project) -> list[tuple[str, object]]:
    found = await events.of_wallet(yard.db, project.wallet, after=0, limit=200)
    return [(each.kind, each.data.get("status")) for each in found if "run" in each.kind]


def another(yard: Yard) -> Runner:
    """The runner of the next process of the gateway."""
    old = yard.services.runner
    del yard.services.__dict__["runner"]
    new = yard.services.runner
    assert new is not old
    return new


async def test_command_runs_in_a_copy_of_the_serving_version(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.runtime.ends["work"] = ENDED
    run_id = await queue(yard, project)
    run = await came_to(yard, run_id, RunStatus.SUCCEEDED)
    assert (run.exit_code, run.deployment_id, run.kind) == (0, serving.id, RunKind.COMMAND)
    spec = yard.runtime.specs[run_id]
    assert (spec.command, spec.listens, spec.deployment_id) == ("work", False, run_id)
    assert yard.runtime.called("copy") == [run_id]
    assert run_id in yard.runtime.discarded
    assert run_id not in yard.runtime.built
    assert await told(yard, project) == []
    await yard.reconcile()
    assert run_id in yard.runtime.discarded  # its log is kept


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        (AppExit(exit_code=3, out_of_memory=False), RunStatus.FAILED),
        (AppExit(exit_code=137, out_of_memory=True), RunStatus.FAILED),
        (AppExit(exit_code=None, out_of_memory=False), RunStatus.INTERRUPTED),
    ],
)
async def test_run_that_does_not_succeed_is_told(
    yard: Yard, project: Project, serving: Deployment, ended: AppExit, status: RunStatus
) -> None:
    yard.runtime.ends["work"] = ended
    run = await came_to(yard, await queue(yard, project), status)
    assert run.exit_code == ended.exit_code
    assert await told(yard, project) == [("run.failed", status)]


async def test_time_is_booked_while_it_runs_and_to_its_end_by_whole_seconds(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project)
    await came_to(yard, run_id, RunStatus.RUNNING)
    await until(lambda: run_id in yard.runtime.apps)
    yard.clock.advance(15_000)

    async def is_booked() -> bool:
        return (await run_of(yard, run_id)).ran_ms == 15_000

    await until(is_booked)
    yard.clock.advance(5_400)
    yard.runtime.die(run_id, exit_code=0)
    run = await came_to(yard, run_id, RunStatus.SUCCEEDED)
    assert run.ran_ms == 21_000
    assert run.charged_micro_usd == charge_up_to(21_000, monthly_price=MicroUsd(PRICE))
    left = CREDITS - run.charged_micro_usd
    assert await accounts.balance(yard.db, project.wallet) == left
    async with yard.db.snapshot() as snapshot:
        assert (await audit_books(snapshot, [ARBITRUM]))[1] == []


async def test_run_is_ended_when_nothing_pays_for_it_any_more(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project, timeout_seconds=3_600)
    await came_to(yard, run_id, RunStatus.RUNNING)
    await until(lambda: run_id in yard.runtime.apps)
    yard.clock.advance(1_900_000)  # more than half an hour, of which each costs half a dollar
    run = await came_to(yard, run_id, RunStatus.FAILED)
    assert "credits ran out" in run.reason
    assert run.charged_micro_usd == CREDITS
    assert run_id not in yard.runtime.apps


async def test_run_beyond_its_time_limit_is_ended(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project, timeout_seconds=5)
    await came_to(yard, run_id, RunStatus.RUNNING)
    await until(lambda: run_id in yard.runtime.apps)
    yard.clock.advance(5_000)
    run = await came_to(yard, run_id, RunStatus.TIMED_OUT)
    assert run_id not in yard.runtime.apps
    assert "5 s" in run.reason


@pytest.mark.parametrize("is_begun", [False, True])
async def test_cancelled_run_ends_and_a_second_time_changes_nothing(
    yard: Yard, project: Project, serving: Deployment, is_begun: bool
) -> None:
    run_id = await queue(yard, project)
    if is_begun:
        await came_to(yard, run_id, RunStatus.RUNNING)
        await until(lambda: run_id in yard.runtime.apps)
    service = yard.services.runs_of_projects
    assert (await service.cancel(project, run_id)).status is RunStatus.CANCELLED
    run = await came_to(yard, run_id, RunStatus.CANCELLED)
    assert await service.cancel(project, run_id) == run
    assert run_id not in yard.runtime.apps
    assert await told(yard, project) == []


STOPPED = {
    "paused_at_ms = 1": "paused",
    "blocked_reason = 'spam'": "operator",
    "status = 'suspended'": "suspended",
    "status = 'deleting'": "deleted",
    "wallet = '0x2'": "another wallet",
}


@pytest.mark.parametrize("change", STOPPED)
async def test_run_of_a_project_that_may_not_run_any_more_is_cancelled_and_told(
    yard: Yard, project: Project, serving: Deployment, change: str
) -> None:
    run_id = await queue(yard, project)
    await came_to(yard, run_id, RunStatus.RUNNING)
    waiting = await queue(yard, project, "later")
    yard.db.sql(f"UPDATE projects SET {change}")
    for each in (run_id, waiting):
        run = await came_to(yard, each, RunStatus.CANCELLED)
        assert STOPPED[change] in run.reason
    assert run_id not in yard.runtime.apps
    assert await told(yard, project) == [("run.failed", "cancelled")] * 2


STEPS = {
    "run copy": RunStatus.SUCCEEDED,
    "run start": RunStatus.SUCCEEDED,
    "run started": RunStatus.INTERRUPTED,  # whether it was started is not known
    "run ended": RunStatus.SUCCEEDED,
    "run over": RunStatus.SUCCEEDED,
}


@pytest.mark.parametrize("step", STEPS)
async def test_crash_at_a_step_repeats_nothing(
    yard: Yard, project: Project, serving: Deployment, step: str
) -> None:
    yard.runtime.ends["work"] = ENDED

    def crash(reached: str) -> None:
        if reached == step:
            raise Crash

    run_id = await queue(yard, project)
    with armed(crash):
        await yard.services.runner.look()
        crashed = next(task for task in asyncio.all_tasks() if task.get_name() == f"run {run_id}")
        with pytest.raises(Crash):
            await crashed
    run = await came_to(yard, run_id, STEPS[step], another(yard))
    assert yard.runtime.called("start") in ([], [run_id])
    assert run_id not in yard.runtime.built
    async with yard.db.snapshot() as snapshot:
        assert (await audit_books(snapshot, [ARBITRUM]))[1] == []
    assert run.is_over


async def test_run_that_still_runs_is_followed_by_the_next_process(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project)
    process = asyncio.create_task(yard.services.runner.run())
    await until(lambda: run_id in yard.runtime.apps)
    process.cancel()
    await asyncio.gather(process, return_exceptions=True)
    yard.clock.advance(30_000)
    after, looks = another(yard), yard.runtime.called("inspect").count(run_id)
    await after.look()
    await until(lambda: yard.runtime.called("inspect").count(run_id) > looks + 1)
    yard.clock.advance(500)
    yard.runtime.die(run_id, exit_code=0)
    run = await came_to(yard, run_id, RunStatus.SUCCEEDED, after)
    assert run.ran_ms == 31_000  # it ran while the gateway was away
    assert yard.runtime.called("start") == [run_id]


async def test_what_ran_unseen_to_its_end_is_billed_as_far_as_it_was_booked(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project)
    process = asyncio.create_task(yard.services.runner.run())
    await until(lambda: run_id in yard.runtime.apps)
    process.cancel()
    await asyncio.gather(process, return_exceptions=True)
    yard.runtime.die(run_id, exit_code=0)
    yard.clock.advance(300_000)
    run = await came_to(yard, run_id, RunStatus.SUCCEEDED, another(yard))
    assert (run.ran_ms, run.charged_micro_usd) == (0, 0)


async def test_what_ran_unseen_is_billed_to_its_end_where_that_is_known(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project)
    process = asyncio.create_task(yard.services.runner.run())
    await until(lambda: run_id in yard.runtime.apps)
    process.cancel()
    await asyncio.gather(process, return_exceptions=True)
    yard.clock.advance(42_000)
    yard.runtime.die(run_id, exit_code=0, ended_at_ms=yard.clock.now_ms())
    yard.clock.advance(300_000)
    run = await came_to(yard, run_id, RunStatus.SUCCEEDED, another(yard))
    assert run.ran_ms == 42_000


@pytest.mark.parametrize("why", ["timeout", "cancelled", "unpaid"])
async def test_command_is_billed_until_nothing_of_it_is_left(
    yard: Yard, project: Project, serving: Deployment, why: str
) -> None:
    """It may take seconds to end once it is told to."""
    run_id = await queue(yard, project, timeout_seconds=60 if why == "timeout" else 3_600)
    await came_to(yard, run_id, RunStatus.RUNNING)
    await until(lambda: run_id in yard.runtime.apps)
    gate = yard.runtime.gates["discard"] = asyncio.Event()
    ran_ms = {"timeout": 60_000, "cancelled": 1_000, "unpaid": 1_900_000}[why]
    yard.clock.advance(ran_ms)
    if why == "cancelled":
        await yard.services.runs_of_projects.cancel(project, run_id)
    await until(lambda: run_id in yard.runtime.called("discard"))
    yard.clock.advance(5_000)
    gate.set()
    ends = {"timeout": RunStatus.TIMED_OUT, "cancelled": RunStatus.CANCELLED}
    run = await came_to(yard, run_id, ends.get(why, RunStatus.FAILED))
    assert run.ran_ms == ran_ms + 5_000


async def test_two_gateways_begin_a_run_once(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    """One that stood still, and goes on while the next one leads, begins nothing again."""
    run_id = await queue(yard, project)
    gate = yard.runtime.gates["copy"] = asyncio.Event()
    old = yard.services.runner
    await old.look()
    await until(lambda: yard.runtime.called("copy") == [run_id])
    new = another(yard)
    await new.look()
    await until(lambda: len(yard.runtime.called("copy")) == 2)
    gate.set()
    await until(lambda: run_id in yard.runtime.apps)
    yard.runtime.die(run_id, exit_code=0)
    await came_to(yard, run_id, RunStatus.SUCCEEDED, new)
    assert yard.runtime.called("start") == [run_id]


async def test_so_many_run_at_once_of_a_wallet_and_in_all(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    in_all, of_wallet = AT_ONCE[RunKind.COMMAND]
    for number in range(in_all):
        wallet = f"0x{number + 2:040x}"
        other = await add_project(yard.db, wallet=wallet, name=f"other{number}")
        await yard.active(other, micro_usd=CREDITS, billed=False)
        for _ in range(of_wallet + 1):
            await queue(yard, other)
            yard.clock.advance(1)  # who came first is first
        await yard.services.runner.look()
        begun = min(in_all, (number + 1) * of_wallet)
        await until(lambda begun=begun: len(yard.runtime.called("start")) == begun)
    running = await runs.held(yard.db)
    assert len(running) == in_all
    assert max([run.wallet for run in running].count(run.wallet) for run in running) == of_wallet
    first = running[0]
    yard.runtime.die(first.id)
    await came_to(yard, first.id, RunStatus.FAILED)
    await yard.services.runner.look()
    await until(lambda: len(yard.runtime.called("start")) == in_all + 1)


async def test_wallet_that_runs_nothing_goes_before_those_that_asked_earlier_for_more(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    in_all, of_wallet = AT_ONCE[RunKind.COMMAND]
    for number in range(in_all // of_wallet):
        other = await add_project(yard.db, wallet=f"0x{number + 2:040x}", name=f"other{number}")
        await yard.active(other, micro_usd=CREDITS, billed=False)
        for _ in range(of_wallet + 2):
            await queue(yard, other)
            yard.clock.advance(1)
    await yard.services.runner.look()
    await until(lambda: len(yard.runtime.called("start")) == in_all)
    late = await queue(yard, project)
    yard.runtime.die(yard.runtime.called("start")[0])
    await came_to(yard, late, RunStatus.RUNNING)


async def test_run_waits_while_the_machine_has_no_room(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.runtime.has_memory_for(1)  # which the app has
    await yard.services.capacity.measure()
    run_id = await queue(yard, project)
    await yard.services.runner.look()
    await until(lambda: not [it for it in asyncio.all_tasks() if it.get_name().startswith("run ")])
    assert (await run_of(yard, run_id)).status is RunStatus.QUEUED
    yard.runtime.has_memory_for(2)
    await yard.services.capacity.measure()
    await came_to(yard, run_id, RunStatus.RUNNING)


async def test_of_runs_at_once_only_those_begin_that_there_is_room_for(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.runtime.has_memory_for(2)  # one of which the app has
    await yard.services.capacity.measure()
    queued = [await queue(yard, project) for _ in range(2)]

    async def one_runs() -> bool:
        await yard.services.runner.look()
        await asyncio.sleep(0.01)
        found = [(await run_of(yard, each)).status for each in queued]
        assert found != [RunStatus.RUNNING] * 2
        return RunStatus.RUNNING in found

    await until(one_runs)
    await one_runs()


async def test_run_that_waits_for_room_is_looked_at_no_more_often_than_it_is_polled(
    db: FaultyDatabase, clock: MovableClock, tmp_path: Path, project: Project
) -> None:
    speed, looks = 10, 4
    (tmp_path / "sources").mkdir()
    yard = Yard(db, clock, tmp_path / "sources", speed=speed)
    await yard.active(project, micro_usd=CREDITS, billed=False)
    yard.runtime.has_memory_for(1)  # which the app has
    await yard.services.capacity.measure()
    run_id, begun = await queue(yard, project), time.monotonic()
    with db.statements() as done:
        process = asyncio.create_task(yard.services.runner.run())
        await until(lambda: sum("row_number" in it for it in done) >= looks)
    process.cancel()
    await asyncio.gather(process, return_exceptions=True)
    assert time.monotonic() - begun > (looks - 1) * POLL_SECONDS / speed / 2
    assert (await run_of(yard, run_id)).status is RunStatus.QUEUED


async def test_logs_of_the_last_runs_alone_are_kept(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.runtime.ends["work"] = ENDED
    made = []
    for _ in range(KEPT_LOGS + 1):
        made.append(await queue(yard, project))
        await came_to(yard, made[-1], RunStatus.SUCCEEDED)
        yard.clock.advance(1_000)

    async def is_forgotten() -> bool:
        return not (await run_of(yard, made[0])).is_kept

    await until(is_forgotten)
    assert yard.runtime.discarded == set(made[1:])


async def test_deleted_project_leaves_nothing_of_its_runs(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.runtime.ends["done"] = ENDED
    await came_to(yard, await queue(yard, project, "done"), RunStatus.SUCCEEDED)
    run_id = await queue(yard, project)
    await came_to(yard, run_id, RunStatus.RUNNING)
    await until(lambda: run_id in yard.runtime.apps)
    await yard.deletion.delete(await yard.project(project))
    assert (await run_of(yard, run_id)).status is RunStatus.CANCELLED
    assert not yard.runtime.apps
    assert not yard.runtime.discarded


REFUSED: dict[str, type[Exception]] = {
    "serving_deployment_id = NULL": NothingServes,
    "paused_at_ms = 1": ProjectPaused,
    "status = 'suspended'": TooManyRuns,
}


@pytest.mark.parametrize("change", REFUSED)
async def test_run_that_could_not_begin_is_refused(
    yard: Yard, project: Project, serving: Deployment, change: str
) -> None:
    yard.db.sql(f"UPDATE projects SET {change}")
    with pytest.raises(REFUSED[change]):
        await queue(yard, project)


async def test_run_that_nothing_pays_is_refused(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    yard.db.sql("UPDATE wallets SET balance_micro_usd = 0")
    with pytest.raises(OutOfCredits):
        await queue(yard, project)


async def test_run_of_a_delegate_ends_with_what_that_may_commit(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    ACTING.set(Acting(project.wallet, CAROL))  # whose delegation has ended by now
    run = await came_to(yard, await queue(yard, project), RunStatus.FAILED)
    assert run.acted_by == CAROL
    assert "may commit" in run.reason
    assert yard.runtime.called("start") == []


async def test_run_of_another_size_has_its_memory_and_its_price(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    large = SETTINGS.size_list.of("large")
    run_id = await queue(yard, project, size="large")
    await came_to(yard, run_id, RunStatus.RUNNING)
    await until(lambda: run_id in yard.runtime.apps)
    assert yard.runtime.specs[run_id].limits.memory_bytes == large.memory_mib * 1024 * 1024
    yard.clock.advance(5_000)
    yard.runtime.die(run_id, exit_code=0)
    run = await came_to(yard, run_id, RunStatus.SUCCEEDED)
    assert run.charged_micro_usd == charge_up_to(5_000, monthly_price=large.month)
    with pytest.raises(InvalidField, match="size"):
        await queue(yard, project, size="huge")


async def test_a_hundred_wait_and_no_more(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    for _ in range(100):
        await queue(yard, project)
    with pytest.raises(TooManyRuns):
        await queue(yard, project)


async def test_run_of_another_project_is_not_found(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    run_id = await queue(yard, project)
    other = await add_project(yard.db, wallet="0x9", name="other")
    for act in (yard.services.runs_of_projects.of, yard.services.runs_of_projects.cancel):
        with pytest.raises(RunNotFound):
            await act(other, run_id)
