"""The audit's page, the settings in force, acts, and recent lines of the log."""

import asyncio
from urllib.parse import urlencode

import msgspec
import pytest

from moorage import logs
from moorage.operate.audit.report import Report
from moorage.operate.audit.rows import Finding
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.operation import audit_log, configuration
from moorage.storage.operation.audit_log import Act
from moorage.storage.operation.configuration import ConfigurationChange
from support.gateway.clock import START_MS, MovableClock
from support.gateway.operator_pages import OperatorPages

FORGED = Report(
    findings=[Finding("payment 42161:0x1:0", "was credited with 2, but is worth 1")],
    pending=[],
    unknown={"base": "it does not run"},
    former={},
    totals=[],
    payments=1,
    balances_micro_usd=2,
    burned_micro_usd=0,
    compensated_micro_usd=0,
)


def printing(words: str) -> tuple[str, ...]:
    return ("sh", "-c", 'printf %s "$0"', words)


async def audited(pages: OperatorPages) -> str:
    """The page after an audit."""
    running = asyncio.create_task(pages.audits.run())
    answer = await pages.post("/operator/books/audit", search="true")
    assert answer.location == "/operator/books?done=audit"
    assert "under way" in await pages.shown("/operator/books")
    assert (await pages.post("/operator/books/audit")).location.endswith("done=audit-runs")
    while pages.audits.is_running:
        await asyncio.sleep(0.01)
    running.cancel()
    return await pages.shown("/operator/books")


async def test_an_audit_names_each_wrong_row(db: Database, clock: MovableClock) -> None:
    told = msgspec.json.encode({"ok": False, "report": FORGED}).decode()
    text = await audited(OperatorPages(db, clock, audit_command=printing(told)))
    for words in ("payment 42161:0x1:0", "is worth 1", "it does not run", "Run by ann"):
        assert words in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("sh", "-c", "echo no database here >&2; exit 2"), "no database here"),
        (("sh", "-c", "true"), "The audit said nothing"),
    ],
)
async def test_an_audit_without_a_result_says_why(
    db: Database, clock: MovableClock, command: tuple[str, ...], words: str
) -> None:
    assert words in await audited(OperatorPages(db, clock, audit_command=command))


async def test_settings_are_shown_without_their_secrets(db: Database, clock: MovableClock) -> None:
    settings = Settings(database_url="postgresql://me:hunter2@db/books", contact="me@example.com")
    text = await OperatorPages(db, clock, settings=settings).shown("/operator/settings")
    assert "hunter2" not in text
    assert "me@example.com" in text


async def test_what_a_restart_would_change_is_told(db: Database, clock: MovableClock) -> None:
    pages = OperatorPages(db, clock, written=Settings(watch_seconds=9))
    text = await pages.shown("/operator/settings")
    assert "a restart would change this" in text
    assert text.count("<code>watch_seconds</code>") == 2
    pages.written = None
    assert "a restart would change this" not in await pages.shown("/operator/settings")


async def test_settings_have_a_history_without_the_first_start(
    pages: OperatorPages, db: Database
) -> None:
    async with db.transaction(durable=True) as tx:
        for at_ms, before, after in ((1, None, '"first"'), (2, '"first"', '"second"')):
            change = ConfigurationChange(at_ms=at_ms, setting="contact", before=before, after=after)
            await configuration.add_change(tx, [change])
    text = await pages.shown("/operator/settings/history")
    assert text.count("<code>contact</code>") == 1
    assert "second" in text


async def test_acts_are_listed_the_newest_first_and_found(
    pages: OperatorPages, db: Database
) -> None:
    async with db.transaction(durable=True) as tx:
        for at_ms, who in ((START_MS, "bob"), (START_MS + 1, "carl")):
            await audit_log.add(
                tx, Act(at_ms=at_ms, who=who, act="suspend", subject="x", reason="<b>")
            )
    text = await pages.shown("/operator/acts")
    assert text.index("carl") < text.index("bob")
    assert "<b>" not in text
    assert "bob" not in await pages.shown("/operator/acts?q=carl")


async def test_acts_are_shown_a_page_at_a_time(pages: OperatorPages, db: Database) -> None:
    async with db.transaction(durable=True) as tx:
        for number in range(51):
            act = Act(at_ms=START_MS, who="bob", act="suspend", subject=f"shop-{number}-")
            await audit_log.add(tx, act)
    first, second = [await pages.shown(f"/operator/acts?page={number}") for number in (1, 2)]
    assert "shop-50-" in first
    assert "shop-0-" not in first
    assert "shop-0-" in second
    assert second.count("shop-") == 1


@pytest.mark.parametrize("text", ["%", "_", "\\"])
async def test_text_of_acts_is_found_as_it_stands(
    pages: OperatorPages, db: Database, text: str
) -> None:
    async with db.transaction(durable=True) as tx:
        for subject in ("another", f"A{text}B"):
            await audit_log.add(tx, Act(at_ms=START_MS, who="bob", act="suspend", subject=subject))
    found = await pages.shown(f"/operator/acts?{urlencode({'q': f'a{text}'})}")
    assert f"A{text}B" in found
    assert "another" not in found


@pytest.mark.parametrize("text", ["Ölpreis", "BOB suspend harb"])
async def test_acts_are_found_by_words_of_any_letters_and_fields(
    pages: OperatorPages, db: Database, text: str
) -> None:
    async with db.transaction(durable=True) as tx:
        act = Act(at_ms=START_MS, who="bob", act="suspend", subject="harbour", reason="Ölpreis")
        await audit_log.add(tx, act)
    assert "harbour" in await pages.shown(f"/operator/acts?{urlencode({'q': text})}")


async def test_the_log_is_searched_by_request(pages: OperatorPages) -> None:
    event = {"event": "request", "request_id": "f00d", "password": "x", "level": "info"}
    logs.recent.add("info", msgspec.json.encode(logs.redact(None, "info", event)))
    text = await pages.shown("/operator/log?q=f00d")
    assert "request" in text
    assert logs.REDACTED in text
    assert "f00d" not in await pages.shown("/operator/log?q=another-request")


async def test_lines_of_no_request_are_shown_too(pages: OperatorPages) -> None:
    logs.recent.add("info", b'{"event":"a line of no request"}')
    assert "a line of no request" in await pages.shown("/operator/log")
