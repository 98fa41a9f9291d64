"""Projects of all wallets by how long their apps took to answer."""

import pytest

from moorage.records.usage import Latency, UsageHour
from moorage.storage.apps import usage
from moorage.storage.database import Database
from moorage.storage.operation import overview
from moorage.storage.operation.overview import ProjectOrder
from support.books.records_fixture import add_project
from support.gateway.clock import HOUR_MS, START_MS, MovableClock
from support.gateway.operator_pages import OperatorPages

HOUR = START_MS - START_MS % HOUR_MS


@pytest.fixture
async def ids(db: Database) -> dict[str, str]:
    """Projects with two hours each: most of a fast one's answers are quick, of a slow one's not."""
    made = {name: (await add_project(db, name=name)).id for name in ("fast", "idle", "slow", "old")}
    used = [
        UsageHour(
            project_id=made["fast"],
            hour_ms=HOUR,
            within_5_ms=96,
            beyond_10000_ms=4,
            slowest_ms=20_000,
        ),
        UsageHour(project_id=made["slow"], hour_ms=HOUR, within_5_ms=50, slowest_ms=5),
        UsageHour(
            project_id=made["slow"], hour_ms=HOUR - HOUR_MS, within_500_ms=50, slowest_ms=400
        ),
        UsageHour(project_id=made["idle"], hour_ms=HOUR, cpu_ms=7),
        UsageHour(
            project_id=made["old"], hour_ms=HOUR - 9 * HOUR_MS, within_2500_ms=9, slowest_ms=2_000
        ),
    ]
    async with db.transaction(durable=False) as tx:
        for each in used:
            await usage.add(tx, each)
    return made


async def test_projects_whose_answers_take_longest_come_first(
    db: Database, ids: dict[str, str]
) -> None:
    found = await overview.used_projects(
        db, ProjectOrder.ANSWER, since_ms=HOUR - HOUR_MS, text="", limit=9, offset=0
    )
    assert [each.name for each in found] == ["slow", "fast", "idle", "old"]
    longer = await overview.used_projects(
        db, ProjectOrder.ANSWER, since_ms=HOUR - 9 * HOUR_MS, text="", limit=1, offset=0
    )
    assert [each.name for each in longer] == ["old"]


async def test_latency_of_a_project_is_that_of_all_its_hours(
    db: Database, ids: dict[str, str]
) -> None:
    found = await overview.latencies_of(db, list(ids.values()), since_ms=HOUR - HOUR_MS)
    assert found == {
        ids["fast"]: Latency(median_ms=4, p95_ms=5, slowest_ms=20_000),
        ids["slow"]: Latency(median_ms=5, p95_ms=385, slowest_ms=400),
        ids["idle"]: None,
    }
    assert await overview.latencies_of(db, [], since_ms=0) == {}


async def test_operator_sees_it_in_the_list_and_on_the_projects_page(
    db: Database, clock: MovableClock, ids: dict[str, str]
) -> None:
    clock.advance(1)  # an hour that begins now has no use yet
    pages = OperatorPages(db, clock)
    text = await pages.shown("/operator/projects?by=answer")
    assert text.index("/operator/projects/slow") < text.index("/operator/projects/fast")
    assert "385 ms" in text
    of_slow = await pages.shown("/operator/projects/slow")
    assert "95 of 100 within 385 ms, the slowest after 400 ms" in of_slow
    assert "were answered within" not in await pages.shown("/operator/projects/idle")
