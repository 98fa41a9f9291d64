"""Parses uploads where no parser process is needed: in the test's own."""

import os
from io import BytesIO

from moorage.uploads.request import Described, Skeleton, describe
from moorage.uploads.room import Content, SpoolFile, UploadLimits
from moorage.uploads.unpacking import Unpacked, check_volume, unpack, unpack_tree


class InPlace:
    """A parser in this process, which it blocks meanwhile."""

    async def describe(self, skeleton: Skeleton, limits: UploadLimits) -> Described:
        """See `Parser`."""
        return describe(skeleton, limits)

    async def unpack(
        self, archive: Content, into: SpoolFile, limits: UploadLimits, *, is_tree: bool = False
    ) -> list[Unpacked]:
        """See `Parser`."""
        unpacked = unpack_tree if is_tree else unpack
        if archive.file is None:
            return unpacked(BytesIO(archive.data), into.append, limits)
        with os.fdopen(archive.file.opened(os.O_RDONLY), "rb") as file:
            return unpacked(file, into.append, limits)

    async def check_volume(self, descriptor: int, *, offset: int, max_bytes: int) -> None:
        """See `Parser`."""
        with os.fdopen(descriptor, "rb") as file:
            check_volume(file, offset=offset, max_bytes=max_bytes)
