"""What a database is for: the local chains of `moorage dev`, or real money.

It is stored in the SQLite file's header (the application id), so that every copy has it too.
"""

import os
import sqlite3
from contextlib import closing
from enum import IntEnum
from pathlib import Path

from moorage.errors import DatabaseUnavailable

_FILE_MODE = 0o600


class Purpose(IntEnum):
    """What a database is for. Its numbers, "MOO" and a letter, are stored: never reuse one."""

    SERVE = 0x4D4F4F53  # S
    DEV = 0x4D4F4F44  # D


def purpose_of(path: Path) -> Purpose | None:
    """Returns what the database at `path` is for; None without a file, or when it is not set.

    Raises DatabaseUnavailable for a file that is no database.
    """
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            (number,) = connection.execute("PRAGMA application_id").fetchone()
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{path} cannot be opened: {error}.") from error
    return Purpose(number) if number in set(Purpose) else None


def set_purpose(path: Path, purpose: Purpose) -> None:
    """Stores what the database at `path` is for; makes the file where there is none.

    Only the owner may read the file, and those that SQLite makes beside it.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
    path.chmod(_FILE_MODE)
    if purpose_of(path) is purpose:
        return
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA application_id = {purpose.value}")
    except sqlite3.DatabaseError as error:
        raise DatabaseUnavailable(f"{path} cannot be opened: {error}.") from error
