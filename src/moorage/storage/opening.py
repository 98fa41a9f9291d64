"""Opens the database of a gateway, and records what kind of gateway it is for."""

import os
import sqlite3
from contextlib import closing
from enum import IntEnum
from pathlib import Path

from moorage.errors import ConfigurationInvalid, DatabaseUnavailable
from moorage.storage.database import Database
from moorage.storage.sqlite import SqliteDatabase

_FILE_MODE = 0o600


class Purpose(IntEnum):
    """What a database is for. Its numbers, "MOO" and a letter, are stored: never reuse one."""

    SERVE = 0x4D4F4F53  # S
    DEV = 0x4D4F4F44  # D


def purpose_of(where: Path | str) -> Purpose | None:
    """Returns what a database is for; None without one, or when it is not set.

    Raises DatabaseUnavailable for what is no database, or a server that cannot be reached.
    """
    if isinstance(where, str):
        from moorage.storage import postgres  # noqa: PLC0415  (its driver, 60 ms)

        return _by_name(postgres.comment(where))
    if not where.is_file():
        return None
    try:
        with closing(sqlite3.connect(where)) as connection:
            (number,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{where} cannot be opened: {error}.") from error
    return Purpose(number) if number in set(Purpose) else None


def set_purpose(where: Path | str, purpose: Purpose) -> None:
    """Stores what a database is for; makes the file where there is none. A server's has a schema.

    Only the owner may read the file, and those that SQLite makes beside it. Raises
    ConfigurationInvalid where a server's database is for something else.
    """
    if isinstance(where, str):
        from moorage.storage import postgres  # noqa: PLC0415  (its driver, 60 ms)

        found = _by_name(postgres.set_comment(where, _name(purpose)))
        if found is not purpose:
            raise ConfigurationInvalid(f"database_url: {refusal(found)}")
        return
    os.close(os.open(where, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
    where.chmod(_FILE_MODE)
    if purpose_of(where) is purpose:
        return
    try:
        with closing(sqlite3.connect(where)) as connection:
            connection.execute(f"PRAGMA application_id = {purpose.value}")
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{where} cannot be opened: {error}.") from error


def refusal(found: Purpose | None) -> str:
    """Returns why a database with this purpose is not used for another."""
    if found is Purpose.DEV:
        return (
            "this is a database of `moorage dev`: its credits were paid on local chains, where "
            "anybody can mint. Name another."
        )
    if found is Purpose.SERVE:
        return (
            "this is a database of `moorage serve`, with real money in its books. Name another for "
            "`moorage dev`."
        )
    return "the comment of the table alembic_version is not Moorage's. Name another database."


def _name(purpose: Purpose) -> str:
    return f"moorage {purpose.name.lower()}"


def _by_name(text: str | None) -> Purpose | None:
    return next((purpose for purpose in Purpose if _name(purpose) == text), None)


DATABASE = "moorage.db"
"""The name of the database's file in a data directory."""

MOVED = f"{DATABASE}.moved"
"""Its name once a server has what was in it."""


def open_database(where: Path | str, *, speed: float = 1.0) -> Database:
    """Opens a database that has the newest schema: a file's path, or a PostgreSQL server's URL.

    Close it after use. `speed` divides a file's waits; it is above 1 in tests.
    """
    if isinstance(where, Path):
        return SqliteDatabase(where, speed=speed)
    from moorage.storage.postgres import PostgresDatabase  # noqa: PLC0415  (60 ms of its driver)

    return PostgresDatabase(where)
