"""Copies of logs that a gateway on another machine writes, to be read here."""

import asyncio
import math
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from moorage.clock import Clock
from moorage.content.store import ContentStore, Item
from moorage.engines.locks import Locks
from moorage.engines.logs import pieces
from moorage.engines.logs.logs import Logs
from moorage.engines.logs.store import segment_path, segments
from moorage.errors import ContentUnavailable
from moorage.records.deployment import LogKind
from moorage.threads import in_thread

_PAUSE_SECONDS = 0.3  # between two looks at one log in the store, each of which may cost money
_AT_ONCE = 8
_TRIES = 3
_MAX_BYTES = 256 * 1024 * 1024
_MAX_COPIES = 1000
_IN_USE_SECONDS = 30.0  # a copy that was asked for within them is not removed

Log = tuple[str, LogKind]
"""A deployment's id, and which of its logs."""


class LogCopies:
    """Those in one directory, of which the ones asked for last are kept."""

    def __init__(
        self, store: ContentStore, directory: Path, *, clock: Clock, max_bytes: int = _MAX_BYTES
    ) -> None:
        """`directory` is this object's own; what lies there is removed."""
        self._store = store
        self._directory = directory
        self._clock = clock
        self._max_bytes = max_bytes
        self._locks = Locks()
        self._copies: dict[Log, _Copy] = {}  # the one that was asked for last is the last
        self._places = asyncio.Semaphore(_AT_ONCE)
        shutil.rmtree(directory, ignore_errors=True)

    async def current(self, deployment_id: str, kind: LogKind) -> Logs:
        """Returns logs to read, of which this kind is all that was stored when this was called.

        Raises ContentUnavailable, OSError.
        """
        log, asked = (deployment_id, kind), self._clock.monotonic_seconds()
        logs = self._logs(deployment_id)
        async with self._locks.alone(f"{deployment_id} {kind}"):
            copy = self._copies.pop(log, None) or _Copy()
            self._copies[log] = copy  # also if this fails: what is on the disk already counts
            if copy.looked < asked:
                await asyncio.sleep(copy.looked + _PAUSE_SECONDS - self._clock.monotonic_seconds())
                looked = self._clock.monotonic_seconds()
                async with self._places:
                    await self._update(logs.of(kind), log, copy.items)
                copy.looked = looked
        await self._remove_idle()
        return logs

    def _logs(self, deployment_id: str) -> Logs:
        directory = self._directory / deployment_id
        return Logs(directory=directory, collecting=None, clock=self._clock)

    async def _update(self, directory: Path, log: Log, here: dict[int, Item]) -> None:
        """Makes a copy what is stored; `here` says at each moment what it is a copy of."""
        for _ in range(_TRIES):
            items = await self._store.items(pieces.log_prefix(*log))
            whole = {it.position for it in pieces.unbroken(pieces.pieces_of(items, *log))}
            wanted = {
                piece.position: item
                for item in items
                for piece in pieces.pieces_of([item], *log)
                if piece.position in whole
            }
            await in_thread(_clear, directory, wanted)
            for position in here.keys() - wanted.keys():
                del here[position]
            try:
                for position, item in wanted.items():
                    if here.get(position) != item:
                        await self._get(item.key, segment_path(directory, position))
                        here[position] = item
            except FileNotFoundError:
                continue  # it was removed since it was listed
            return
        raise ContentUnavailable

    async def _get(self, key: str, target: Path) -> None:
        draft = target.parent.with_suffix(".draft")
        try:
            await self._store.get(key, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    async def _remove_idle(self) -> None:
        """Removes the copies that were asked for the longest ago, as long as there are too many."""
        now = self._clock.monotonic_seconds()
        for log, copy in list(self._copies.items()):
            has_room = sum(it.size for it in self._copies.values()) <= self._max_bytes
            is_in_use = now - copy.looked < _IN_USE_SECONDS
            if (has_room and len(self._copies) <= _MAX_COPIES) or is_in_use:
                return
            deployment_id, kind = log
            directory = self._logs(deployment_id).of(kind)
            async with self._locks.alone(f"{deployment_id} {kind}"):
                if self._copies.get(log) is copy and copy.looked <= now - _IN_USE_SECONDS:
                    del self._copies[log]
                    await in_thread(shutil.rmtree, directory, ignore_errors=True)


@dataclass(eq=False)
class _Copy:
    looked: float = -math.inf  # when it was all that was stored, on the monotonic clock
    items: dict[int, Item] = field(default_factory=dict)  # what it is a copy of, by their positions

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items.values())


def _clear(directory: Path, wanted: Collection[int]) -> None:
    """Makes the directory; removes the pieces in it that are not wanted any more."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    for position, _ in segments(directory):
        if position not in wanted:
            segment_path(directory, position).unlink(missing_ok=True)
