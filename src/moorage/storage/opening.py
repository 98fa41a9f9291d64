"""Opens the database of a gateway."""

from pathlib import Path

from moorage.storage.database import Database
from moorage.storage.sqlite import SqliteDatabase


def open_database(path: Path, *, speed: float = 1.0) -> Database:
    """Opens the database file at `path`, which has the newest schema. Close it after use.

    `speed` divides its waits; it is above 1 in tests.
    """
    return SqliteDatabase(path, speed=speed)
