"""Creates the schema of a new database, and upgrades that of an earlier release.

A new database gets the tables that `schema` declares. One of an earlier release gets the revisions
in `migrations/versions` that came after its own: a file by alembic itself, a server's database as
one script of SQL. Either is one transaction, so that a failed upgrade changes nothing. The
functions here block: call them in a thread where an event loop runs.
"""

import io
import re
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable

from moorage.errors import DatabaseUnavailable, SchemaUnknown
from moorage.imports import hidden
from moorage.storage.schema import metadata

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = ("release_1",)
"""The schema's revisions, oldest first; each is a script in `migrations/versions`."""

NEWEST_REVISION = REVISIONS[-1]
SCRIPTS = Path(__file__).parent / "migrations"
_REVISION_TABLE = (  # as alembic makes it
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
)
_OF_CHECKOUTS = re.compile(r"0\d{3}")  # revisions from before the first release
_ALEMBIC = threading.Lock()  # what it runs with belongs to the whole process


def migrate(where: Path | str) -> None:
    """Creates or upgrades the schema of an SQLite file, or of a PostgreSQL server's database.

    Raises DatabaseUnavailable for what is no database, is damaged or cannot be reached, and
    SchemaUnknown.
    """
    revision = _read_revision(where)
    if revision == NEWEST_REVISION:
        return
    _require_known(revision)
    if not isinstance(where, Path):
        from moorage.storage import postgres  # noqa: PLC0415  (its driver, 60 ms)

        postgres.upgrade(where, _script)
    elif revision is None:
        _create(where)
    else:
        _upgrade(where)


def is_newest(where: Path | str) -> bool:
    """Returns whether there is a database with the newest schema. Changes nothing.

    Raises as `migrate`.
    """
    if isinstance(where, Path) and not where.is_file():
        return False
    revision = _read_revision(where)
    _require_known(revision)
    return revision == NEWEST_REVISION


def is_earlier(where: Path | str) -> bool:
    """Returns whether there is a database that `migrate` would upgrade. Changes nothing.

    Raises as `migrate`.
    """
    revision = None if isinstance(where, Path) and not where.is_file() else _read_revision(where)
    _require_known(revision)
    return revision not in (None, NEWEST_REVISION)


def require_ours(path: Path) -> None:
    """Raises SchemaUnknown for a file that `migrate` would not upgrade. Changes nothing.

    Raises DatabaseUnavailable for a file that is no database, or a damaged one.
    """
    revision = _read_revision(path) if path.is_file() else None
    if revision is None:
        raise SchemaUnknown(f"{path.name} is no database of Moorage.")
    _require_known(revision)


def _require_known(revision: str | None) -> None:
    if revision is None or revision in REVISIONS:
        return
    if _OF_CHECKOUTS.fullmatch(revision):
        raise SchemaUnknown(
            f"The database was written by a checkout from before the first release (revision "
            f"{revision}), which this version cannot read: use that checkout, or begin with an "
            "empty data_dir and an empty database."
        )
    raise SchemaUnknown(
        f"The database is of a newer version of Moorage (revision {revision}): use that one."
    )


def _read_revision(where: Path | str) -> str | None:
    if isinstance(where, str):
        from moorage.storage import postgres  # noqa: PLC0415  (its driver, 60 ms)

        return postgres.revision(where)
    try:
        with closing(sqlite3.connect(where)) as connection:
            return _revision(connection)
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{where} cannot be opened: {error}.") from error


def _revision(connection: sqlite3.Connection) -> str | None:
    tables = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
    if connection.execute(tables).fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return str(row[0]) if row else None


def _create(path: Path) -> None:
    """Creates the schema in an SQLite file, unless another process did so a moment before."""
    from sqlalchemy.dialects.sqlite import dialect  # noqa: PLC0415

    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if _revision(connection) is None:
                for statement in _declared(dialect()):
                    connection.execute(statement)
            connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{path} cannot be made: {error}.") from error


def _upgrade(path: Path) -> None:
    from sqlalchemy import create_engine  # noqa: PLC0415

    command, config = _alembic()
    engine = create_engine(f"sqlite:///{path}")
    try:
        with _ALEMBIC, engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()


def _script(since: str | None) -> str:
    """Returns the SQL that makes the newest schema of a server's at revision `since`.

    "" where nothing is to be done; None: there is no schema.
    """
    _require_known(since)
    if since == NEWEST_REVISION:
        return ""
    if since is None:
        from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg  # noqa: PLC0415

        return ";\n".join(_declared(PGDialect_asyncpg()))  # type: ignore[no-untyped-call]
    command, config = _alembic(output=(script := io.StringIO()))
    with _ALEMBIC:
        command.upgrade(config, f"{since}:head", sql=True)
    return script.getvalue()


def _declared(dialect: Dialect) -> list[str]:
    """Returns the statements that create the declared schema, with its revision."""
    revision = f"INSERT INTO alembic_version VALUES ('{NEWEST_REVISION}')"  # noqa: S608 (ours)
    statements = [_REVISION_TABLE, revision]
    for table in metadata.sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        for index in sorted(table.indexes, key=lambda each: str(each.name)):
            if dialect.name != "sqlite":  # for which alone conditions are declared
                where = index.dialect_options["sqlite"]["where"]
                index.dialect_options[dialect.name]["where"] = where
            statements.append(str(CreateIndex(index).compile(dialect=dialect)))
    return statements


def _alembic(*, output: io.StringIO | None = None) -> tuple[ModuleType, "Config"]:
    """Returns alembic's commands, and what they run with. Writes SQL to `output`, if it is given.

    It takes 5 MiB, without the 4 MiB that would only show errors of templates in colours.
    """
    with hidden("pygments"):
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(SCRIPTS))
    return command, config
