"""Limits the disk space of uploads whose deployment is not admitted, and so not paid for, yet.

When it is full, the uploaders with the most bytes lose an upload first. So an attacker who fills it
from a few addresses cannot keep out uploads from other addresses.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from moorage.errors import NoCapacity, TooManyUploads, UploadDisplaced


class UploadLimits(msgspec.Struct, frozen=True):
    """The limits of one request body and of what it unpacks to. Every limit is inclusive."""

    body_bytes: int = 50 * 1024 * 1024
    """The raw JSON body. The contract's “50 MB” is taken as 50 MiB, the larger of two meanings."""

    files: int = 5_000
    """Files of one upload. An archive may hold four times as many entries of any kind."""

    path_length: int = 1_024
    """One path, in UTF-8 bytes."""

    path_depth: int = 64
    """Components of one path, the file's own name included."""

    component_length: int = 255
    """One component of a path, in UTF-8 bytes: the maximum of Linux file systems."""

    unpacked_bytes: int = 256 * 1024 * 1024
    """All files of an archive together, counted while they are inflated."""

    archive_ratio: int = 100
    """Unpacked bytes per packed byte, per file and in total; 1 MiB is always allowed."""

    skeleton_bytes: int = 1024 * 1024
    """The body without file contents: names, settings, punctuation."""

    nesting_depth: int = 32
    """Objects and arrays inside one another."""

    containers: int = 20_000
    """Objects and arrays in all: four times `files`, each of which is one object."""

    memory_bytes: int = 256 * 1024
    """Contents held in memory, all files together; what does not fit is spooled to disk."""


_MIB = 1024 * 1024
_RETRY_SECONDS = 30
_PAY_FIRST = (
    "Your uploads take all the room here that uploads get before they are paid for. Send this one "
    "again when others of yours are over, or make it smaller. Wallets that paid once, such as with "
    "POST /agent/credits, have room of their own. A payment that was made still counts."
)


class Uploader(NamedTuple):
    """Who uploads: a wallet that has paid before, else the client address, as keys are free."""

    key: str
    has_paid: bool


class Arriving(Protocol):
    """A body that is being received."""

    @property
    def is_over(self) -> bool:
        """Whether all of it has arrived."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer the client may take: less for a slower one."""
        ...

    def displace(self) -> None:
        """Makes it end soon with UploadDisplaced; may be called from any thread."""
        ...


class RoomLimits(msgspec.Struct, frozen=True):
    """Bytes on disk: for strangers and for wallets that paid, of all together and of each one."""

    strangers_bytes: int = 1024 * _MIB
    stranger_bytes: int = 341 * _MIB  # the largest upload, and the 256 MiB that it unpacks to
    paid_bytes: int = 4096 * _MIB
    wallet_bytes: int = 1024 * _MIB


class Allowance:
    """The disk space that one upload takes of a `SpoolRoom`."""

    def __init__(self, room: "SpoolRoom", uploader: Uploader, arriving: Arriving) -> None:
        self.uploader = uploader
        self.arriving = arriving
        self.taken_bytes = 0
        self.is_displaced = False
        self._room = room

    def take(self, count: int) -> None:
        """Reserves `count` bytes before they are written. Raises as `SpoolRoom.take` does."""
        self._room.take(self, count)

    def give_back(self, count: int) -> None:
        """Gives back `count` bytes after they were removed."""
        self._room.give_back(self, count)

    def close(self) -> None:
        """Gives back everything, after it was removed. Closing again does nothing."""
        self._room.give_back(self, self.taken_bytes)


class SpoolRoom:
    """The disk space that all uploads share in `directory`; leaves `reserve_bytes` of it free."""

    def __init__(self, directory: Path, *, limits: RoomLimits, reserve_bytes: int) -> None:
        self._directory = directory
        self._limits = limits
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()  # archives are unpacked in threads
        self._allowances: set[Allowance] = set()  # those that have taken something

    def allowance(self, uploader: Uploader, arriving: Arriving) -> Allowance:
        """Returns an allowance for one upload, which closes it."""
        return Allowance(self, uploader, arriving)

    def take(self, allowance: Allowance, count: int) -> None:
        """Adds `count` bytes to an allowance, and displaces larger uploaders if there is no room.

        Raises NoCapacity when the disk is full, TooManyUploads when there is nobody to displace,
        and UploadDisplaced when this upload was displaced before.
        """
        with self._lock:
            if allowance.is_displaced:
                raise UploadDisplaced
            if shutil.disk_usage(self._directory).free - count < self._reserve_bytes:
                raise NoCapacity
            self._make_room(allowance, count)
            allowance.taken_bytes += count
            self._allowances.add(allowance)

    def give_back(self, allowance: Allowance, count: int) -> None:
        """Subtracts `count` bytes from an allowance."""
        with self._lock:
            allowance.taken_bytes -= count
            if allowance.taken_bytes <= 0:
                self._allowances.discard(allowance)

    def _make_room(self, allowance: Allowance, count: int) -> None:
        limits, has_paid = self._limits, allowance.uploader.has_paid
        of_one = limits.wallet_bytes if has_paid else limits.stranger_bytes
        of_all = limits.paid_bytes if has_paid else limits.strangers_bytes
        held = self._held(has_paid=has_paid)
        while held[allowance.uploader] + count > of_one or held.total() + count > of_all:
            is_own_limit = held[allowance.uploader] + count > of_one
            victim = self._slowest(allowance, held, own_alone=is_own_limit)
            if victim is None:
                raise TooManyUploads(_RETRY_SECONDS, _PAY_FIRST)
            held[victim.uploader] -= victim.taken_bytes
            victim.is_displaced = True
            self._allowances.discard(victim)
            victim.arriving.displace()

    def _held(self, *, has_paid: bool) -> Counter[Uploader]:
        held: Counter[Uploader] = Counter()
        for allowance in self._allowances:
            if allowance.uploader.has_paid == has_paid:
                held[allowance.uploader] += allowance.taken_bytes
        return held

    def _slowest(
        self, newcomer: Allowance, held: Counter[Uploader], *, own_alone: bool
    ) -> Allowance | None:
        """Returns the slowest upload that still arrives, of the uploader with the most bytes.

        It considers uploaders with more bytes than the newcomer's, unless `own_alone`, and then the
        newcomer's own.
        """
        larger = () if own_alone else _larger(held, than=held[newcomer.uploader])
        for uploader in (*larger, newcomer.uploader):
            arriving = [
                each
                for each in self._allowances
                if each.uploader == uploader and each is not newcomer and not each.arriving.is_over
            ]
            if arriving:
                return min(arriving, key=lambda each: each.arriving.seconds_left)
        return None


def _larger(held: Counter[Uploader], *, than: int) -> Iterator[Uploader]:
    return (uploader for uploader, taken_bytes in held.most_common() if taken_bytes > than)
