"""Who comes next, where more uploads wait to be read than there are processes to read them."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from moorage.uploads.room import Uploader

_MAX_REMEMBERED = 10_000  # uploaders
_OF_STRANGERS = 4  # times as much as of others counts what a stranger used


@dataclass(frozen=True, eq=False)
class Waiting:
    """A job, from when it waits until it has ended."""

    uploader: Uploader
    is_heavy: bool  # it takes seconds, not milliseconds, when it is honest
    turn: "asyncio.Future[None]"  # done when it may begin


class TurnsFull(Exception):
    """As many jobs wait as may, of this uploader or in all."""


class Turns:
    """Gives `places` places out to jobs: to whoever used least so far, in seconds.

    Strangers never have all places, nor do heavy jobs; heavy jobs of strangers leave two free, so
    that a small one of a newcomer finds one. A stranger has one place at a time. In all and for
    each uploader a bounded number waits; where all is full, whoever has most waiting loses its
    newest one.
    """

    def __init__(
        self,
        places: int,
        *,
        max_waiting: int = 256,
        max_of_stranger: int = 8,
        max_of_other: int = 32,
    ) -> None:
        if places < 3:
            raise ValueError("three places at least: see above")
        self._places = places
        self._max_waiting = max_waiting
        self._max_of = {True: max_of_other, False: max_of_stranger}
        self._queue: list[Waiting] = []
        self._running: list[Waiting] = []
        self._used: OrderedDict[str, float] = OrderedDict()  # uploader → seconds, weighted
        self._begun_at = 0.0  # what the last one to begin had used: newcomers start from there

    def begin_now(self, job: Waiting) -> bool:
        """Whether the job has a place from here on, as nobody waits and there is one for it."""
        if self._queue or not self._may_begin(job):
            return False
        self._begin(job)
        return True

    def wait(self, job: Waiting) -> Waiting | None:
        """Takes a job into the queue; gives the one that has to leave it for that, if one does.

        Raises TurnsFull.
        """
        own = sum(1 for other in self._queue if other.uploader.key == job.uploader.key)
        if own >= self._max_of[job.uploader.has_paid]:
            raise TurnsFull
        dropped = None
        if len(self._queue) >= self._max_waiting:
            dropped = self._newest_of_greediest(own)
            self._queue.remove(dropped)
        self._queue.append(job)
        return dropped

    def leave(self, job: Waiting) -> bool:
        """Takes a job that no longer waits out of the queue; False when it has begun already."""
        if job in self._running:
            return False
        if job in self._queue:
            self._queue.remove(job)
        return True

    def next(self) -> Waiting | None:
        """The job to begin now, which has a place from here on; None while none may."""
        able = [job for job in self._queue if self._may_begin(job)]
        if not able:
            return None
        job = min(able, key=lambda job: self._used_by(job.uploader))  # the first of equals
        self._queue.remove(job)
        self._begin(job)
        return job

    def end(self, job: Waiting, cpu_seconds: float) -> None:
        """Takes the place of a job that began back, which used that much."""
        self._running.remove(job)
        weight = 1 if job.uploader.has_paid else _OF_STRANGERS
        self._used[job.uploader.key] = self._used_by(job.uploader) + weight * cpu_seconds
        self._used.move_to_end(job.uploader.key)
        if len(self._used) > _MAX_REMEMBERED:
            self._used.popitem(last=False)

    def _begin(self, job: Waiting) -> None:
        self._running.append(job)
        self._begun_at = self._used_by(job.uploader)

    def _used_by(self, uploader: Uploader) -> float:
        """No less than where newcomers start: who was away for long has saved nothing up."""
        return max(self._begun_at, self._used.get(uploader.key, 0.0))

    def _may_begin(self, job: Waiting) -> bool:
        running = self._running
        free_for_others = (not job.uploader.has_paid) + job.is_heavy
        alike = sum(
            1
            for other in running
            if other.uploader.has_paid <= job.uploader.has_paid and other.is_heavy >= job.is_heavy
        )
        own = sum(1 for other in running if other.uploader.key == job.uploader.key)
        is_own_full = own >= (self._places - 1 if job.uploader.has_paid else 1)
        return (
            len(running) < self._places
            and alike < self._places - free_for_others
            and not is_own_full
        )

    def _newest_of_greediest(self, own: int) -> Waiting:
        counts: dict[str, int] = {}
        for job in self._queue:
            counts[job.uploader.key] = counts.get(job.uploader.key, 0) + 1
        key = max(counts, key=counts.__getitem__)
        if counts[key] <= own + 1:
            raise TurnsFull
        return next(job for job in reversed(self._queue) if job.uploader.key == key)
