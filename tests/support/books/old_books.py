"""Books that earlier versions wrote, and what an upgrade of them must keep."""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from moorage.backup.archive import write_archive
from moorage.backup.content import digest_of
from moorage.backup.manifest import FORMAT, NAME, Manifest, ManifestEntry
from moorage.chains.chain import KNOWN_CHAINS
from moorage.clock import SystemClock
from moorage.operate.audit.rows import audit_books
from moorage.operate.audit.states import audit_states
from moorage.storage.apps import deployments, projects
from moorage.storage.opening import DATABASE, open_database
from moorage.storage.purpose import Purpose, set_purpose

_DIRECTORY = Path(__file__).parents[2] / "upgrades"
DUMPS = sorted(_DIRECTORY.glob("*.sql"))
"""Each written by a `moorage dev` of the version whose newest revision names it: two wallets paid
for three projects, of which one has two versions and one failed; one wallet topped up."""

OF_SERVER = _DIRECTORY / "server" / "0021.sql"
"""The books of that dump on a PostgreSQL server, as the first version that could moved them there:
`pg_dump --inserts --no-owner --no-privileges --schema=public`, without comments."""

BOB = "0x17c5185167401ed00cf5f5b2fc97d9bbfdb7d025"  # who owns the project "kept"
BOBS_KEY = "0x" + "42" * 32

MONEY = (
    "SELECT account, sum(amount_micro_usd) FROM entries GROUP BY account",
    "SELECT address, balance_micro_usd FROM wallets",
    "SELECT chain_id, tx_hash, payer, credited_micro_usd FROM payments",
    "SELECT unique_name, wallet, serving_deployment_id, monthly_price_micro_usd FROM projects",
    "SELECT id, status, plan, created_at_ms FROM deployments",
    "SELECT id, project_id, started_at_ms, charged_micro_usd FROM run_intervals",
    "SELECT wallet, sequence, kind, data FROM events",
)
"""What no upgrade may change."""


def write_books(dump: Path, path: Path) -> None:
    """Make a database file of a dump."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(dump.read_text())


def backup_of(dump: Path, directory: Path) -> Path:
    """Make a backup of a gateway of that version, whose apps' disks are lost."""
    directory.mkdir()
    file = directory / DATABASE
    write_books(dump, file)
    set_purpose(file, Purpose.SERVE)
    entry = ManifestEntry(path=DATABASE, size=file.stat().st_size, digest=digest_of(file))
    manifest = Manifest(
        format=FORMAT,
        version="0.1.0",
        schema=dump.stem,
        created_at="2026-04-07T10:00:00.000Z",
        data_dir="/var/lib/moorage",
        secrets_key=False,
        entries=(entry,),
    )
    (directory / NAME).write_bytes(msgspec.json.encode(manifest))
    write_archive(directory, [NAME, DATABASE], directory / "gateway.backup")
    return directory / "gateway.backup"


def money_of(path: Path) -> list[set[tuple[object, ...]]]:
    """What MONEY finds in a file."""
    with closing(sqlite3.connect(path)) as connection:
        return [set(connection.execute(query)) for query in MONEY]


async def assert_sound(where: Path | str) -> None:
    """The audit finds nothing in upgraded books, and the project "kept" has its owner's version."""
    db = open_database(where)
    try:
        async with db.snapshot() as snapshot:
            _, found = await audit_books(snapshot, list(KNOWN_CHAINS.values()))
            states = await audit_states(snapshot, now_ms=SystemClock().now_ms())
            project = await projects.by_name(snapshot, "kept")
            assert project is not None
            serving = await deployments.by_id(snapshot, project.serving_deployment_id or "")
        assert [*found, *states] == []
        assert (project.wallet, serving is not None) == (BOB, True)
    finally:
        db.close()
