"""Which database a gateway's rows are in."""

from pathlib import Path

from moorage.storage.database import Database
from moorage.storage.sqlite import SqliteDatabase


def open_database(path: Path, *, speed: float = 1.0) -> Database:
    """The database in the file at `path`, with the newest schema. Close it after use.

    `speed` divides its waits: tests hurry them.
    """
    return SqliteDatabase(path, speed=speed)
