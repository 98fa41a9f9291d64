"""The logs of a project's deployments, read as one: pages of it, and places between its lines."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from heapq import merge

import msgspec

from moorage.api.logs.deployment_logs import is_complete
from moorage.api.logs.log_stream import log_item
from moorage.engines.engine import Cursor, EngineView, LogLine, LogPage
from moorage.records.deployment import LogKind, Summary
from moorage.storage.apps import deployments
from moorage.storage.database import Database
from moorage.wire.logs import ProjectLogItem

_MAX_DEPLOYMENTS = 20
_MAX_CHARS = 1024 * 1024  # about; what one deployment adds is at most as much
_LISTED_SECONDS = 1.0  # how long a list of the deployments is used
_PLACE = re.compile(r"(\d{1,15})((?:-[0-9a-f]{12}\.\d{1,18}){0,20})", re.ASCII)

Line = tuple[str, LogLine]
"""A line, and the id of the deployment that wrote it."""


class Place(msgspec.Struct, frozen=True):
    """How far each deployment's log is read; of others, lines since a time are still to come."""

    since_ms: int = 0
    cursors: Mapping[str, Cursor] = msgspec.field(default_factory=dict)  # by `_key`

    @classmethod
    def read(cls, text: str) -> "Place | None":
        """Reads what `text` gives; None for anything else."""
        found = _PLACE.fullmatch(text)
        if found is None:
            return None
        pairs = (each.split(".") for each in found[2].split("-")[1:])
        return cls(int(found[1]), {key: int(cursor) for key, cursor in pairs})

    @property
    def text(self) -> str:
        """The place as clients see it."""
        return "-".join([str(self.since_ms), *(f"{k}.{c}" for k, c in self.cursors.items())])

    def behind(self, cursors: Mapping[str, Cursor]) -> "Place":
        """Returns the place with these deployments read further, by their ids."""
        moved = {_key(deployment_id): cursor for deployment_id, cursor in cursors.items()}
        return Place(self.since_ms, {**self.cursors, **moved})


class Part(msgspec.Struct, frozen=True):
    """Lines in order, and the places before and behind them."""

    start: Place
    lines: Sequence[Line]
    end: Place

    def first(self, limit: int) -> "Part":
        """Returns its first lines, with the place behind them."""
        if len(self.lines) <= limit:
            return self
        kept = self.lines[:limit]
        return Part(self.start, kept, self.start.behind({of: line.cursor for of, line in kept}))

    def items(self) -> Iterator[tuple[Place, ProjectLogItem]]:
        """Yields each line as the contract has it, with the place behind it."""
        place = self.start
        for deployment_id, line in self.lines:
            place = place.behind({deployment_id: line.cursor})
            item = log_item(line)
            yield (
                place,
                ProjectLogItem(
                    deployment_id=deployment_id, time=item.time, stream=item.stream, text=item.text
                ),
            )


class MergedLog:
    """Reads the newest deployments of a project whose logs are kept.

    Lines of one deployment keep their order. Those of several are ordered by their times within a
    part; what two write at the same moment may come in two parts.
    """

    def __init__(self, db: Database, engine: EngineView, project_id: str, kind: LogKind) -> None:
        self.kind = kind
        self._db = db
        self._engine = engine
        self._project_id = project_id
        self._listed: list[Summary] = []  # newest first
        self._listed_at = time.monotonic() - _LISTED_SECONDS
        self._over: set[str] = set()  # deployments that write no more
        self._complete: set[str] = set()  # of which everything is read as well

    async def last(self, tail: int, place: Place, since_ms: int = 0) -> Part:
        """Returns the last `tail` lines by time that are behind a place, and not before a time."""
        pages: dict[str, LogPage] = {}
        chars = 0
        listed = await self._deployments()
        place = self._still_kept(place)
        for each in listed:
            is_full = chars > _MAX_CHARS
            asked = 1 if is_full else tail
            page = await self._read(each.id, place, since_ms, tail=asked, limit=asked)
            pages[each.id] = LogPage(lines=(), next=page.next) if is_full else page
            chars += _chars(page)
        merged = _merged(pages)
        older, kept = merged[:-tail], merged[-tail:]
        start = {of: page.next for of, page in pages.items() if not page.lines}
        start |= {of: line.cursor for of, line in older}
        return Part(place.behind(start), kept, place.behind(_ends(pages)))

    async def behind(self, place: Place, limit: int, since_ms: int = 0) -> Part:
        """Returns at most `limit` lines behind a place, none of them before a time."""
        pages: dict[str, LogPage] = {}
        chars = lines = 0
        listed = await self._deployments()
        place = self._still_kept(place)
        for each in reversed(listed):
            page = await self._read(each.id, place, since_ms, limit=limit)
            pages[each.id] = page
            lines, chars = lines + len(page.lines), chars + _chars(page)
            if lines >= limit or chars > _MAX_CHARS:
                break
            if not page.lines:
                await self._note_quiet(each)
        return Part(place, _merged(pages), place.behind(_ends(pages))).first(limit)

    async def _deployments(self) -> list[Summary]:
        """Returns those of which there is something to read, newest first."""
        now = time.monotonic()
        if now - self._listed_at >= _LISTED_SECONDS:
            newest = await deployments.release_page(
                self._db, project_id=self._project_id, before=None, limit=_MAX_DEPLOYMENTS
            )
            self._listed, self._listed_at = [each for each in newest or () if each.is_kept], now
        return [each for each in self._listed if each.id not in self._complete]

    def _still_kept(self, place: Place) -> Place:
        """Returns the place without deployments whose logs are gone, so that it stays short."""
        keys = {_key(each.id) for each in self._listed}
        cursors = {key: cursor for key, cursor in place.cursors.items() if key in keys}
        return Place(place.since_ms, cursors)

    async def _note_quiet(self, quiet: Summary) -> None:
        """Notes that nothing came; what came to its end before that is not read again."""
        if quiet.id in self._over:
            self._complete.add(quiet.id)
        elif await is_complete(self._engine, quiet.id, quiet.status, self.kind):
            self._over.add(quiet.id)

    async def _read(
        self,
        deployment_id: str,
        place: Place,
        since_ms: int,
        *,
        tail: int | None = None,
        limit: int,
    ) -> LogPage:
        cursor = place.cursors.get(_key(deployment_id))
        return await self._engine.read_log(
            deployment_id,
            self.kind,
            after=cursor or 0,
            since_ms=max(since_ms, place.since_ms if cursor is None else 0),
            tail=tail,
            limit=limit,
        )


def _key(deployment_id: str) -> str:
    """Returns what tells the deployments of a project apart: 48 bits of a random id."""
    return deployment_id.replace("-", "")[:12]


def _chars(page: LogPage) -> int:
    return sum(len(line.text) for line in page.lines)


def _merged(pages: Mapping[str, LogPage]) -> list[Line]:
    """Returns all lines by time; those of one deployment in their order, whatever clocks did."""
    logs = ([(of, line) for line in page.lines] for of, page in pages.items())
    return list(merge(*logs, key=lambda each: each[1].at_ms))


def _ends(pages: Mapping[str, LogPage]) -> dict[str, Cursor]:
    return {of: page.next for of, page in pages.items()}
