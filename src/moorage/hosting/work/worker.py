"""The worker: claims jobs, runs a few at a time, and renews their leases."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.loop import until_tick
from moorage.records.deployment import Job, JobPlaces, LostJob
from moorage.storage.apps import jobs
from moorage.storage.database import Database

log = structlog.get_logger()

LEASE_MS = 60_000
RENEW_SECONDS = 15.0
POLL_SECONDS = 2.0
_FIRST_RETRY_MS = 1_000
_RETRY_GROWTH = 4


class _Running(NamedTuple):
    job: Job
    task: "asyncio.Task[None]"


class Worker:
    """Runs jobs in this process."""

    def __init__(
        self,
        *,
        db: Database,
        carry_out: Callable[[Job], Awaitable[None]],
        places: JobPlaces,
        holder: str,
        clock: Clock,
        speed: float = 1.0,
    ) -> None:
        """`holder` is this gateway's id, as in `Leases`; `speed` divides its pauses."""
        self._speed = speed
        self._holder = holder
        self._db = db
        self._carry_out = carry_out
        self._places = places
        self._clock = clock
        self._free = asyncio.Semaphore(places.jobs)
        self._woken = asyncio.Event()
        self._running: dict[str, _Running] = {}

    def wake(self) -> None:
        """Looks for a job now rather than at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Runs jobs until cancelled, whatever errors jobs and the database cause.

        Takes over at once what an earlier process of this gateway had begun.
        """
        try:
            taken_over = False
            while True:
                await self._free.acquire()
                self._woken.clear()
                taken_over = taken_over or await self._take_over()
                if not (taken_over and await self._begin_next()):
                    self._free.release()
                    await self._rest()
        finally:
            await self._stop()

    async def abandon(self, subject_id: str) -> None:
        """Cancels the work on a subject; returns when its task has ended."""
        running = self._running.get(subject_id)
        if running is not None:
            await _cancel([running.task])

    def drop(self, subject_id: str) -> None:
        """Cancels the work on a subject whose job was revoked; does not wait for its end."""
        running = self._running.get(subject_id)
        if running is not None:
            running.task.cancel()

    def works_on(self, subject_id: str) -> bool:
        """Whether a task of this process works on a subject."""
        return subject_id in self._running

    async def drop_lost(self) -> None:
        """Cancels the work on subjects whose jobs other gateways revoked."""
        for running in list(self._running.values()):
            if not await jobs.is_held(self._db, running.job):
                running.task.cancel()

    async def _take_over(self) -> bool:
        """Frees the jobs of an earlier process; returns False if the database is unavailable."""
        try:
            async with self._db.transaction(durable=False) as tx:
                await jobs.expire_leases(tx, self._holder)
        except DatabaseUnavailable:
            return False
        return True

    async def _begin_next(self) -> bool:
        """Begins the next job; returns False if there is none."""
        try:
            job = await self._claim()
        except DatabaseUnavailable:
            return False
        if job is None:
            return False
        # After a step of the clock it may be a job of ours whose lease ran out: only one continues.
        await self.abandon(job.subject_id)
        task = asyncio.create_task(self._work(job), name=f"job {job.subject_id}")
        self._running[job.subject_id] = _Running(job, task)
        task.add_done_callback(lambda _: self._ended(job))
        return True

    async def _rest(self) -> None:
        """Waits until woken, or until the next poll."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(until_tick(POLL_SECONDS / self._speed)):
                await self._woken.wait()

    def _ended(self, job: Job) -> None:
        self._running.pop(job.subject_id, None)
        self._free.release()
        self.wake()

    async def _claim(self) -> Job | None:
        now_ms = self._clock.now_ms()
        if not await jobs.claimable(self._db, now_ms=now_ms, places=self._places):
            return None
        async with self._db.transaction(durable=False) as tx:
            return await jobs.claim(
                tx,
                holder=self._holder,
                now_ms=now_ms,
                until_ms=now_ms + LEASE_MS,
                places=self._places,
            )

    async def _work(self, job: Job) -> None:
        renewal = asyncio.create_task(self._renew(job, asyncio.current_task()))
        try:
            await self._carry_out(job)
        except LostJob:
            log.info("job taken away", kind=job.kind, subject=job.subject_id)
        except Exception:
            log.exception("job failed", kind=job.kind, subject=job.subject_id)
            await self._retry(job)
        finally:
            renewal.cancel()

    async def _retry(self, job: Job) -> None:
        """Schedules the job again, after a longer pause each time; waits for the database."""
        pause_ms = round(_FIRST_RETRY_MS / self._speed) * _RETRY_GROWTH ** (job.attempts - 1)
        while True:
            try:
                async with self._db.transaction(durable=False) as tx:
                    await jobs.retry(tx, job, run_at_ms=self._clock.now_ms() + pause_ms)
            except DatabaseUnavailable:
                await asyncio.sleep(POLL_SECONDS / self._speed)
            else:
                return

    async def _renew(self, job: Job, work: "asyncio.Task[None] | None") -> None:
        """Renews the lease during the work; cancels the work when the lease is lost."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                async with self._db.transaction(durable=False) as tx:
                    held = await jobs.renew(tx, job, until_ms=self._clock.now_ms() + LEASE_MS)
            except DatabaseUnavailable:
                continue
            if not held and work is not None:
                work.cancel()
                return

    async def _stop(self) -> None:
        """Cancels all work and hands its jobs back, so that the next start begins them."""
        running = list(self._running.values())
        await _cancel([item.task for item in running])
        try:
            async with self._db.transaction(durable=False) as tx:
                for item in running:
                    await jobs.hand_back(tx, item.job)
        except DatabaseUnavailable:
            log.warning("jobs not handed back; the next start takes them over")


async def _cancel(tasks: "list[asyncio.Task[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
