"""The `Parser` for `read_upload` that parses one uploader's uploads in the pool."""

import os

from moorage.errors import InvalidField
from moorage.parsers.job import (
    ArchiveUnpacked,
    BodyDescribed,
    CheckVolume,
    Describe,
    Refusal,
    Unpack,
    error_of,
)
from moorage.parsers.pool import ParserFault, ParserPool
from moorage.uploads.parsing import Described, Skeleton, describe
from moorage.uploads.room import Uploader, UploadLimits
from moorage.uploads.spool import Content, SpoolFile
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
