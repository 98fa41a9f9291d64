"""Schedules: each due time runs once, or is told; requests wake the app that they are for."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest
from yard import Yard

from moorage.failpoints import armed
from moorage.hosting.work.schedules import KEPT_RUNS, LATE_MS
from moorage.planning.plan import PlannedSchedule
from moorage.records.deployment import Deployment
from moorage.records.event import Event
from moorage.records.project import Project
from moorage.records.run import Run, RunKind, RunStatus
from moorage.storage import events
from moorage.storage.apps import runs
from support.books.faulty_database import FaultyDatabase
from support.books.records_fixture import PLAN
from support.gateway.clock import HOUR_MS, START_MS, MovableClock
from support.gateway.waiting import until

DAY_MS = 24 * HOUR_MS
HOURLY = PlannedSchedule(name="hourly", cron="0 * * * *", command="count")


@pytest.fixture
def yard(db: FaultyDatabase, clock: MovableClock, tmp_path: Path) -> Yard:
    (tmp_path / "sources").mkdir()
    return Yard(db, clock, tmp_path / "sources", speed=100)


@pytest.fixture
async def serving(yard: Yard, project: Project) -> Deployment:
    return await yard.active(project, micro_usd=500_000, billed=False)


async def plan(yard: Yard, project: Project, *planned: PlannedSchedule) -> None:
    async with yard.db.transaction(durable=False) as tx:
        await runs.set_schedules(tx, project.id, planned, now_ms=yard.clock.now_ms())


async def made(yard: Yard, project: Project) -> list[Run]:
    """All runs, the first due first."""
    found: list[Run] = []
    while True:
        before = found[-1].id if found else None
        page = await runs.page(yard.db, project, before=before, limit=1_000)
        found += page
        if not page:
            return sorted(found, key=lambda run: run.due_at_ms or 0)


async def missed(yard: Yard, project: Project) -> list[Event]:
    found: list[Event] = []
    while True:
        after = found[-1].sequence if found else 0
        page = await events.of_wallet(yard.db, project.wallet, after=after, limit=1_000)
        if not page:
            return [each for each in found if each.kind == "run.missed"]
        found += page


def end_runs(yard: Yard) -> None:
    yard.db.sql("UPDATE runs SET status = 'succeeded' WHERE status IN ('queued', 'running')")


async def test_due_time_makes_one_run_however_often_it_is_looked(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await plan(yard, project, HOURLY)
    schedules = yard.services.schedules
    await schedules.tick()
    assert await made(yard, project) == []
    yard.clock.advance(HOUR_MS)  # it began at a full hour
    await asyncio.gather(*(schedules.tick() for _ in range(5)))
    (run,) = await made(yard, project)
    assert (run.due_at_ms, run.command, run.schedule) == (START_MS + HOUR_MS, "count", "hourly")
    assert (run.status, run.missed) == (RunStatus.QUEUED, 0)
    assert await missed(yard, project) == []


async def test_several_missed_due_times_become_one_run_and_are_told(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await plan(yard, project, HOURLY)
    yard.clock.advance(5 * HOUR_MS + 30_000)  # the last one is half a minute ago
    await yard.services.schedules.tick()
    (run,) = await made(yard, project)
    assert (run.status, run.due_at_ms, run.missed) == (RunStatus.QUEUED, START_MS + HOUR_MS, 4)
    (event,) = await missed(yard, project)
    assert (event.data["missed"], event.data["run_id"]) == (4, run.id)


async def test_never_two_of_a_schedule_at_once(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await plan(yard, project, HOURLY)
    for _ in range(3):
        yard.clock.advance(HOUR_MS)
        await yard.services.schedules.tick()
    statuses = [run.status for run in await made(yard, project)]
    assert statuses == [RunStatus.QUEUED, RunStatus.SKIPPED, RunStatus.SKIPPED]
    assert len(await missed(yard, project)) == 2


async def test_due_time_that_has_run_and_comes_again_as_the_clock_is_set_back_runs_no_more(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    other = PlannedSchedule(name="other", cron="5 * * * *", command="count")
    await plan(yard, project, HOURLY, other)
    yard.clock.advance(HOUR_MS)
    await yard.services.schedules.tick()
    end_runs(yard)
    yard.clock.step(-HOUR_MS // 2)
    for version in ((), (HOURLY, other)):
        await plan(yard, project, *version)
    for _ in range(2):
        yard.clock.advance(HOUR_MS)
        await yard.services.schedules.tick()
        end_runs(yard)
    due = [(run.schedule, (run.due_at_ms or 0) - START_MS) for run in await made(yard, project)]
    times = [("other", 5), ("hourly", 60), ("other", 65), ("hourly", 120), ("other", 125)]
    assert due == [(name, minutes * 60_000) for name, minutes in times]


async def test_schedule_that_cannot_be_understood_any_more_holds_up_no_other(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await plan(yard, project, HOURLY, msgspec.structs.replace(HOURLY, name="later"))
    yard.db.sql("UPDATE schedules SET timezone = 'Of/Yesterday' WHERE name = 'hourly'")
    yard.clock.advance(HOUR_MS)
    await yard.services.schedules.tick()
    assert [run.schedule for run in await made(yard, project)] == ["later"]


@pytest.mark.parametrize("change", ["status = 'suspended'", "paused_at_ms = 1, status='suspended'"])
async def test_what_a_stopped_project_missed_is_told_when_it_runs_again_and_not_made_up(
    yard: Yard, project: Project, serving: Deployment, change: str
) -> None:
    await plan(yard, project, HOURLY)
    yard.db.sql(f"UPDATE projects SET {change}")
    for _ in range(3):
        yard.clock.advance(HOUR_MS)
        await yard.services.schedules.tick()
    assert await made(yard, project) == []
    yard.db.sql("UPDATE projects SET status = 'active', paused_at_ms = NULL")
    await yard.services.schedules.tick()
    (run,) = await made(yard, project)
    assert (run.status, run.missed) == (RunStatus.SKIPPED, 3)
    yard.clock.advance(HOUR_MS)
    await yard.services.schedules.tick()
    assert [run.status for run in await made(yard, project)] == ["skipped", "queued"]


async def test_next_version_keeps_the_due_times_of_what_it_did_not_change(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    await plan(yard, project, HOURLY, PlannedSchedule(name="gone", cron="1 * * * *", command="x"))
    yard.clock.advance(HOUR_MS + 1)
    again = msgspec.structs.replace(HOURLY, command="other")
    await plan(yard, project, again, PlannedSchedule(name="new", cron="0 * * * *", command="x"))
    (first, second) = await runs.schedules_of(yard.db, project.id)
    assert (first.name, first.command, first.next_due_at_ms) == (
        *("hourly", "other"),
        START_MS + HOUR_MS,
    )
    assert (second.name, second.next_due_at_ms) == ("new", START_MS + 2 * HOUR_MS)


async def test_version_brings_its_schedules_and_takes_those_before_it(
    yard: Yard, project: Project
) -> None:
    planned = msgspec.structs.replace(PLAN, schedules=(HOURLY,))
    await yard.queued(project, planned)
    await yard.deployed()
    assert [each.name for each in await runs.schedules_of(yard.db, project.id)] == ["hourly"]
    await yard.queued(await yard.project(project))
    await yard.deployed()
    assert await runs.schedules_of(yard.db, project.id) == []


ANSWERS = {
    200: (RunStatus.SUCCEEDED, 200),
    399: (RunStatus.SUCCEEDED, 399),
    404: (RunStatus.FAILED, 404),
    None: (RunStatus.FAILED, None),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_request_visits_the_app_and_its_status_decides(
    yard: Yard, project: Project, serving: Deployment, answer: int | None
) -> None:
    visits: list[tuple[str, str, Mapping[str, str]]] = []

    async def visit(host: str, path: str, headers: Mapping[str, str]) -> int | None:
        await asyncio.sleep(0)
        visits.append((host, path, headers))
        return answer

    yard.visit = visit
    await plan(yard, project, PlannedSchedule(name="ping", cron="0 * * * *", path="/cron?a=1"))
    yard.clock.advance(HOUR_MS)
    await yard.services.schedules.tick()
    (run,) = await made(yard, project)
    assert run.kind is RunKind.REQUEST
    await yard.services.runner.look()

    async def is_over() -> bool:
        return (await made(yard, project))[0].is_over

    await until(is_over)
    (run,) = await made(yard, project)
    assert (run.status, run.exit_code) == ANSWERS[answer]
    assert visits == [("hello.example.com", "/cron?a=1", {"Moorage-Schedule": "ping"})]
    assert (run.charged_micro_usd, yard.runtime.called("copy")) == (0, [])


PLANNED = {
    "six": PlannedSchedule(name="six", cron="0 */6 * * *", command="x"),
    "night": PlannedSchedule(
        name="night", cron="30 2 * * *", timezone="Europe/Berlin", command="x"
    ),
    "mondays": PlannedSchedule(name="mondays", cron="*/20 9 * * 1", path="/"),
}


def model() -> dict[str, list[int]]:
    """When each is due in a year, by a walk over its days."""
    begin = datetime.fromtimestamp(START_MS / 1000, UTC)
    due: dict[str, list[int]] = {name: [] for name in PLANNED}
    for day in range(-1, 367):
        at = begin.replace(hour=0) + timedelta(days=day)
        due["six"] += [_ms(at.replace(hour=hour)) for hour in (0, 6, 12, 18)]
        if at.weekday() == 0:
            due["mondays"] += [_ms(at.replace(hour=9, minute=minute)) for minute in (0, 20, 40)]
        night = at.replace(hour=2, minute=30, tzinfo=ZoneInfo("Europe/Berlin"))
        if night.astimezone(UTC).astimezone(night.tzinfo) != night:  # it is skipped: after the gap
            night = night.replace(hour=3, minute=0)
        due["night"].append(_ms(night))
    return {name: [at_ms for at_ms in times if at_ms > START_MS] for name, times in due.items()}


def _ms(at: datetime) -> int:
    return int(at.timestamp()) * 1000


class Crash(BaseException):
    """The gateway ends here."""


async def test_year_of_schedules_with_crashes_at_every_step_agrees_with_a_plain_model(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    """Never twice, never missed without being told: gateways away, stops, long runs and crashes."""
    chance = random.Random(7)
    crashed: Counter[str] = Counter()

    def crash(step: str) -> None:
        if step.startswith("schedule") and chance.random() < 0.1:
            crashed[step] += 1
            raise Crash

    await plan(yard, project, *PLANNED.values())
    due = model()
    times = sorted({at_ms for each in due.values() for at_ms in each})
    end_ms = START_MS + 365 * DAY_MS
    with armed(crash):
        for at_ms in times:
            if at_ms > end_ms or at_ms + 1_000 < yard.clock.now_ms():
                continue  # the gateway was away
            yard.clock.advance(at_ms - yard.clock.now_ms() + chance.choice((0, 1_000, 59_000)))
            match chance.randrange(12):
                case 0:
                    yard.clock.advance(chance.randrange(3 * DAY_MS))
                case 1:
                    yard.db.sql("UPDATE projects SET status = 'suspended'")
                case 2 | 3 | 4:
                    yard.db.sql("UPDATE projects SET status = 'active'")
            if chance.random() < 0.8:
                end_runs(yard)
            for _ in range(2):
                try:
                    await yard.services.schedules.tick()
                except Crash:
                    del yard.services.__dict__["schedules"]  # the next process
    yard.db.sql("UPDATE projects SET status = 'active'")
    await yard.services.schedules.tick()
    assert min(crashed["schedule taken"], crashed["schedule queued"]) > 10
    now_ms = yard.clock.now_ms()
    rows = await made(yard, project)
    told = {each.data["run_id"]: each.data["missed"] for each in await missed(yard, project)}
    assert told == {run.id: run.missed for run in rows if run.missed}
    for name, modelled in due.items():
        own = [run for run in rows if run.schedule == name]
        begins = [run.due_at_ms or 0 for run in own]
        assert begins[0] == modelled[0]
        for run, begin, until_ms in zip(own, begins, [*begins[1:], now_ms + 1], strict=True):
            stands_for = [each for each in modelled if begin <= each < until_ms]
            by_ms = run.created_at_ms - (0 if run.status is RunStatus.SKIPPED else LATE_MS)
            assert begin == stands_for[0]
            assert run.missed == sum(each <= by_ms for each in stands_for)
            assert max(stands_for) <= run.created_at_ms


RUNS = """
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :number)
    INSERT INTO runs (id, project_id, wallet, kind, timeout_seconds, status, created_at_ms,
        ended_at_ms)
    SELECT 'run' || n, :project, :wallet, 'request', 60, 'succeeded', :now_ms + n, :now_ms + n
    FROM numbers
"""


async def test_runs_of_ninety_days_are_kept_and_so_many_of_a_project(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    now_ms, number = yard.clock.now_ms(), KEPT_RUNS + 3
    of = {"project": project.id, "wallet": project.wallet, "now_ms": now_ms, "number": number}
    yard.db.sql(RUNS, of)
    yard.db.sql("UPDATE runs SET is_kept = 1 WHERE id = 'run1'")
    yard.db.sql("UPDATE runs SET ended_at_ms = NULL, status = 'queued' WHERE id = 'run2'")
    await yard.services.schedules.purge()
    left = {run.id for run in await made(yard, project)}
    assert len(left) == KEPT_RUNS + 2
    assert {"run1", "run2", "run4"} < left
    yard.clock.advance(91 * DAY_MS)
    await yard.services.schedules.purge()
    assert {run.id for run in await made(yard, project)} == {"run1", "run2"}


async def test_what_is_asked_every_second_reads_no_run_that_has_ended(
    yard: Yard, project: Project, serving: Deployment
) -> None:
    with yard.db.statements() as done:
        await runs.held(yard.db)
        await runs.kept(yard.db)
        await runs.next_queued(yard.db, of_each=4)
    for statement in filter(lambda it: "FROM runs" in it, done):
        steps = [row[3] for row in yard.db.sql(f"EXPLAIN QUERY PLAN {statement}")]
        assert not [it for it in steps if it.startswith("SCAN runs") and "INDEX" not in it], steps
