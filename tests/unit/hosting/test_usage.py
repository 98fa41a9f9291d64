"""What is added to usage, and when: no line twice, no processor time twice, none lost."""

from collections import deque

import pytest
from yard import HOST, Yard

from moorage.engines.engine import Usage as Used
from moorage.errors import DatabaseUnavailable
from moorage.hosting.keeping.sleep import MACHINES_LOG, Visits, log_number
from moorage.hosting.keeping.usage import UsageMeter
from moorage.records.deployment import Deployment
from moorage.records.project import Project
from moorage.records.usage import Batch, Load, Position, Traffic, UsageHour
from moorage.storage.apps import projects
from moorage.storage.apps import usage as rows
from support.gateway.clock import HOUR_MS, MINUTE_MS, START_MS

HOUR = START_MS - START_MS % HOUR_MS
MIB = 1024 * 1024


class Lines:
    """An access log whose batches are what the test put there, one position after another."""

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.asked: list[Position | None] = []

    def tell(self, *, host: str = HOST, requests: int = 1, span_ms: int = HOUR) -> None:
        traffic = Traffic(
            requests=requests,
            bytes_in=10 * requests,
            bytes_out=100 * requests,
            status_2xx=requests,
            last_at_ms=START_MS + 1,
        )
        self.batches.append(
            Batch(
                position=Position("file", len(self.batches) + 1 + len(self.asked)),
                traffic={(host, span_ms): traffic},
                tried=frozenset({host}),
            )
        )

    def read(self, position: Position | None) -> Batch | None:
        self.asked.append(position)
        return self.batches.popleft() if self.batches else None


@pytest.fixture
async def app(yard: Yard, project: Project) -> Deployment:
    return await yard.active(project, micro_usd=500_000, billed=False)


def visits_of(yard: Yard, lines: Lines, *, number: int = MACHINES_LOG) -> Visits:
    return Visits(
        db=yard.db,
        addresses=yard.addresses,
        log=lines,
        on_use=yard.sleep.use,
        number=number,
    )


def meter_of(yard: Yard) -> UsageMeter:
    return UsageMeter(
        db=yard.db,
        runtime=yard.runtime,
        keep_days=2,
        clock=yard.clock,
    )


async def hours(yard: Yard, project: Project) -> list[UsageHour]:
    return await rows.between(yard.db, project.id, from_ms=0, until_ms=2**62)


async def test_requests_are_added_to_the_hour_they_ended_in(
    yard: Yard, project: Project, app: Deployment
) -> None:
    lines = Lines()
    lines.tell(requests=3)
    lines.tell(requests=2)
    lines.tell(requests=1, span_ms=HOUR + HOUR_MS)
    await visits_of(yard, lines).follow()
    first, second = await hours(yard, project)
    assert first == UsageHour(
        project_id=project.id, hour_ms=HOUR, requests=5, bytes_in=50, bytes_out=500, status_2xx=5
    )
    assert (second.hour_ms, second.requests) == (HOUR + HOUR_MS, 1)


async def test_latency_of_all_gateways_adds_up(
    yard: Yard, project: Project, app: Deployment
) -> None:
    for number, slowest_ms in ((MACHINES_LOG, 900), (log_number("another gateway"), 70)):
        lines = Lines()
        lines.tell()
        (traffic,) = lines.batches[0].traffic.values()
        for latency_ms in (1, slowest_ms):
            traffic.count_latency(latency_ms)
        traffic.count_held(400)
        await visits_of(yard, lines, number=number).follow()
    yard.runtime.used[app.id] = Used(cpu_ms=7, memory_bytes=MIB)
    await meter_of(yard).sample()
    (hour,) = await hours(yard, project)
    assert (hour.within_2_ms, hour.within_100_ms, hour.within_1000_ms) == (2, 1, 1)
    assert sum(hour.latency_counts) == 4
    assert (hour.slowest_ms, hour.held, hour.held_ms, hour.cpu_ms) == (900, 2, 800, 7)
    (span,) = await rows.spans_between(yard.db, project.id, from_ms=0, until_ms=2**62)
    assert span.latency_counts == hour.latency_counts


async def test_next_gateway_reads_on_where_the_last_one_stored(
    yard: Yard, project: Project, app: Deployment
) -> None:
    lines = Lines()
    lines.tell()
    await visits_of(yard, lines).follow()
    stored = await rows.position(yard.db, MACHINES_LOG)
    assert stored is not None
    lines.asked.clear()
    await visits_of(yard, lines).follow()
    assert lines.asked == [stored]


async def test_each_proxys_log_is_counted_from_a_position_of_its_own(
    yard: Yard, project: Project, app: Deployment
) -> None:
    ours, others = Lines(), Lines()
    for lines in (ours, others):
        lines.tell(requests=2)
    number = log_number("another gateway")
    await visits_of(yard, ours).follow()
    await visits_of(yard, others, number=number).follow()
    assert others.asked[0] is None
    (hour,) = await hours(yard, project)
    assert hour.requests == 4
    for lines, counted in ((ours, MACHINES_LOG), (others, number)):
        lines.asked.clear()
        await visits_of(yard, lines, number=counted).follow()
        assert lines.asked == [await rows.position(yard.db, counted)]


async def test_what_could_not_be_stored_is_read_again(
    yard: Yard, project: Project, app: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = Lines()
    lines.tell()
    visits = visits_of(yard, lines)

    async def refuse(*_: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(rows, "set_position", refuse)
        with pytest.raises(DatabaseUnavailable):
            await visits.follow()
    assert await hours(yard, project) == []
    await visits.follow()
    assert lines.asked == [None, None]


async def test_what_was_asked_of_a_names_former_project_is_not_the_new_ones(
    yard: Yard, project: Project, app: Deployment
) -> None:
    lines = Lines()
    lines.tell()
    lines.batches[0].traffic[HOST, HOUR].last_at_ms = project.created_at_ms - 1
    lines.tell(host="nobody.example.com")
    await visits_of(yard, lines).follow()
    assert await hours(yard, project) == []


async def test_request_keeps_its_app_awake(yard: Yard, project: Project, app: Deployment) -> None:
    async with yard.db.transaction(durable=False) as tx:
        await projects.set_sleep_after(tx, project.id, 3_600)
    lines = Lines()
    visits = visits_of(yard, lines)
    await yard.reconciler.reconcile()
    yard.clock.advance(HOUR_MS)
    lines.tell()
    await visits.follow()
    await yard.reconcile()
    assert (await yard.project(project)).asleep_since_ms is None


async def test_processor_time_is_the_growth_of_its_counter(
    yard: Yard, project: Project, app: Deployment
) -> None:
    meter = meter_of(yard)
    yard.runtime.used[app.id] = Used(cpu_ms=400, memory_bytes=5 * MIB)
    await meter.sample()
    assert await rows.load(yard.db, app.id) is None
    yard.clock.advance(10_000)
    yard.runtime.used[app.id] = Used(cpu_ms=2_900, memory_bytes=3 * MIB)
    await meter.sample()
    (hour,) = await hours(yard, project)
    assert (hour.cpu_ms, hour.memory_peak_bytes) == (2_900, 5 * MIB)
    assert hour.memory_byte_seconds == 30 * MIB
    assert await rows.load(yard.db, app.id) == Load(cpu_millis=250, memory_bytes=3 * MIB)


async def test_restarted_gateway_counts_processor_time_on(
    yard: Yard, project: Project, app: Deployment
) -> None:
    yard.runtime.used[app.id] = Used(cpu_ms=400, memory_bytes=MIB)
    await meter_of(yard).sample()
    yard.clock.advance(600_000)
    yard.runtime.used[app.id] = Used(cpu_ms=1_000, memory_bytes=MIB)
    await meter_of(yard).sample()
    (hour,) = await hours(yard, project)
    assert hour.cpu_ms == 1_000
    assert hour.memory_byte_seconds == 0  # what it had meanwhile nobody saw


async def test_restarted_app_counts_from_nothing(
    yard: Yard, project: Project, app: Deployment
) -> None:
    meter = meter_of(yard)
    for cpu_ms in (900, 300):
        yard.runtime.used[app.id] = Used(cpu_ms=cpu_ms, memory_bytes=MIB)
        await meter.sample()
    yard.runtime.used.clear()
    await meter.sample()
    yard.runtime.used[app.id] = Used(cpu_ms=500, memory_bytes=MIB)
    await meter.sample()
    assert sum(hour.cpu_ms for hour in await hours(yard, project)) == 900 + 300 + 500


async def test_five_minutes_are_kept_for_a_day_beside_the_hours(
    yard: Yard, project: Project, app: Deployment
) -> None:
    lines, meter = Lines(), meter_of(yard)
    for minutes in (0, 5):
        lines.tell(requests=minutes + 1, span_ms=HOUR + minutes * MINUTE_MS)
    await visits_of(yard, lines).follow()
    times = {"from_ms": HOUR, "until_ms": HOUR + HOUR_MS}
    spans = await rows.spans_between(yard.db, project.id, **times)
    assert [(each.begins_ms - HOUR, each.requests) for each in spans] == [(0, 1), (300_000, 6)]
    (hour,) = await hours(yard, project)
    assert hour.requests == 7

    yard.clock.advance(26 * HOUR_MS)
    await meter.purge()
    assert await rows.spans_between(yard.db, project.id, **times) == []
    assert len(await hours(yard, project)) == 1


async def test_old_hours_are_forgotten(yard: Yard, project: Project, app: Deployment) -> None:
    lines = Lines()
    lines.tell()
    meter = meter_of(yard)
    await visits_of(yard, lines).follow()
    yard.clock.advance(47 * HOUR_MS)
    await meter.purge()
    assert len(await hours(yard, project)) == 1
    yard.clock.advance(2 * HOUR_MS)
    await meter.purge()
    assert await hours(yard, project) == []
