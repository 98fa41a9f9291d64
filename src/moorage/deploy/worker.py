"""The worker: claims jobs, keeps their leases, runs them, a few at a time."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from moorage.clock import Clock
from moorage.deploy.job import Job
from moorage.deploy.workflow import LostJob
from moorage.storage import jobs
from moorage.storage.database import Database

log = structlog.get_logger()

LEASE_MS = 60_000
RENEW_SECONDS = 15.0
POLL_SECONDS = 2.0


class Worker:
    """Runs jobs in this process. `wake` says that there is one."""

    def __init__(
        self,
        *,
        db: Database,
        carry_out: Callable[[Job], Awaitable[None]],
        concurrency: int,
        clock: Clock,
    ) -> None:
        self._db = db
        self._carry_out = carry_out
        self._clock = clock
        self._free = asyncio.Semaphore(concurrency)
        self._woken = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look for a job now rather than at the next poll."""
        self._woken.set()

    async def run(self, *, exclusive: bool) -> None:
        """Work until cancelled. With `exclusive`, no other process has jobs: take over at once."""
        if exclusive:
            async with self._db.transaction(durable=False) as tx:
                await jobs.expire_leases(tx)
        try:
            while True:
                await self._free.acquire()
                await self._next()
        finally:
            await self._cancel(list(self._running.values()))

    async def abandon(self, subject_id: str) -> None:
        """Stop working on a subject; returns when its task has ended."""
        task = self._running.get(subject_id)
        if task is not None:
            await self._cancel([task])

    async def _next(self) -> None:
        """Start the next job, or wait for one; holds one of the free places."""
        self._woken.clear()
        job = await self._claim()
        if job is None:
            self._free.release()
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                pass
            return
        task = asyncio.create_task(self._work(job), name=f"job {job.subject_id}")
        self._running[job.subject_id] = task
        task.add_done_callback(lambda _: self._ended(job))

    def _ended(self, job: Job) -> None:
        self._running.pop(job.subject_id, None)
        self._free.release()
        self.wake()

    async def _claim(self) -> Job | None:
        now_ms = self._clock.now_ms()
        if not await jobs.claimable(self._db, now_ms=now_ms):
            return None
        async with self._db.transaction(durable=False) as tx:
            return await jobs.claim(tx, now_ms=now_ms, until_ms=now_ms + LEASE_MS)

    async def _work(self, job: Job) -> None:
        renewal = asyncio.create_task(self._renew(job, asyncio.current_task()))
        try:
            await self._carry_out(job)
        except LostJob:
            log.info("job taken away", kind=job.kind, subject=job.subject_id)
        except Exception:
            log.exception("job failed", kind=job.kind, subject=job.subject_id)
        finally:
            renewal.cancel()

    async def _renew(self, job: Job, work: "asyncio.Task[None] | None") -> None:
        """Keep the lease while the work goes on; end the work when the lease is lost."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            async with self._db.transaction(durable=False) as tx:
                held = await jobs.renew(tx, job, until_ms=self._clock.now_ms() + LEASE_MS)
            if not held and work is not None:
                work.cancel()
                return

    @staticmethod
    async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
