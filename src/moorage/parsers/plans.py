"""Uploads read and planned by the pool of parsers; plans have a cache.

The same files, settings and tools have the same plan.
"""

import asyncio
import hashlib
import os
from collections import OrderedDict
from weakref import WeakValueDictionary

import msgspec

from moorage.errors import InvalidField
from moorage.parsers.job import (
    ArchiveUnpacked,
    BodyDescribed,
    CheckVolume,
    Describe,
    MakePlan,
    PlanMade,
    Refusal,
    Unpack,
    error_of,
)
from moorage.parsers.pool import ParserFault, ParserPool
from moorage.planning.plan import Settings
from moorage.planning.toolbox import Toolbox
from moorage.uploads.reader import Upload
from moorage.uploads.request import Described, Skeleton, describe
from moorage.uploads.room import Content, SpoolFile, Uploader, UploadLimits
from moorage.uploads.unpacking import Unpacked

IN_PLACE_BYTES = 16 * 1024
"""A skeleton of at most this size is parsed in the event loop: it takes milliseconds at worst."""


class UploadParser:
    """See `Parser`; also raises PlanTooCostly and PlannersBusy."""

    def __init__(self, pool: ParserPool, uploader: Uploader) -> None:
        self._pool = pool
        self._uploader = uploader

    async def describe(self, skeleton: Skeleton, limits: UploadLimits) -> Described:
        """Returns the parsed body."""
        if len(skeleton.text) <= IN_PLACE_BYTES:
            return describe(skeleton, limits)
        job = Describe(skeleton.text, skeleton.damaged, limits)
        found = (await self._pool.do(job, (), self._uploader)).outcome
        if not isinstance(found, BodyDescribed):
            raise ParserFault(repr(found))
        for path in found.paths or ():
            if path is not None:
                _check_below(path)
        asked = found.request or _refused(found.refusal)
        return Described(
            found.paths, found.archive_name, asked, found.stored, found.misplaced, found.export
        )

    async def unpack(
        self, archive: Content, into: SpoolFile, limits: UploadLimits, *, is_tree: bool = False
    ) -> list[Unpacked]:
        """Writes the archive's files into `into` and lists them."""
        is_heavy = archive.file is not None
        job = Unpack(None if archive.file is not None else archive.data, limits, is_tree)
        descriptors = [into.opened(os.O_WRONLY)]
        if archive.file is not None:
            descriptors.insert(0, archive.file.opened(os.O_RDONLY))
        answer = await self._pool.do(job, descriptors, self._uploader, is_heavy=is_heavy)
        if not isinstance(answer.outcome, ArchiveUnpacked):
            raise ParserFault(repr(answer.outcome))
        length = into.measured()
        for file in answer.outcome.files:
            _check_below(file.path)
            if not 0 <= file.offset <= file.offset + file.size <= length:
                raise ParserFault(f"{file.path} is not where it should be")
        return answer.outcome.files

    async def check_volume(self, descriptor: int, *, offset: int, max_bytes: int) -> None:
        """Checks the volume of an export."""
        job = CheckVolume(offset, max_bytes)
        answer = await self._pool.do(job, [descriptor], self._uploader, is_heavy=True)
        if not isinstance(answer.outcome, ArchiveUnpacked):
            raise ParserFault(repr(answer.outcome))


def _refused(refusal: Refusal | None) -> InvalidField:
    error = error_of(refusal) if refusal is not None else None
    if not isinstance(error, InvalidField):
        raise ParserFault("neither a request nor a refusal")
    return error


def _check_below(path: str) -> None:
    """Raises ParserFault for a path out of the upload's folder.

    An honest parser has refused such paths; this guards against one that an upload has taken over.
    """
    if not path or path.startswith("/") or "/../" in f"/{path}/" or "\0" in path:
        raise ParserFault(f"an unsafe path: {path!r}")


_MAX_KEPT = 1_000
_MAX_KEPT_BYTES = 16 * 1024 * 1024


class Plans:
    """Makes plans, and caches those used last, up to a number and a size."""

    def __init__(
        self, pool: ParserPool, *, max_kept: int = _MAX_KEPT, max_kept_bytes: int = _MAX_KEPT_BYTES
    ) -> None:
        self._pool = pool
        self._max_kept = max_kept
        self._max_kept_bytes = max_kept_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()  # digest → PlanMade, as MessagePack
        self._kept_bytes = 0
        self._turns: WeakValueDictionary[tuple[bytes, str], asyncio.Lock] = WeakValueDictionary()
        self._toolbox: Toolbox | None = None
        self._toolbox_digest = b""

    async def plan(
        self,
        upload: Upload,
        tree_digest: str,
        settings: Settings,
        toolbox: Toolbox,
        uploader: Uploader,
    ) -> PlanMade:
        """Returns the plan and the findings for an upload whose files have this digest.

        An uploader's requests for one plan wait for the first of them. Raises as `make_plan` does,
        PlanTooCostly and PlannersBusy.
        """
        if toolbox is not self._toolbox:
            self._toolbox = toolbox
            self._toolbox_digest = _digest(toolbox)
        key = hashlib.sha256(
            tree_digest.encode() + _digest(settings) + self._toolbox_digest
        ).digest()
        async with self._turns.setdefault((key, uploader.key), asyncio.Lock()):
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return _PLANS.decode(kept)
            job, descriptors = _job(upload, settings, toolbox)
            made = (await self._pool.do(job, descriptors, uploader)).outcome
            if not isinstance(made, PlanMade):
                raise ParserFault(repr(made))
            plan = msgspec.msgpack.encode(made)
            self._kept_bytes += len(plan) - len(self._kept.pop(key, b""))
            self._kept[key] = plan
            while len(self._kept) > self._max_kept or self._kept_bytes > self._max_kept_bytes:
                _, dropped = self._kept.popitem(last=False)
                self._kept_bytes -= len(dropped)
            return made


_PLANS = msgspec.msgpack.Decoder(PlanMade)


def _digest(value: Settings | Toolbox) -> bytes:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).digest()


def _job(upload: Upload, settings: Settings, toolbox: Toolbox) -> tuple[MakePlan, list[int]]:
    """Returns the job and its descriptors: contents in memory are sent, those on disk opened."""
    contents = [upload.content(path) for path in upload.paths]
    offsets: list[int] = []
    held: list[bytes] = []
    descriptors: list[int] = []
    at = 0
    for content in contents:
        if content.file is not None:
            offsets.append(content.offset)
            if not descriptors:
                descriptors.append(content.file.opened(os.O_RDONLY))
        else:
            offsets.append(-1 - at)
            held.append(content.data)
            at += content.size
    job = MakePlan(
        settings=settings,
        toolbox=toolbox,
        paths=list(upload.paths),
        sizes=[content.size for content in contents],
        offsets=offsets,
        data=b"".join(held),
    )
    return job, descriptors
