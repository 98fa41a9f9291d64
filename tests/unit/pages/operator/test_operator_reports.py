"""Trends, prices and reports, as an operator sees them and orders what they say."""

import asyncio
import os
from pathlib import Path

import pytest

from moorage.errors import InvalidField
from moorage.pages.operator.audits import BooksCommand, Reports
from moorage.records.usage import UsageHour
from moorage.settings import Settings
from moorage.storage import events
from moorage.storage.apps import usage
from moorage.storage.database import Database
from moorage.storage.operation import audit_log, price_changes
from support.books.records_fixture import ALICE, add_project, fund
from support.gateway.clock import HOUR_MS, START_MS, MovableClock
from support.gateway.operator_pages import OperatorPages

DEARER = Settings(app_memory_mib=4096)
LATER = "2199-03-01"


@pytest.fixture
def dearer(db: Database, clock: MovableClock) -> OperatorPages:
    """Pages of a gateway in whose settings apps became larger, and so dearer."""
    return OperatorPages(db, clock, written=DEARER)


def shown_prices(settings: Settings) -> str:
    sizes = settings.size_list.listed
    return " ".join(f"{each.name}:{each.month}:{each.asleep_month}" for each in sizes)


def reporting(directory: Path, script: str) -> str:
    program = directory / "report"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    return str(program)


async def test_trends_add_up_all_projects(pages: OperatorPages, db: Database) -> None:
    await fund(db, ALICE, 7_000_000)
    for name in ("one", "two"):
        project = await add_project(db, ALICE, name)
        async with db.transaction(durable=True) as tx:
            hour = START_MS - START_MS % HOUR_MS
            used = UsageHour(project_id=project.id, hour_ms=hour, status_2xx=20, cpu_ms=1_800_000)
            await usage.add(tx, used)
    text = await pages.shown("/operator/trends")
    assert "Requests in a day" in text
    assert ">40<" in text
    assert "1 core" in text


async def test_new_price_is_previewed_then_ordered_and_taken_back(
    dearer: OperatorPages, db: Database
) -> None:
    project = await add_project(db)
    assert await price_changes.ordered(db) == []
    assert "1 project has another price" in await dearer.shown(f"/operator/prices?date={LATER}")
    assert await price_changes.ordered(db) == []
    form = {"date": LATER, "reason": "power costs more", "shown": shown_prices(DEARER)}
    assert (await dearer.post("/operator/prices/order", **form)).status == 400
    answer = await dearer.post("/operator/prices/order", **form, confirmed="true")
    assert answer.location == "/operator/prices?done=prices-ordered"
    (ordered,) = await price_changes.ordered(db)
    assert ordered.project_id == project.id
    told = [each.kind for each in await events.of_wallet(db, project.wallet, after=0, limit=9)]
    assert told == ["project.price_announced"]

    assert "Take back what is ordered" in await dearer.shown("/operator/prices")
    answer = await dearer.post("/operator/prices/cancel", reason="it does not after all")
    assert answer.location == "/operator/prices?done=prices-kept"
    assert await price_changes.ordered(db) == []
    assert [each.act for each in await audit_log.since(db, 0)] == ["order prices", "cancel prices"]


async def test_prices_are_shown_a_page_at_a_time(dearer: OperatorPages, db: Database) -> None:
    names = [f"app-{number:03}" for number in range(60)]
    for name in names:
        await add_project(db, name=name)

    def shown(text: str) -> list[str]:
        return [name for name in names if f"/operator/projects/{name}" in text]

    assert shown(await dearer.shown("/operator/prices")) == names[:50]
    assert shown(await dearer.shown("/operator/prices?page=2")) == names[50:]
    preview = await dearer.shown(f"/operator/prices?date={LATER}&page=2")
    assert "60 projects have another price" in preview
    assert shown(preview) == names[50:]
    assert preview.count("2199-03-01 00:00:00 UTC") == 10
    refused = await dearer.shown("/operator/prices?date=2026-01-01&page=2")
    assert "60 projects would cost more" in refused
    form = {"date": LATER, "reason": "power", "shown": shown_prices(DEARER), "confirmed": "true"}
    await dearer.post("/operator/prices/order", **form)
    ordered = await dearer.shown("/operator/prices?page=2")
    assert ordered.count("2199-03-01 00:00:00 UTC") == 10


async def test_new_price_counts_once_the_paid_months_have_run(
    dearer: OperatorPages, db: Database
) -> None:
    await add_project(db, name="paid-ahead", months=12_000)
    await add_project(db, name="plain", months=1)
    text = await dearer.shown(f"/operator/prices?date={LATER}")
    (of_paid, of_plain) = (
        text.partition(f"/operator/projects/{name}")[2].partition("</tr>")[0]
        for name in ("paid-ahead", "plain")
    )
    assert "2199-03-01" in of_plain
    assert "2199-03-01" not in of_paid


async def test_price_is_ordered_only_as_it_was_shown(dearer: OperatorPages, db: Database) -> None:
    await add_project(db)
    shown = await dearer.shown(f"/operator/prices?date={LATER}")
    assert f'name="shown" value="{shown_prices(DEARER)}"' in shown
    dearer.written = Settings(app_memory_mib=8192)
    form = {"date": LATER, "reason": "power", "shown": shown_prices(DEARER), "confirmed": "true"}
    answer = await dearer.post("/operator/prices/order", **form)
    assert answer.status == 400
    assert "another price by now" in answer.text
    assert await price_changes.ordered(db) == []


@pytest.mark.parametrize("date", ["2026-01-01", "soon"])
async def test_price_that_cannot_be_ordered_says_why(
    dearer: OperatorPages, db: Database, date: str
) -> None:
    await add_project(db)
    text = await dearer.shown(f"/operator/prices?date={date}")
    assert "That cannot be ordered" in text
    assert (await dearer.post("/operator/prices/order", date=date, confirmed="true")).status == 400


async def test_report_is_what_the_command_prints(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    program = reporting(tmp_path, 'echo "chain,asked_for"; echo "base,$*"')
    pages = OperatorPages(db, clock, report_program=program)
    query = "what=revenue&by=day&since=2026-01-01"
    page = await pages.shown(f"/operator/reports?{query}")
    assert f"/operator/reports/table?{query}".replace("&", "&amp;") in page
    table = await pages.shown(f"/operator/reports/table?{query}")
    assert "Asked for" in table
    assert "operator report revenue --since 2026-01-01 --by day --csv" in table
    answer = await pages.get(f"/operator/reports.csv?what=invoice&wallet={ALICE}")
    assert answer.text == f"chain,asked_for\nbase,operator report invoice --wallet {ALICE} --csv\n"
    assert answer.headers["content-disposition"] == 'attachment; filename="invoice.csv"'


@pytest.mark.parametrize(
    "query", ["what=invoice", "what=revenue&since=now", "wallet=x&what=payments"]
)
async def test_report_that_cannot_be_made_says_why(
    db: Database, clock: MovableClock, tmp_path: Path, query: str
) -> None:
    program = reporting(tmp_path, 'echo "name the wallet" >&2; exit 2')
    pages = OperatorPages(db, clock, report_program=program)
    assert "No report" in await pages.shown(f"/operator/reports/table?{query}")
    assert (await pages.get(f"/operator/reports.csv?{query}")).status == 400


async def test_report_whose_command_fails_half_way_is_none(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    program = reporting(tmp_path, 'echo "chain,paid"; echo "base,1"; kill -9 $$')
    pages = OperatorPages(db, clock, report_program=program)
    table = await pages.shown("/operator/reports/table?what=payments")
    assert "is not whole" in table
    assert "base" not in table
    assert (await pages.get("/operator/reports.csv?what=payments")).status == 400


async def test_long_report_is_shown_by_its_last_lines(
    db: Database, clock: MovableClock, tmp_path: Path
) -> None:
    program = reporting(tmp_path, 'echo "chain"; seq -f "row-%g-" 1201')
    pages = OperatorPages(db, clock, report_program=program)
    table = await pages.shown("/operator/reports/table?what=payments")
    assert "The last 200 of 1,201 lines" in table
    assert "row-1001-" not in table
    assert "row-1002-" in table


async def test_reports_that_wait_for_another_are_bounded(tmp_path: Path) -> None:
    gate, script = tmp_path / "gate", 'read -r line < "$(dirname "$0")/gate"; echo "$line"'
    os.mkfifo(gate)
    reports = Reports(BooksCommand(reporting(tmp_path, script), ()))
    waiting = [asyncio.ensure_future(reports.csv(("revenue",))) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(InvalidField, match="others are being made"):
        await reports.csv(("revenue",))
    for each in waiting:
        await asyncio.to_thread(gate.write_text, "made\n")
        assert await each == b"made\n"
    assert reports.asked == 0
