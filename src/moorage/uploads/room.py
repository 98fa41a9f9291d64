"""Room on disk for uploads whose deployment is not admitted yet: nobody has paid for it so far.

Whoever takes most gives way first. So an attacker who fills the room from few addresses loses what
he took to whoever comes from another, and never keeps him out.
"""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from moorage.errors import NoCapacity, TooManyUploads, UploadDisplaced

_MIB = 1024 * 1024
_RETRY_SECONDS = 30
_PAY_FIRST = (
    "Your uploads take all the room here that uploads get before they are paid for. Send this one "
    "again when others of yours are over, or make it smaller. Wallets that paid once, such as with "
    "POST /agent/credits, have room of their own. A payment that was made still counts."
)


class Uploader(NamedTuple):
    """Whose an upload is: a wallet that paid before, else the client address, as keys are free."""

    key: str
    has_paid: bool


class Arriving(Protocol):
    """A body on its way in."""

    @property
    def is_over(self) -> bool:
        """Whether all of it is there."""
        ...

    @property
    def seconds_left(self) -> float:
        """How much longer the client may keep it waiting: the slower it was, the less."""
        ...

    def displace(self) -> None:
        """Ends it with UploadDisplaced, soon; may be called from any thread."""
        ...


class RoomLimits(msgspec.Struct, frozen=True):
    """Bytes on disk: all of one kind together, and of one uploader."""

    strangers_bytes: int = 1024 * _MIB
    stranger_bytes: int = 341 * _MIB  # a largest upload and the 256 MiB it unpacks to
    paid_bytes: int = 4096 * _MIB
    wallet_bytes: int = 1024 * _MIB


class Allowance:
    """What one upload takes of the room."""

    def __init__(self, room: "SpoolRoom", uploader: Uploader, arriving: Arriving) -> None:
        self.uploader = uploader
        self.arriving = arriving
        self.taken_bytes = 0
        self.is_displaced = False
        self._room = room

    def take(self, count: int) -> None:
        """Before `count` bytes are written. Raises NoCapacity, TooManyUploads, UploadDisplaced."""
        self._room.take(self, count)

    def give_back(self, count: int) -> None:
        """After `count` bytes were removed."""
        self._room.give_back(self, count)

    def close(self) -> None:
        """After all of it was removed. Closing again does nothing."""
        self._room.give_back(self, self.taken_bytes)


class SpoolRoom:
    """The room that all uploads share, in `directory`, of which `reserve_bytes` stay free."""

    def __init__(self, directory: Path, *, limits: RoomLimits, reserve_bytes: int) -> None:
        self._directory = directory
        self._limits = limits
        self._reserve_bytes = reserve_bytes
        self._lock = threading.Lock()  # archives are unpacked in threads
        self._allowances: set[Allowance] = set()  # of which something is taken

    def allowance(self, uploader: Uploader, arriving: Arriving) -> Allowance:
        """For one upload, which closes it."""
        return Allowance(self, uploader, arriving)

    def take(self, allowance: Allowance, count: int) -> None:
        """Counts `count` bytes more, at the cost of larger uploaders if need be.

        Raises NoCapacity where the disk has no more to give, TooManyUploads where nobody but the
        uploader itself could give way, UploadDisplaced where it gave way to others before.
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
        """Counts `count` bytes less."""
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
        """The slowest that still arrives, of whoever has most, and more than the newcomer.

        Where nobody has more, of the newcomer's own uploader.
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
