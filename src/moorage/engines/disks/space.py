"""Keeps apps from filling the machine's disk, on which their disks are sparse files.

It checks the free space more often the closer it is to the reserve, and takes the speed of writers
into account. It kills what grows most, by SIGKILL, and keeps it from starting until its disk fits.
It runs in a thread with the highest priority on the machine, so that nothing delays it.
"""

import contextlib
import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from moorage.clock import Clock
from moorage.engines.disks.caches import downloads_mount
from moorage.engines.disks.disk import (
    DOWNLOADS_IMAGE,
    IMAGE,
    free_bytes,
    growth_bytes,
    taken_bytes,
)
from moorage.engines.host.cgroup import Cgroups

MIB = 1024 * 1024
FASTEST_BYTES_PER_SECOND = 4096 * MIB
"""An upper bound for the speed at which all apps of a machine write together."""

WINDOW_SECONDS = 10.0
REACTION_SECONDS = 0.25
"""How long a writer continues at its speed, from the last check until it has been killed."""

_MAX_PAUSE_SECONDS = 1.0
_QUIET_PAUSE_SECONDS = 0.05  # the minimum while nothing grows
_MIN_PAUSE_SECONDS = 0.005
_SAMPLE_SECONDS = 0.25
# The minimum growth within the window to be killed: while more than 1/2 of the reserve is left,
# more than 1/4, more than 1/8; then _ANY.
_MIN_GROWTH = ((2, 16 * MIB), (4, 4 * MIB), (8, MIB))
_ANY = 64 * 1024
_SHARE_OF_LARGEST = 4  # writers with at least a quarter of the largest growth are killed too

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Writer:
    """An app or a build, and the growth of its disk."""

    deployment_id: str
    group: str
    is_build: bool
    started_ns: int
    growth_bytes: int  # within the last WINDOW_SECONDS
    owed_bytes: int  # written to its disk, but not yet to the machine's
    rush_bytes: int  # that it will write, at its speed, before it can be killed


def victims(writers: Collection[Writer], *, left_bytes: int, reserve_bytes: int) -> list[Writer]:
    """Returns the writers to kill: those that grow most, builds first, then the newest.

    Returns none while the reserve is not in danger. The less space is left, the less growth counts.
    """
    if left_bytes - sum(writer.rush_bytes for writer in writers) >= reserve_bytes:
        return []
    min_growth = next((it for part, it in _MIN_GROWTH if left_bytes * part > reserve_bytes), _ANY)
    growing = [writer for writer in writers if writer.growth_bytes >= min_growth]
    largest = max((writer.growth_bytes for writer in growing), default=0)
    chosen = [each for each in growing if each.growth_bytes * _SHARE_OF_LARGEST >= largest]
    return sorted(chosen, key=_urgency, reverse=True)


def _urgency(writer: Writer) -> tuple[int, bool, int]:
    """Returns the sort key. Growth counts in powers of two, so that similar ones are equal."""
    return writer.growth_bytes.bit_length(), writer.is_build, writer.started_ns


def pause_seconds(spare_bytes: int, *, quiet: bool, looking_seconds: float) -> float:
    """Returns the seconds until the next check; `spare_bytes` are free above the reserve.

    `quiet` means that nothing grows. The pause is at least as long as the last check took.
    """
    min_pause = _QUIET_PAUSE_SECONDS if quiet else _MIN_PAUSE_SECONDS
    pause = min(max(spare_bytes / FASTEST_BYTES_PER_SECOND, min_pause), _MAX_PAUSE_SECONDS)
    return max(pause, looking_seconds)


@dataclass(kw_only=True)
class Space:
    """Watches one gateway's disks. Calls `on_killed` with the id of each killed deployment."""

    cgroups: Cgroups
    deployments: Path
    mount_points: Path
    reserve_bytes: int
    clock: Clock
    on_killed: Callable[[str], None]
    held: frozenset[str] = frozenset()
    """Deployments that were killed and must not be started until their disks fit."""

    _histories: dict[str, "_History"] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def begin(self) -> None:
        """Starts watching, until `end`."""
        self._over.clear()
        self._thread = threading.Thread(target=self._watch, name="disk space", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stops watching; returns when the last check is over."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def check(self) -> float:
        """Checks once, and kills writers if needed; returns the seconds until the next check."""
        begun = self.clock.monotonic_seconds()
        free = free_bytes(self.deployments)
        spare = free - self.reserve_bytes - unwritten_bytes()
        self.held = frozenset(name for name in self.held if not self._fits(name, spare))
        if spare > FASTEST_BYTES_PER_SECOND:
            self._histories.clear()
            return _MAX_PAUSE_SECONDS
        writers = self._writers(begun)
        left = free - sum(writer.owed_bytes for writer in writers)
        going_on = [writer for writer in writers if writer.deployment_id not in self.held]
        chosen = victims(going_on, left_bytes=left, reserve_bytes=self.reserve_bytes)
        if chosen:
            self._end(chosen, left)
            self._histories.clear()  # from now on, only what the others write next counts
        return pause_seconds(
            left - self.reserve_bytes,
            quiet=not any(writer.rush_bytes for writer in going_on),
            looking_seconds=self.clock.monotonic_seconds() - begun,
        )

    def _watch(self) -> None:
        _raise_priority()
        pause = 0.0
        while not self._over.wait(pause):
            try:
                pause = self.check()
            except Exception:  # one error must not end the watch
                logger.exception("the disk could not be checked")
                pause = _MIN_PAUSE_SECONDS

    def _end(self, chosen: Sequence[Writer], left: int) -> None:
        """Kills writers by SIGKILL, as with SIGTERM they would write on for a while."""
        self.held |= {writer.deployment_id for writer in chosen}
        for writer in chosen:
            self.cgroups.kill_soon(writer.group)
        for writer in chosen:
            logger.warning(
                "%s is ended: it wrote %d MiB while %d MiB are left of the disk",
                writer.deployment_id,
                writer.growth_bytes // MIB,
                left // MIB,
            )
            self.on_killed(writer.deployment_id)

    def _fits(self, deployment_id: str, spare: int) -> bool:
        """Returns whether a disk can grow to its full size within `spare` bytes."""
        try:
            growth = growth_bytes(f"{self.deployments}/{deployment_id}/{IMAGE}")
        except OSError:  # it is gone
            return True
        return spare >= growth

    def _writers(self, now: float) -> list[Writer]:
        found = [writer for it in self.cgroups.names() if (writer := self._writer(it, now))]
        running = {writer.deployment_id for writer in found}
        self._histories = {k: v for k, v in self._histories.items() if k in running}
        return found

    def _downloads(self, deployment_id: str) -> tuple[int, int, int]:
        """Returns what a build's disk for downloads takes, can grow, and holds; zeros without."""
        image = f"{self.deployments}/{deployment_id}/{DOWNLOADS_IMAGE}"
        mount_point = self.mount_points / downloads_mount(deployment_id)
        try:
            return taken_bytes(image), growth_bytes(image), _used_bytes(mount_point)
        except FileNotFoundError:
            return 0, 0, 0

    def _writer(self, group: str, now: float) -> Writer | None:
        """Returns the app or build in a control group; None for other groups, or if it is gone."""
        kind, _, deployment_id = group.rpartition("/")[2].partition("-")
        if kind not in ("app", "build"):
            return None
        image = f"{self.deployments}/{deployment_id}/{IMAGE}"
        try:
            taken, room = taken_bytes(image), growth_bytes(image)
            used = _used_bytes(self.mount_points / deployment_id)
            if kind == "build":
                of_downloads = self._downloads(deployment_id)
                taken, room, used = (
                    sum(pair) for pair in zip((taken, room, used), of_downloads, strict=True)
                )
            unwritten = self.cgroups.unwritten_bytes(group)
            started_ns = self.cgroups.created_ns(group)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENOTDIR):
                return None
            raise
        history = self._histories.setdefault(deployment_id, _History())
        owed = min(room, max(used - taken, unwritten))
        growth = history.growth(max(taken, used), now)
        return Writer(
            deployment_id=deployment_id,
            group=group,
            is_build=kind == "build",
            started_ns=started_ns,
            growth_bytes=growth,
            owed_bytes=owed,
            rush_bytes=min(room - owed, round(history.pace * REACTION_SECONDS)),
        )


class _History:
    """The recent disk usage of one writer."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()
        self._last: tuple[float, int] | None = None
        self.pace = 0.0
        """Bytes per second, between the last two checks."""

    def growth(self, taken: int, now: float) -> int:
        """Adds a sample of the usage; returns its growth within the window, in bytes."""
        if self._last is not None and now > self._last[0]:
            self.pace = max(0, taken - self._last[1]) / (now - self._last[0])
        self._last = (now, taken)
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW_SECONDS:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, taken))
        return max(0, taken - self._samples[0][1])


def _raise_priority() -> None:
    """Gives this thread the highest priority that the kernel allows."""
    thread = threading.get_native_id()
    try:
        os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
    except OSError:  # the control group may not allow real-time scheduling
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, -20)


def _used_bytes(mount_point: Path) -> int:
    """Returns the used bytes of a mounted disk, with those that are only in memory yet."""
    status = os.statvfs(mount_point)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def unwritten_bytes() -> int:
    """Returns the bytes that the whole machine still has to write from memory to disk."""
    total = 0
    with contextlib.suppress(OSError), Path("/proc/meminfo").open() as lines:
        for line in lines:
            name, _, rest = line.partition(":")
            if name in ("Dirty", "Writeback"):
                total += int(rest.split()[0]) * 1024
    return total
