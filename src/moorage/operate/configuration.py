"""`moorage operator config`: what is set, and how it differs from what the gateway started with."""

import os
from pathlib import Path
from typing import Any

import msgspec

from moorage.clock import SystemClock
from moorage.gateway.configuration import compare, in_force
from moorage.operate.books import open_books
from moorage.settings import Settings, described, origins, recorded
from moorage.storage.operation import configuration
from moorage.storage.operation.configuration import ConfigurationChange


class Shown(msgspec.Struct, frozen=True):
    """A setting, its value without secrets, and where it comes from."""

    setting: str
    value: Any
    origin: str  # "default", the file's path, or the name of a variable


def shown(settings: Settings, *, file: Path | None) -> list[Shown]:
    """Returns every setting; chains come last. Raises InvalidField."""
    given = origins(file=file, environ=os.environ)
    return [
        Shown(name, value, given.get(name.partition(".")[0], "default"))
        for name, value in described(settings).items()
    ]


async def run_diff(settings: Settings) -> list[ConfigurationChange]:
    """Returns what the next start with these settings would change."""
    async with open_books(settings) as books:
        before = await in_force(books.db, settings)
    return list(compare(before, recorded(settings), now_ms=SystemClock().now_ms()))


async def run_history(settings: Settings) -> list[ConfigurationChange]:
    """Returns what starts changed, the oldest first, without what the first one found."""
    async with open_books(settings) as books:
        found = await configuration.history(books.db)
    first_ms = min((each.at_ms for each in found), default=0)
    return [each for each in found if each.at_ms != first_ms]
