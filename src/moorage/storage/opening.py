"""Opens the database of a gateway."""

from pathlib import Path

from moorage.storage.database import Database
from moorage.storage.sqlite import SqliteDatabase

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
