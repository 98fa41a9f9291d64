"""A few warm parser processes, and the jobs that take turns in them."""

import asyncio
import os
from collections.abc import Coroutine, Sequence
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
from moorage.parsers.turns import Turns, TurnsFull, Waiting
from moorage.uploads.room import Uploader

log = structlog.get_logger()

_PROCESSES = 3  # each of some 30 MiB; fewer would leave no place free (see Turns)
_MAX_WAIT_SECONDS = 30.0
_SLACK_SECONDS = 5.0  # after a process should have ended itself
_AGAIN_SECONDS = 5.0  # after a process could not be started
_TRIES = 2  # at a job whose process was ended by something else than its limits


class Budget(msgspec.Struct, frozen=True):
    """Processor time in seconds; a process that takes more is ended by the kernel."""

    plan_cpu_seconds: float = 2.0
    """To parse a body, and to plan. The largest honest uploads take a tenth of it."""

    unpack_cpu_seconds: float = 10.0
    """256 MiB take one to two; data that is made to be slow to inflate takes some more."""

    wall_times: float = 15.0
    """How many times its processor time a job may last, as the machine has other things to do."""

    max_memory_bytes: int = 512 * 1024 * 1024
    """Of address space, 40 MiB of which the interpreter takes."""

    spent_cpu_seconds: float = 60.0
    """What a process uses in all before another takes its place: by a job less than its limit."""

    spent_jobs: int = 5_000
    """How many jobs a process does before another takes its place, as memory falls to pieces."""

    def cpu_seconds(self, job: Job) -> float:
        """The processor time that a job may take."""
        return self.unpack_cpu_seconds if isinstance(job, Unpack) else self.plan_cpu_seconds

    def wall_seconds(self, job: Job) -> float:
        """How long a job may last."""
        return self.wall_times * self.cpu_seconds(job)

    def too_much_time(self, job: Job) -> str:
        """The limit of processor time, for a person."""
        return f"{self.cpu_seconds(job):g} s of processor time"

    def is_spent(self, *, jobs: int, cpu_seconds: float) -> bool:
        """Whether a process has done its part."""
        return jobs >= self.spent_jobs or cpu_seconds >= self.spent_cpu_seconds


class ParserFault(RuntimeError):
    """A parser failed at an upload in a way that is nobody's fault but ours."""


class ParserPool:
    """Does jobs in processes that are there before they are needed; `open` it, then `close` it.

    What an upload does to a process costs others no more than a wait for the next one.
    """

    def __init__(
        self,
        *,
        processes: int = _PROCESSES,
        max_wait_seconds: float = _MAX_WAIT_SECONDS,
        budget: Budget = Budget(),  # noqa: B008 (frozen)
    ) -> None:
        self._count = processes
        self._budget = budget
        self._max_wait_seconds = max_wait_seconds
        self._turns = Turns(processes)
        self._idle: list[ParserProcess] = []  # the one used last, which is warmest, at the end
        self._is_idle = asyncio.Event()
        self._all: set[ParserProcess] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    @property
    def pids(self) -> frozenset[int]:
        """The processes that there are."""
        return frozenset(process.pid for process in self._all)

    async def open(self) -> None:
        """Starts the processes. Raises ConfigurationInvalid where they can't be had."""
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
        """Ends all processes, whatever they do."""
        self._is_closed = True
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.close() for process in self._all))
        self._all.clear()

    async def do(
        self, job: Job, descriptors: Sequence[int], uploader: Uploader, *, is_heavy: bool = False
    ) -> Answer:
        """The answer to a job, which is seen to its end even when its caller no longer waits.

        `descriptors` are closed. Raises InvalidRequest as the job says, PlanTooCostly,
        PlannersBusy, and OSError where files can't be written.
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
            task.exception()  # whoever waits has it; nobody need

    async def _place(self, uploader: Uploader, *, is_heavy: bool) -> Waiting:
        """A place in the turns. Raises PlannersBusy."""
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
            if not self._turns.leave(place):  # it was called in this very moment, or dropped
                self._ended(place, 0.0)
            if isinstance(error, TimeoutError):
                raise PlannersBusy from None
            raise

    def _call(self) -> None:
        """Lets those begin who may."""
        while (place := self._turns.next()) is not None:
            if not place.turn.done():  # else nobody waits any more, which `_called` will notice
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
        """What a process answers. Raises ParserEnded."""
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
        """Has another one made for one that nobody had given a job."""
        if process in self._idle and not self._is_closed:
            self._idle.remove(process)
            self._begun(self._replaced(process))

    def _judge(self, ended: ParserEnded, job: Job, *, is_last: bool) -> None:
        """Raises what a job is answered whose process has ended, unless it is to be tried again."""
        reason = ended.reason
        record_parser_end(reason)
        log.warning("a process that reads uploads has ended", reason=reason, path=ended.path)
        if reason == "time":
            raise PlanTooCostly(self._budget.too_much_time(job), path=ended.path)
        if reason == "late":  # the machine has too much to do, or the process would not end
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
        """Another process for one that has ended, or is to end."""
        await process.close()
        self._all.discard(process)
        while True:
            try:
                return await self._start()
            except (OSError, ParserEnded) as error:
                log.error("a process that reads uploads can't be started", error=str(error))
            await asyncio.sleep(_AGAIN_SECONDS)


def _trimmed(job: Job, process: ParserProcess) -> Job:
    """The job, without the toolbox if the process has it: it is long, and seldom changes."""
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
