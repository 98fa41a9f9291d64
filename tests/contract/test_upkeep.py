"""A gateway audits its books once a day, and tells as metrics when that and a backup were done."""

from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from moorage.certificates.installation import WildcardFiles
from moorage.certificates.orders import issued
from moorage.certificates.pem import new_key, parse_certificate
from moorage.core import Core
from moorage.gateway.upkeep import DailyAudit
from moorage.gateway.vital_signs import (
    note_certificates,
    note_evictions,
    note_upkeep,
)
from moorage.metrics import exposition
from moorage.storage.apps import certificates
from moorage.storage.database import Database
from moorage.storage.operation import audit_log, evictions
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone
from moorage.storage.operation.evictions import Eviction
from moorage.storage.several.leases import Leases
from moorage.storage.vault import KEY_BYTES, Vault
from support.books.records_fixture import ALICE, add_project
from support.gateway.authority_in_memory import certificate
from support.gateway.clock import HOUR_MS, MovableClock

pytestmark = pytest.mark.usefixtures("db")


@pytest.fixture
def core(db: Database, clock: MovableClock, tmp_path: Path) -> Core:
    leases = Leases(db=db, holder="a gateway", clock=clock)
    vault = Vault([bytes(KEY_BYTES)])
    return Core(db=db, vault=vault, leases=leases, clock=clock, data_dir=tmp_path)


async def note(core: Core, kind: Upkeep, **found: object) -> None:
    done = UpkeepDone(kind=kind, at_ms=core.clock.now_ms())
    async with core.db.transaction(durable=False) as tx:
        await audit_log.note_upkeep(tx, msgspec.structs.replace(done, **found))


def shown(series: str) -> float:
    lines = exposition()[0].decode().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{series} ")]
    return float(line.rpartition(" ")[2])


async def test_books_are_audited_when_the_last_audit_is_a_day_old(
    core: Core, clock: MovableClock, tmp_path: Path
) -> None:
    audit = DailyAudit(core, ("sh", "-c", f"echo x >> {tmp_path}/runs; echo ok"))
    runs = tmp_path / "runs"
    with capture_logs() as logs:
        await audit.run_if_due()  # none was ever made
    assert [(line["event"], line["verdict"]) for line in logs] == [("audited", "ok")]
    assert runs.read_text() == "x\n"
    await note(core, Upkeep.AUDIT)
    clock.advance(23 * HOUR_MS)
    await audit.run_if_due()
    assert runs.read_text() == "x\n"
    clock.advance(2 * HOUR_MS)
    await audit.run_if_due()
    assert runs.read_text() == "x\nx\n"


async def test_audit_that_finds_something_is_an_error_of_the_log(core: Core) -> None:
    with capture_logs() as logs:
        await DailyAudit(core, ("sh", "-c", "echo WRONG payment 7; exit 1")).run_if_due()
    (line,) = logs
    assert (line["log_level"], line["exit_code"], line["found"]) == (
        *("error", 1, ["WRONG payment 7"]),
    )


async def test_last_audit_and_backup_are_metrics(core: Core, clock: MovableClock) -> None:
    await note_upkeep(core)
    assert shown('moorage_upkeep_timestamp_seconds{kind="audit"}') == 0
    await note(core, Upkeep.AUDIT, wrong=3, pending=1)
    at_seconds = clock.now_ms() / 1000
    clock.advance(HOUR_MS)
    await note(core, Upkeep.BACKUP)
    await note_upkeep(core)
    assert shown('moorage_upkeep_timestamp_seconds{kind="audit"}') == at_seconds
    assert shown('moorage_upkeep_timestamp_seconds{kind="backup"}') == at_seconds + 3600
    assert shown('moorage_audit_findings{kind="wrong"}') == 3
    await note(core, Upkeep.AUDIT)
    await note_upkeep(core)
    assert shown('moorage_audit_findings{kind="wrong"}') == 0


async def test_what_is_sent_off_site_is_a_metric_where_it_is_to_be_sent(
    core: Core, clock: MovableClock
) -> None:
    await note(core, Upkeep.OFFSITE, size_bytes=7_000)
    await note_upkeep(core)
    assert 'kind="offsite"' not in exposition()[0].decode()
    await note_upkeep(core, offsite=True)
    at_seconds = clock.now_ms() / 1000
    assert shown('moorage_upkeep_timestamp_seconds{kind="offsite"}') == at_seconds
    assert shown("moorage_offsite_backup_bytes") == 7_000
    assert shown('moorage_upkeep_timestamp_seconds{kind="drill"}') == 0
    assert shown('moorage_upkeep_failed{kind="drill"}') == 0
    await note(core, Upkeep.DRILL, problem="the audit found 1 rows that are wrong")
    await note_upkeep(core, offsite=True)
    assert shown('moorage_upkeep_failed{kind="drill"}') == 1


async def test_how_long_an_ordered_deletion_is_late_is_a_metric(
    core: Core, clock: MovableClock
) -> None:
    await note_evictions(core)
    assert shown("moorage_eviction_overdue_seconds") == 0
    late, later = [await add_project(core.db, ALICE, name) for name in ("late", "later")]
    async with core.db.transaction(durable=False) as tx:
        await evictions.order(tx, Eviction(late.id, "closing", clock.now_ms() + HOUR_MS))
        await evictions.order(tx, Eviction(later.id, "closing", clock.now_ms() + 2 * HOUR_MS))
    await note_evictions(core)
    assert shown("moorage_eviction_overdue_seconds") == 0
    clock.advance(3 * HOUR_MS)
    await note_evictions(core)
    assert shown("moorage_eviction_overdue_seconds") == 2 * 3600
    async with core.db.transaction(durable=False) as tx:
        await evictions.cancel(tx, late.id)
        await evictions.cancel(tx, later.id)
    await note_evictions(core)
    assert shown("moorage_eviction_overdue_seconds") == 0


async def test_gateway_without_certificates_has_none(core: Core) -> None:
    await note_certificates(core, None)
    assert shown("moorage_certificates") == 0
    assert shown("moorage_certificate_end_timestamp_seconds") == 0


async def test_certificate_that_nobody_wants_any_more_ends_unnoticed(
    core: Core, clock: MovableClock, tmp_path: Path
) -> None:
    host, end = "app.example", "moorage_certificate_end_timestamp_seconds"
    made = new_key()
    chain = certificate(host, made, now_ms=clock.now_ms())
    parsed = parse_certificate(chain, made)
    row = issued(parsed, host, vault=core.vault, authority="https://authority.example")
    async with core.db.transaction(durable=False) as tx:
        await certificates.add(tx, host, wallet="", now_ms=clock.now_ms())
        await certificates.issue(tx, host, row, fence=0)
    await note_certificates(core, None)
    assert shown("moorage_certificates") == 1
    assert shown(end) == parsed.not_after_ms / 1000
    clock.advance(4 * 24 * HOUR_MS)
    await note_certificates(core, None)
    assert shown(end) == 0
    async with core.db.transaction(durable=False) as tx:
        await certificates.touch(tx, host, now_ms=clock.now_ms())
    await note_certificates(core, None)
    assert shown(end) == parsed.not_after_ms / 1000

    files = WildcardFiles("*.app.example", certificate=tmp_path / "pem", key=tmp_path / "key")
    (tmp_path / "key").write_text(made)
    wildcard = certificate("*.app.example", made, now_ms=clock.now_ms(), days=10)
    (tmp_path / "pem").write_text(wildcard)
    await files.read()
    await note_certificates(core, files)
    assert shown(end) == parse_certificate(wildcard, made).not_after_ms / 1000
