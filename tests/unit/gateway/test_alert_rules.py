"""Each rule of alerts.toml rings when it should; an alert fires, ends and is kept as it must be."""

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric

from moorage.core import Core
from moorage.gateway.alerts import (
    KEPT_MS,
    RULES,
    SETTLE_MS,
    AlertWatch,
    loops_of_alerts,
    next_state,
)
from moorage.gateway.vital_signs import Samples, note_upkeep
from moorage.metrics import record_lost_volume
from moorage.storage.database import Database
from moorage.storage.operation import alerts, audit_log
from moorage.storage.operation.alerts import Alert, AlertState
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault
from support.gateway.alert_cases import ALERT_CASES
from support.gateway.clock import MINUTE_MS, MovableClock

REPOSITORY = Path(__file__).parents[3]
SERIES = re.compile(r"(\w+)(?:\{(.*)\})?")
LABEL = re.compile(r'(\w+)="([^"]*)"')
TICK_MS = 30_000


class Played:
    """Metrics that a test sets, in a registry of their own."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """As a collector of prometheus_client does."""
        for series, value in self.values.items():
            name, labels = SERIES.fullmatch(series).groups()  # type: ignore[union-attr]
            metric = Metric(name, "", "untyped")
            metric.add_sample(name, dict(LABEL.findall(labels or "")), value)
            yield metric

    def __call__(self) -> Samples:
        return Samples(self._registry)


def core_of(db: Database, clock: MovableClock, path: Path, *, name: str = "") -> Core:
    leases = Leases(db=db, holder=f"gateway {name}", clock=clock)
    vault = Vault([bytes(KEY_BYTES)])
    return Core(db=db, vault=vault, leases=leases, clock=clock, data_dir=path, name=name)


def watching(core: Core, played: Played) -> list[AlertWatch]:
    return [AlertWatch(core, shared=each, title="gw", sample=played) for each in (False, True)]


async def firing(db: Database) -> list[str]:
    found = await alerts.recent(db, since_ms=0)
    return [each.rule for each in found if each.state is AlertState.FIRING]


def values_of(written: str) -> list[float]:
    """A series as tests of Prometheus write it: `first+stepxcount`, count + 1 of them."""
    found: list[float] = []
    for part in written.split():
        first, step, count = re.fullmatch(  # type: ignore[union-attr]
            r"(-?\d+)([+-]\d+)?x(\d+)", part
        ).groups()
        found += [int(first) + int(step or 0) * number for number in range(int(count) + 1)]
    return found


@pytest.mark.parametrize("half", [0, 1])
async def test_each_rule_rings_when_it_should_and_not_else(
    db: Database, tmp_path: Path, half: int
) -> None:
    clock, played = MovableClock(now_ms=0), Played()
    ring = list(ALERT_CASES)[half::2]
    written = {
        series: values_of(bad if name in ring else good)
        for name, (series, bad, good) in ALERT_CASES.items()
    }
    played.values = {series: values[0] for series, values in written.items()}
    watches = watching(core_of(db, clock, tmp_path), played)
    for minute in (*range(10, 1320, 10), *range(1320, 1441)):  # every one costs a read
        clock.advance(minute * MINUTE_MS - clock.now_ms())
        played.values = {series: values[minute] for series, values in written.items()}
        for watch in watches:
            await watch.tick()
    assert sorted(await firing(db)) == sorted(ring)


def test_each_rule_has_an_example() -> None:
    assert RULES.keys() == ALERT_CASES.keys()


def made(function: str) -> str:
    return str(runpy.run_path(str(REPOSITORY / "scripts/alert-rules.py"))[function]())


def test_prometheus_and_the_book_have_these_rules() -> None:
    rules = (REPOSITORY / "ops/prometheus/moorage.rules.yml").read_text()
    assert rules == made("rules_file")  # made by scripts/alert-rules.py
    assert made("table") in (REPOSITORY / "docs/run/watch.md").read_text()


async def test_counter_that_appears_counts_from_nothing(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    played = Played()
    watches = watching(core_of(db, clock, tmp_path), played)
    played.values = {"moorage_lost_volumes_total": 1}
    for watch in watches:
        await watch.tick()
    assert await firing(db) == ["MoorageVolumeLost"]


@given(
    stretches=st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(1, 12)), min_size=1, max_size=20
    ),
    for_ticks=st.integers(0, 12),
)
def test_alert_begins_fires_and_ends_as_a_look_at_all_that_happened_says(
    stretches: list[tuple[bool, bool, int]], for_ticks: int
) -> None:
    """Of each: whether the condition holds, whether the process starts then, how many ticks."""
    ticks = [
        (holds, starts and number == 0)
        for holds, starts, count in stretches
        for number in range(count)
    ]
    alert: Alert | None = None
    episode: list[tuple[int, bool]] = []
    fired = False
    since_ms = 0
    for number, (holds, starts) in enumerate(ticks):
        now_ms = number * TICK_MS
        since_ms = now_ms if starts else since_ms
        if alert is not None or holds:
            before = alert or Alert(
                id="", gateway="", rule="", labels="", summary="", began_ms=now_ms
            )
            alert = next_state(
                before,
                holds=holds,
                for_ms=for_ticks * TICK_MS,
                settle_ms=SETTLE_MS,
                now_ms=now_ms,
                since_ms=since_ms,
            )
        if episode or holds:
            episode.append((now_ms, holds))
            began_ms = episode[0][0]
            fired = fired or (holds and now_ms - began_ms >= for_ticks * TICK_MS)
            last_bad_ms = max(at_ms for at_ms, bad in episode if bad)
            well_ms = max(since_ms, last_bad_ms + TICK_MS)
            settled = not holds and now_ms - well_ms >= SETTLE_MS
            dropped = not holds and not fired and began_ms >= since_ms
            assert alert is not None
            assert (alert.fired_ms is not None) == fired
            assert (alert.ended_ms is not None) == (settled or dropped)
            if settled or dropped:
                alert, episode, fired = None, [], False
        else:
            assert alert is None


async def test_restart_neither_repeats_nor_forgets(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    played, down = Played(), 'moorage_node_up{chain="base",node="1"}'
    core = core_of(db, clock, tmp_path)

    async def run(minutes: int, up: float, watches: list[AlertWatch]) -> list[Alert]:
        played.values = {down: up}
        for _ in range(minutes):
            clock.advance(MINUTE_MS)
            for watch in watches:
                await watch.tick()
        return list(await alerts.open_alerts(db))

    (pending,) = await run(3, 0, watching(core, played))
    assert pending.fired_ms is None
    again = watching(core, played)
    assert await run(1, 1, again) != []  # a node counts as up until it was asked
    (fired,) = await run(3, 0, again)  # five minutes after it began
    assert (fired.id, fired.fired_ms is None) == (pending.id, False)
    assert [each.id for each in await run(4, 1, watching(core, played))] == [fired.id]
    third = watching(core, played)
    assert [each.id for each in await run(3, 0, third)] == [fired.id]
    assert await run(7, 1, third) == []
    (ended,) = await alerts.recent(db, since_ms=0)
    assert (ended.id, ended.state) == (fired.id, AlertState.RESOLVED)


async def test_gateways_tell_of_their_own_and_of_what_all_see_once(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    played = Played()
    one, two = (
        watching(core_of(db, clock, tmp_path, name=each), played) for each in ("one", "two")
    )
    played.values = {
        'moorage_audit_findings{kind="wrong"}': 2,
        "moorage_ended_for_space_total": 1,
    }
    for watch in (*one, *two):
        await watch.tick()
    found = {(each.rule, each.gateway) for each in await alerts.recent(db, since_ms=0)}
    assert found == {
        ("MoorageAuditWrong", ""),
        ("MoorageEndedForSpace", "one"),
        ("MoorageEndedForSpace", "two"),
    }


async def test_gateway_watches_what_it_has_counted_itself(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    core = core_of(db, clock, tmp_path)
    watches = [AlertWatch(core, shared=each, title="gw") for each in (False, True)]
    record_lost_volume()
    async with db.transaction(durable=False) as tx:
        audited = UpkeepDone(kind=Upkeep.AUDIT, at_ms=clock.now_ms(), wrong=1)
        await audit_log.note_upkeep(tx, audited)
    await note_upkeep(core)
    for watch in watches:
        await watch.tick()
    assert {"MoorageVolumeLost", "MoorageAuditWrong"} <= set(await firing(db))


async def test_summary_names_gateway_series_and_value(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    played = Played()
    watches = watching(core_of(db, clock, tmp_path), played)
    played.values = {"moorage_uncertified_apps": 7, 'moorage_unsearched_blocks{chain="base"}': 600}
    for _ in range(70):
        clock.advance(MINUTE_MS)
        for watch in watches:
            await watch.tick()
    assert {each.summary for each in await alerts.recent(db, since_ms=0)} == {
        "the search on base is 600 blocks behind",
        "7 apps of gw are served over plain HTTP, for nothing, as they have no certificate",
    }


async def test_alerts_are_kept_for_a_month(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    core, played = core_of(db, clock, tmp_path), Played()
    watches = watching(core, played)
    played.values = {"moorage_lost_volumes_total": 1}
    await watches[0].tick()
    (old,) = [each for each in loops_of_alerts(core, title="gw") if each.name == "old alerts"]
    clock.advance(KEPT_MS)
    await old.tick()
    assert await alerts.recent(db, since_ms=0)
    clock.advance(1)
    await old.tick()
    assert await alerts.recent(db, since_ms=0) == []
