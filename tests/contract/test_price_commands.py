"""`operator prices`: an order that is seen before it is given, told to owners, and taken back."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.cli.main import run
from moorage.records.event import EventData, EventKind
from moorage.storage import events
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, CAROL, add_project

DEAR, CHEAP, TODAY = 2_000_000, 100_000, 500_000  # half a GiB and half a core at $0.50 each
ASLEEP = 200_000  # 2 GiB of disks at $0.10 each
NEXT_YEAR = (datetime.now(UTC) + timedelta(days=365)).strftime("%Y-%m-%dT00:00:00Z")
TOMORROW = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT00:00:00Z")


@pytest.fixture
def config(db_path: Path) -> Path:
    path = db_path.parent / "moorage.toml"
    path.write_text(
        f'data_dir = "{db_path.parent}"\n[payments]\npay_to = "{CAROL}"\n'
        '[chains.arbitrum]\nrpc_urls = ["http://127.0.0.1:1/"]\n'
    )
    return path


@pytest.fixture
async def projects(db: Database) -> Database:
    for wallet, name, price in (
        (ALICE, "cheap", CHEAP),
        (BOB, "dear", DEAR),
        (ALICE, "same", TODAY),
    ):
        await add_project(
            db,
            wallet,
            name,
            monthly_price_micro_usd=price,
            asleep_price_micro_usd=min(price, ASLEEP),
            months=1,
        )
    return db


async def prices(config: Path, *arguments: str) -> int:
    """The command's exit code; beside the loop that has the database open."""
    return await asyncio.to_thread(
        run, ("operator", "prices", *arguments, "--config", str(config), "--json")
    )


def listed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    found = msgspec.json.decode(capsys.readouterr().out)["prices"]
    return [(each["name"], each["now"], each["then"]) for each in found]


async def told(db: Database, wallet: str) -> list[tuple[EventKind, EventData]]:
    return [(each.kind, each.data) for each in await events.of_wallet(db, wallet, after=0, limit=9)]


async def test_preview_shows_what_an_order_would_change_and_changes_nothing(
    projects: Database, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await prices(config, "preview", NEXT_YEAR) == 0
    assert listed(capsys) == [("cheap", CHEAP, TODAY), ("dear", DEAR, TODAY)]
    assert await prices(config, "show") == 0
    assert listed(capsys) == [("cheap", CHEAP, None), ("dear", DEAR, None), ("same", TODAY, None)]
    assert await told(projects, ALICE) == []


async def test_higher_price_needs_its_days_of_notice_and_a_lower_one_does_not(
    projects: Database, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await prices(config, "order", TOMORROW, "--reason", "dearer power") == 2
    assert "30 days' notice" in capsys.readouterr().err
    assert await told(projects, ALICE) == await told(projects, BOB) == []
    prices_of = config.read_text() + "[prices]\nmemory_gib_month_micro_usd = 0\n"
    config.write_text(prices_of + "cpu_month_micro_usd = 200_000\n")  # no project pays less
    assert await prices(config, "order", TOMORROW, "--reason", "cheaper power") == 0
    assert listed(capsys) == [("dear", DEAR, CHEAP), ("same", TODAY, CHEAP)]


async def test_owners_are_told_what_they_will_pay_and_when_that_is_taken_back(
    projects: Database, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await prices(config, "order", NEXT_YEAR, "--reason", "dearer power") == 0
    assert listed(capsys) == [("cheap", CHEAP, TODAY), ("dear", DEAR, TODAY)]
    ((kind, data),) = await told(projects, ALICE)
    assert kind is EventKind.PRICE_ANNOUNCED
    assert (data["before_usd_month"], data["usd_month"]) == (0.1, 0.5)
    assert (data["from"], data["reason"]) == (NEXT_YEAR[:-1] + ".000Z", "dearer power")

    assert await prices(config, "cancel", "--reason", "it fell again") == 0
    assert msgspec.json.decode(capsys.readouterr().out) == {"cancelled": 2}
    _, (kind, data) = await told(projects, ALICE)
    assert (kind, data["usd_month"]) == (EventKind.PRICE_KEPT, 0.1)
    assert await prices(config, "show") == 0
    assert [then for _, _, then in listed(capsys)] == [None, None, None]


async def test_price_that_was_promised_for_longer_is_told_with_its_own_date(
    db: Database, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await add_project(db, ALICE, "ahead", monthly_price_micro_usd=CHEAP, months=24)
    assert await prices(config, "order", NEXT_YEAR, "--reason", "dearer power") == 0
    capsys.readouterr()
    ((_, data),) = await told(db, ALICE)
    from_ = datetime.fromisoformat(str(data["from"]))
    assert timedelta(days=729) < from_ - datetime.now(UTC) < timedelta(days=731)
