"""A pool of parser processes that do jobs in turn; one is started in advance, others as needed."""

import asyncio
import os
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from moorage.errors import ConfigurationInvalid, PlannersBusy, PlanTooCostly
from moorage.metrics import record_parser_end
from moorage.parsers.job import (
    Answer,
    DiskFailed,
    Faulted,
    Job,
    MakePlan,
    Order,
    RanOut,
    Refusal,
    Unpack,
    error_of,
)
from moorage.parsers.process import ParserEnded, ParserProcess
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


log = structlog.get_logger()

_PROCESSES = 3  # of some 30 MiB each; `Turns` needs three
_MAX_WAIT_SECONDS = 30.0
_SLACK_SECONDS = 5.0  # after a process should have ended
_AGAIN_SECONDS = 5.0  # until the next try, after a process could not be started
_TRIES = 2  # of a job whose process ended for another reason than its limits


class Budget(msgspec.Struct, frozen=True):
    """The limits of jobs and processes; the kernel ends a process that uses more."""

    plan_cpu_seconds: float = 2.0
    """Of parsing a body, or planning. The largest honest uploads take a tenth of it."""

    unpack_cpu_seconds: float = 10.0
    """Of unpacking. 256 MiB take one or two; data made to inflate slowly takes a few more."""

    wall_times: float = 15.0
    """How many times its processor time a job may last, as the machine does other work too."""

    max_memory_bytes: int = 512 * 1024 * 1024
    """Of address space; a process takes 34 MiB of it before its first job."""

    spent_cpu_seconds: float = 60.0
    """Processor time in all, after which a process is replaced."""

    spent_jobs: int = 5_000
    """How many jobs a process does before it is replaced, because its memory gets fragmented."""

    def cpu_seconds(self, job: Job) -> float:
        """Returns the processor time that a job may use."""
        return self.unpack_cpu_seconds if isinstance(job, Unpack) else self.plan_cpu_seconds

    def wall_seconds(self, job: Job) -> float:
        """Returns how long a job may last."""
        return self.wall_times * self.cpu_seconds(job)

    def too_much_time(self, job: Job) -> str:
        """Returns the job's limit of processor time, as text for a person."""
        return f"{self.cpu_seconds(job):g} s of processor time"

    def is_spent(self, *, jobs: int, cpu_seconds: float) -> bool:
        """Whether a process is to be replaced."""
        return jobs >= self.spent_jobs or cpu_seconds >= self.spent_cpu_seconds


class ParserFault(RuntimeError):
    """A parser failed at an upload because of a fault in our code."""


class ParserPool:
    """Does jobs in a limited number of processes. `open` it before use, `close` it after.

    `in_advance` of them are there from the start. Another is started whenever a job finds all at
    work; those that there are stay. When an upload ends a process, another takes its place.
    """

    def __init__(
        self,
        *,
        processes: int = _PROCESSES,
        in_advance: int = 1,
        max_wait_seconds: float = _MAX_WAIT_SECONDS,
        budget: Budget = Budget(),  # noqa: B008 (frozen)
    ) -> None:
        self._max_count = processes
        self._count = in_advance  # that there are, or will be in a moment
        self._budget = budget
        self._max_wait_seconds = max_wait_seconds
        self._turns = Turns(processes)
        self._idle: list[ParserProcess] = []  # the one used last, with the warmest caches, is last
        self._is_idle = asyncio.Event()
        self._all: set[ParserProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The ids of all processes."""
        return frozenset(process.pid for process in self._all)

    async def open(self) -> None:
        """Starts the first processes. Raises ConfigurationInvalid where they can't be started."""
        try:
            async with asyncio.TaskGroup() as starts:
                for _ in range(self._count):
                    starts.create_task(self._start())
        except* (OSError, ParserEnded) as errors:
            await self.close()
            raise ConfigurationInvalid(
                f"the processes that read uploads can't be started: {errors.exceptions[0]}"
            ) from errors

    async def close(self) -> None:
        """Ends all processes, even those at work."""
        self._is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._all))
        self._all.clear()

    async def do(
        self, job: Job, descriptors: Sequence[int], uploader: Uploader, *, is_heavy: bool = False
    ) -> Answer:
        """Does a job and returns its answer; a job that began ends even if its caller is cancelled.

        It closes `descriptors`. Raises the job's InvalidRequest, PlanTooCostly, PlannersBusy, and
        OSError where files can't be written.
        """
        try:
            place = await self._place(uploader, is_heavy=is_heavy)
        except BaseException:
            _close(descriptors)
            raise
        return await asyncio.shield(self._begun(self._carried_out(job, descriptors, place)))

    def _begun(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, as the caller may no longer wait for it

    async def _place(self, uploader: Uploader, *, is_heavy: bool) -> Waiting:
        """Waits for a place and returns it. Raises PlannersBusy."""
        place = Waiting(uploader, is_heavy, asyncio.get_running_loop().create_future())
        if self._turns.begin_now(place):
            return place
        try:
            dropped = self._turns.wait(place)
        except TurnsFull:
            raise PlannersBusy from None
        if dropped is not None and not dropped.turn.done():
            dropped.turn.set_exception(PlannersBusy())
        self._call()
        await self._called(place)
        return place

    async def _called(self, place: Waiting) -> None:
        try:
            async with asyncio.timeout(self._max_wait_seconds):
                await place.turn
        except BaseException as error:
            if not self._turns.leave(place):  # its turn came at this moment
                self._ended(place, 0.0)
            if isinstance(error, TimeoutError):
                raise PlannersBusy from None
            raise

    def _call(self) -> None:
        """Lets the jobs begin that may."""
        while (place := self._turns.next()) is not None:
            if not place.turn.done():  # if it is, the caller was cancelled: `_called` handles that
                place.turn.set_result(None)

    def _ended(self, place: Waiting, cpu_seconds: float) -> None:
        self._turns.end(place, cpu_seconds)
        self._call()

    async def _carried_out(self, job: Job, descriptors: Sequence[int], place: Waiting) -> Answer:
        used_seconds = 0.0
        try:
            for tries in range(1, _TRIES + 1):
                try:
                    answer = await self._asked(job, descriptors)
                except ParserEnded as ended:
                    used_seconds += self._budget.cpu_seconds(job)
                    self._judge(ended, job, is_last=tries == _TRIES)
                    continue
                used_seconds += answer.cpu_seconds
                _raise_for(answer)
                return answer
            raise AssertionError("the last try raises")
        finally:
            _close(descriptors)
            self._ended(place, used_seconds)

    async def _asked(self, job: Job, descriptors: Sequence[int]) -> Answer:
        """Gives a job to a process and returns its answer. Raises ParserEnded."""
        process = await self._taken()
        can_go_on = False
        try:
            wall_seconds = self._budget.wall_seconds(job)
            order = Order(_trimmed(job, process), self._budget.cpu_seconds(job), wall_seconds)
            answer = await process.ask(
                msgspec.msgpack.encode(order),
                descriptors,
                wall_seconds=wall_seconds + _SLACK_SECONDS,
            )
            is_spent = self._budget.is_spent(jobs=process.jobs, cpu_seconds=process.cpu_seconds)
            can_go_on = not (answer.is_spent or is_spent)
            return answer
        finally:
            if can_go_on:
                self._put(process)
            elif not self._is_closed:
                self._begun(self._replaced(process))

    async def _taken(self) -> ParserProcess:
        while True:
            while not self._idle:
                if self._count < self._max_count:
                    self._count += 1
                    self._begun(self._another())
                self._is_idle.clear()
                await self._is_idle.wait()
            process = self._idle.pop()
            if process.is_alive:
                return process
            self._begun(self._replaced(process))

    def _put(self, process: ParserProcess) -> None:
        self._idle.append(process)
        self._is_idle.set()

    def _died(self, process: ParserProcess) -> None:
        """Replaces a process that ended while it had no job."""
        if process in self._idle and not self._is_closed:
            self._idle.remove(process)
            self._begun(self._replaced(process))

    def _judge(self, ended: ParserEnded, job: Job, *, is_last: bool) -> None:
        """Raises the error of a job whose process ended, unless it is to be tried again."""
        reason = ended.reason
        record_parser_end(reason)
        log.warning("a process that reads uploads has ended", reason=reason, path=ended.path)
        if reason == "time":
            raise PlanTooCostly(self._budget.too_much_time(job), path=ended.path)
        if reason == "late":  # the machine is too busy, or the process did not end by itself
            raise PlannersBusy
        if is_last:
            raise PlanTooCostly("a process may take", path=ended.path)

    async def _start(self) -> None:
        process = await ParserProcess.start(
            max_memory_bytes=self._budget.max_memory_bytes, on_end=self._died
        )
        self._all.add(process)
        self._put(process)

    async def _replaced(self, process: ParserProcess) -> None:
        """Ends a process, if it has not ended, and starts another."""
        await process.close()
        self._all.discard(process)
        await self._another()

    async def _another(self) -> None:
        """Starts a process, however many tries it takes."""
        while True:
            try:
                return await self._start()
            except (OSError, ParserEnded) as error:
                log.error("a process that reads uploads can't be started", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)


def _trimmed(job: Job, process: ParserProcess) -> Job:
    """Returns the job, without the toolbox if the process has it, as it is large."""
    if isinstance(job, MakePlan):
        if process.toolbox is job.toolbox:
            return msgspec.structs.replace(job, toolbox=None)
        process.toolbox = job.toolbox
    return job


def _raise_for(answer: Answer) -> None:
    match answer.outcome:
        case Refusal():
            raise error_of(answer.outcome)
        case RanOut(limit=limit):
            raise PlanTooCostly(limit, path=answer.path)
        case DiskFailed(number=number):
            raise OSError(number, os.strerror(number))
        case Faulted(trace=trace):
            raise ParserFault(trace)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
