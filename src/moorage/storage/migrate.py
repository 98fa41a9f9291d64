"""Upgrades a database file to the newest schema; imports alembic only when it has to."""

import sqlite3
from contextlib import closing
from pathlib import Path

from moorage.errors import DatabaseUnavailable

REVISIONS = tuple(f"{number:04}" for number in range(1, 22))
"""The schema's revisions, oldest first; each is a script in `migrations/versions`."""

NEWEST_REVISION = REVISIONS[-1]
_SCRIPTS = Path(__file__).parent / "migrations"


def migrate(path: Path) -> None:
    """Creates or upgrades the schema of the SQLite file at `path`.

    Raises DatabaseUnavailable for a file that is no database, or a damaged one.
    """
    if _read_revision(path) != NEWEST_REVISION:
        _upgrade(path)


def is_newest(path: Path) -> bool:
    """Whether the file at `path` exists and has the newest schema. Changes nothing.

    Raises DatabaseUnavailable for a file that is no database, or a damaged one.
    """
    return path.is_file() and _read_revision(path) == NEWEST_REVISION


def is_ours(path: Path) -> bool:
    """Whether the file at `path` exists and has a schema that `migrate` knows. Changes nothing.

    Raises DatabaseUnavailable for a file that is no database, or a damaged one.
    """
    return path.is_file() and _read_revision(path) in REVISIONS


def _read_revision(path: Path) -> str | None:
    try:
        return _revision(path)
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{path} cannot be opened: {error}.") from error


def _revision(path: Path) -> str | None:
    with closing(sqlite3.connect(path)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return str(row[0]) if row else None


def _upgrade(path: Path) -> None:
    from alembic import command  # noqa: PLC0415  (0.6 s, needed once per upgrade)
    from alembic.config import Config  # noqa: PLC0415
    from sqlalchemy import create_engine  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
