"""Upgrades a database to the newest schema; imports alembic only when it has to.

A file is upgraded by alembic itself. A server gets what alembic would do as one script of SQL, in
one transaction, beside gateways that serve (`altering`). The functions here block: call them in a
thread where an event loop runs.
"""

import io
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from moorage.errors import DatabaseUnavailable
from moorage.imports import hidden

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS = tuple(f"{number:04}" for number in (*range(1, 40), 42, 40, 44, 43, 45))
"""The schema's revisions, oldest first; each is a script in `migrations/versions`."""

NEWEST_REVISION = REVISIONS[-1]
_SCRIPTS = Path(__file__).parent / "migrations"
_ALEMBIC = threading.Lock()  # what it runs with belongs to the whole process


def migrate(where: Path | str) -> None:
    """Creates or upgrades the schema of an SQLite file, or of a PostgreSQL server's database.

    Raises DatabaseUnavailable for what is no database, is damaged or cannot be reached, and for a
    database of a newer version.
    """
    revision = _read_revision(where)
    if revision == NEWEST_REVISION:
        return
    _refuse_newer(revision)
    if isinstance(where, Path):
        _upgrade(where)
    else:
        from moorage.storage.altering import alter  # noqa: PLC0415  (its driver, 60 ms)

        alter(where, _script)


def is_newest(where: Path | str) -> bool:
    """Whether there is a database with the newest schema. Changes nothing. Raises as `migrate`."""
    if isinstance(where, Path) and not where.is_file():
        return False
    return _read_revision(where) == NEWEST_REVISION


def is_ours(path: Path) -> bool:
    """Whether the file at `path` exists and has a schema that `migrate` knows. Changes nothing.

    Raises DatabaseUnavailable for a file that is no database, or a damaged one.
    """
    return path.is_file() and _read_revision(path) in REVISIONS


def _read_revision(where: Path | str) -> str | None:
    if isinstance(where, str):
        from moorage.storage import server  # noqa: PLC0415

        return server.revision(where)
    try:
        return _revision(where)
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{where} cannot be opened: {error}.") from error


def _revision(path: Path) -> str | None:
    with closing(sqlite3.connect(path)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return str(row[0]) if row else None


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision not in REVISIONS:
        raise DatabaseUnavailable(
            f"The database is of a newer version of Moorage (revision {revision}): use that one."
        )


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
    """Returns the SQL that upgrades a PostgreSQL database from revision `since`; None: from none.

    "" where nothing is to be done.
    """
    if since == NEWEST_REVISION:
        return ""
    _refuse_newer(since)
    command, config = _alembic(output=(script := io.StringIO()))
    with _ALEMBIC:
        command.upgrade(config, "head" if since is None else f"{since}:head", sql=True)
    return script.getvalue()


def _alembic(*, output: io.StringIO | None = None) -> tuple[ModuleType, "Config"]:
    """Returns alembic's commands, and what they run with. Writes SQL to `output`, if it is given.

    It takes 5 MiB, without the 4 MiB that would only show errors of templates in colours.
    """
    with hidden("pygments"):
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415

    config = Config(output_buffer=output)
    config.set_main_option("script_location", str(_SCRIPTS))
    return command, config
