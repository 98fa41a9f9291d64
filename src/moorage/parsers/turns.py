"""Decides which job is next when more uploads wait than there are processes."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from moorage.uploads.room import Uploader

_MAX_REMEMBERED = 10_000  # uploaders
_OF_STRANGERS = 4  # weight of the seconds that a stranger used; those of others count once


@dataclass(frozen=True, eq=False)
class Waiting:
    """A job that waits or runs."""

    uploader: Uploader
    is_heavy: bool  # whether an honest one takes seconds, not milliseconds
    turn: "asyncio.Future[None]"  # done when the job may begin


class TurnsFull(Exception):
    """The maximum number of jobs waits already, of this uploader or in all."""


class Turns:
    """Gives `places` places to jobs, first to the uploader that has used the fewest seconds.

    Strangers never have all places, nor do heavy jobs. Heavy jobs of strangers leave two free, so
    that there is one for a small job of a newcomer. A stranger has one place at a time. The number
    of waiting jobs is limited, in all and for each uploader; when it is reached in all, the
    uploader with the most waiting jobs loses its newest.
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
        self._begun_at = 0.0  # what the uploader of the last job to begin had used: see `_used_by`

    def begin_now(self, job: Waiting) -> bool:
        """Gives the job a place if nobody waits and it may begin; returns whether it did."""
        if self._queue or not self._may_begin(job):
            return False
        self._begin(job)
        return True

    def wait(self, job: Waiting) -> Waiting | None:
        """Queues a job; returns the one that was dropped from the full queue for it, if any.

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
        """Removes a job from the queue, if it is there; returns False when it has begun already."""
        if job in self._running:
            return False
        if job in self._queue:
            self._queue.remove(job)
        return True

    def next(self) -> Waiting | None:
        """Gives a place to the next job and returns it; None when no job may begin."""
        able = self._able()
        if not able:
            return None
        job = min(able, key=lambda job: self._used_by(job.uploader))  # of equals, the first
        self._queue.remove(job)
        self._begin(job)
        return job

    def end(self, job: Waiting, cpu_seconds: float) -> None:
        """Frees the place of a job, and adds what it used to its uploader's seconds."""
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
        """Returns the seconds used, but at least as many as newcomers start with.

        So an uploader that was away for long has no advantage over others.
        """
        return max(self._begun_at, self._used.get(uploader.key, 0.0))

    def _able(self) -> list[Waiting]:
        """Returns the jobs that may begin; of jobs alike the first is asked for all of them."""
        may_begin: dict[tuple[Uploader, bool], bool] = {}
        for job in self._queue:
            kind = job.uploader, job.is_heavy
            if kind not in may_begin:
                may_begin[kind] = self._may_begin(job)
        return [job for job in self._queue if may_begin[job.uploader, job.is_heavy]]

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
