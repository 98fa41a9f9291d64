"""Runs: commands in a copy of the serving version's files, and requests to the app.

The rows say what is to be done; the gateway that keeps the apps does it. A command's app outlives
the gateway, so one that runs is followed again after a crash. What was begun, and of which nobody
knows the end, is `interrupted`, and never begun again.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from operator import itemgetter

import msgspec
import structlog

from moorage.clock import Clock
from moorage.engines.engine import AppExit, Engine, Keep
from moorage.errors import (
    ClusterUnavailable,
    DatabaseUnavailable,
    DeployFailed,
    NoCapacity,
)
from moorage.failpoints import failpoint
from moorage.hosting.entrance.capacity import Capacity
from moorage.hosting.limits import app_limits
from moorage.hosting.work.workflow import Specs
from moorage.ledger.metering import Metering
from moorage.ledger.work_time import BOOK_SECONDS, book, require_credits
from moorage.loop import until_tick
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.records.run import Run, RunKind, RunStatus
from moorage.records.size import STANDARD, Size, Sizes
from moorage.storage import events
from moorage.storage.apps import deployments, jobs, projects, runs
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import billing
from moorage.storage.money.billing import Work, WorkKind

log = structlog.get_logger()

KEPT_LOGS = 50
"""Of a project: the logs of its last runs."""

AT_ONCE = {RunKind.COMMAND: (4, 2), RunKind.REQUEST: (32, 4)}
"""How many run at once, in all and of one wallet."""

POLL_SECONDS = 1.0
_FIRST_LOOK_SECONDS = 0.1
_MAX_WAIT_MS = 3_600_000  # for a place on the machine
_FIRST_BAD_STATUS = 400
_NO_ANSWER = "The app did not answer."
_LOST = "The gateway lost sight of it, so how it ended is not known. It is not run again."

Ask = Callable[[Project, Run], Awaitable[int | None]]
"""Sends a run's request to its app; returns the status, or None without an answer of the app's."""


class End(msgspec.Struct, frozen=True):
    """How a run ended."""

    status: RunStatus
    reason: str = ""
    exit_code: int | None = None
    ran_ms: int = 0
    """How long its command ran, as far as that was seen."""


class Runner:
    """Carries out runs, a few at once; one of the gateways on a database does it."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        specs: Specs,
        capacity: Capacity,
        metering: Metering,
        sizes: Sizes,
        ask: Ask,
        start_seconds: float,
        clock: Clock,
        speed: float = 1.0,
    ) -> None:
        """`speed` divides its pauses."""
        self._db = db
        self._runtime = runtime
        self._specs = specs
        self._capacity = capacity
        self._metering = metering
        self._time = metering.time
        self._sizes = sizes
        self._ask = ask
        self._start_seconds = start_seconds
        self._clock = clock
        self._speed = speed
        self._woken = asyncio.Event()
        self._entering = asyncio.Lock()
        self._tasks: dict[str, tuple[Run, asyncio.Task[bool]]] = {}

    def wake(self) -> None:
        """Looks for runs now rather than at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Carries out runs until cancelled; what runs then is left to the next process."""
        try:
            while True:
                self._woken.clear()
                try:
                    await self.look()
                except DatabaseUnavailable as error:
                    log.warning("runs are not looked at", error=error.message)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(until_tick(POLL_SECONDS / self._speed)):
                        await self._woken.wait()
        finally:
            await self._cancel(list(self._tasks))

    async def look(self) -> None:
        """Begins what may begin, and follows again what an earlier process began."""
        for run in await runs.held(self._db):
            self._begin(run)
        most = max(of_wallet for _, of_wallet in AT_ONCE.values())
        for run in self._in_turn(await runs.next_queued(self._db, of_each=most)):
            if self._has_place(run):
                self._begin(run)

    async def end_of(self, project: Project) -> None:
        """Ends what a project runs, for its deletion; returns when nothing of it is left."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            await runs.set_schedules(tx, project.id, (), now_ms=now_ms)
            for run_id in await runs.under_way_of(tx, project.id):
                reason = "The project was deleted."
                await runs.end(tx, run_id, RunStatus.CANCELLED, reason=reason, at_ms=now_ms)
        await self._cancel(
            [it for it, (run, _) in self._tasks.items() if run.project_id == project.id]
        )
        while left := await runs.kept_of(self._db, project.id):
            await self._forget(left)

    async def _cancel(self, run_ids: list[str]) -> None:
        tasks = [self._tasks[run_id][1] for run_id in run_ids]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _forget(self, run_ids: list[str]) -> None:
        for run_id in run_ids:
            await self._runtime.stop(run_id, keep=Keep.NOTHING)
        async with self._db.transaction(durable=False) as tx:
            for run_id in run_ids:
                await runs.clear(tx, run_id)
                await runs.forget(tx, run_id)

    def _in_turn(self, queued: Iterable[Run]) -> list[Run]:
        """Orders runs so that whose wallet has fewer goes first; else two could have all places."""
        number = Counter((run.wallet, run.kind) for run, _ in self._tasks.values())
        turns = []
        for run in queued:
            turns.append((number[run.wallet, run.kind], run))
            number[run.wallet, run.kind] += 1
        return [run for _, run in sorted(turns, key=itemgetter(0))]

    def _has_place(self, run: Run) -> bool:
        others = [other for other, _ in self._tasks.values() if other.kind is run.kind]
        in_all, of_wallet = AT_ONCE[run.kind]
        own = sum(other.wallet == run.wallet for other in others)
        return len(others) < in_all and own < of_wallet

    def _begin(self, run: Run) -> None:
        if run.id not in self._tasks:
            task = asyncio.create_task(self._work(run), name=f"run {run.id}")
            self._tasks[run.id] = (run, task)
            task.add_done_callback(lambda done: self._done(run.id, done))

    def _done(self, run_id: str, task: asyncio.Task[bool]) -> None:
        self._tasks.pop(run_id, None)
        if not task.cancelled() and task.exception() is None and task.result():
            self.wake()  # another may have its place

    async def _work(self, run: Run) -> bool:
        """Returns whether it has ended; one that waits, or failed to be seen, is polled."""
        try:
            with contextlib.ExitStack() as counted:
                return await self._carry_out(run, counted)
        except (DatabaseUnavailable, ClusterUnavailable) as error:  # the next look begins it again
            log.warning("run is looked at again", run=run.id, error=error.message)
        except Exception:
            log.exception("run failed", run=run.id)
            await self._end(run, End(RunStatus.INTERRUPTED, _LOST))
        return False

    async def _carry_out(self, queued: Run, counted: contextlib.ExitStack) -> bool:
        """Brings a run as far as it goes now, and returns whether it has ended.

        A command counts as running before another may begin, until `counted` is closed.
        Of one that has ended, only its log stays.
        """
        run = queued
        if run.status is RunStatus.QUEUED:
            async with self._entering:
                entered = await self._enter(run)
                if entered is None:
                    return False
                run = entered
                await self._count(run, counted)
        elif not run.is_over:
            await self._count(run, counted)
        if not run.is_over:
            project = await projects.by_id(self._db, run.project_id)
            end = _refusal(run, project)
            if project is not None and end is None:
                if run.kind is RunKind.REQUEST:
                    end = await self._send(run, project)
                else:
                    end = await self._execute(run, project)
            await self._end(run, end)
        current = await runs.by_id(self._db, run.id)
        if current is not None and current.is_over and current.holds:
            failpoint("run over")
            await self._runtime.stop(run.id, keep=Keep.LOGS)
            async with self._db.transaction(durable=False) as tx:
                await runs.clear(tx, run.id)
            await self._forget(await runs.kept_of(self._db, run.project_id, after=KEPT_LOGS))
        return current is None or current.is_over

    async def _enter(self, run: Run) -> Run | None:
        """Lets a queued run begin; returns it as it is then, or None if it waits or has ended."""
        has_room = run.kind is RunKind.REQUEST or await self._has_room(run)
        async with self._db.transaction(durable=True) as tx:
            project = await projects.by_id(tx, run.project_id)
            end = _refusal(run, project)
            serving = None if project is None else project.serving_deployment_id
            if project is not None and serving is not None and end is None:
                if run.kind is RunKind.COMMAND:
                    end = await self._unpaid(tx, await self._work_of(tx, run, project))
                if end is None and not has_room:
                    if self._clock.now_ms() - run.created_at_ms < _MAX_WAIT_MS:
                        return None
                    end = End(RunStatus.FAILED, NoCapacity().message)
                if end is None and project.volume and await jobs.is_moving(tx, project.id):
                    return None
                if end is None:
                    holds = run.kind is RunKind.COMMAND
                    await runs.begin(tx, run.id, serving, holds=holds)
                    return await runs.by_id(tx, run.id)
            await self._end_in(tx, run, end)
        return None

    async def _count(self, run: Run, counted: contextlib.ExitStack) -> None:
        if run.kind is RunKind.COMMAND:
            size = self._size_of(run, await projects.by_id(self._db, run.project_id))
            counted.enter_context(self._capacity.starting(run.id, size.name))

    async def _has_room(self, run: Run) -> bool:
        project = await projects.by_id(self._db, run.project_id)
        try:
            await self._capacity.require(self._db, self._size_of(run, project).name)
        except NoCapacity:
            return False
        return True

    async def _unpaid(self, source: Source, work: Work) -> End | None:
        """Returns the end of a run that nothing pays for any more."""
        try:
            await require_credits(source, work, now_ms=self._clock.now_ms())
        except DeployFailed as failed:
            return End(RunStatus.FAILED, failed.reason)
        return None

    def _size_of(self, run: Run, project: Project | None) -> Size:
        """Returns the size that was asked for, or the app's."""
        return self._sizes.of(run.size or (STANDARD if project is None else project.size))

    async def _work_of(self, source: Source, run: Run, project: Project) -> Work:
        price = await self._metering.price_of(source, project, self._size_of(run, project))
        return Work(
            id=run.id,
            wallet=run.wallet,
            project_id=run.project_id,
            deployment_id=project.serving_deployment_id or "",
            monthly_price_micro_usd=price.month,
            started_at_ms=self._time.now_ms(),
            kind=WorkKind.RUN,
            acted_by=run.acted_by,
        )

    # Requests

    async def _send(self, run: Run, project: Project) -> End | None:
        if not await self._start(run):
            return End(RunStatus.INTERRUPTED, _LOST)
        try:
            async with asyncio.timeout(run.timeout_seconds):
                status = await self._ask(project, run)
        except TimeoutError:
            return End(RunStatus.TIMED_OUT, f"{_NO_ANSWER} It had {run.timeout_seconds} s.")
        if status is None:
            return End(RunStatus.FAILED, _NO_ANSWER)
        if status >= _FIRST_BAD_STATUS:
            return End(RunStatus.FAILED, f"The app answered {status}.", status)
        return End(RunStatus.SUCCEEDED, exit_code=status)

    async def _start(self, run: Run, work: Work | None = None) -> bool:
        """Notes that it is started now; returns False if it was before, or has ended meanwhile."""
        async with self._db.transaction(durable=True) as tx:
            if not await runs.start(tx, run.id, at_ms=self._clock.now_ms()):
                return False
            if work is not None:
                await billing.add_work(tx, work)
        return True

    # Commands

    async def _execute(self, run: Run, project: Project) -> End | None:
        """Prepares and starts a command, unless it was started before; follows it to its end."""
        work = await billing.work_of(self._db, run.id)
        if work is not None:
            return await self._follow(run, work, is_new=False)
        deployment = await deployments.by_id(self._db, run.deployment_id or "")
        if deployment is None:
            return End(RunStatus.FAILED, "Its version is gone.")
        spec = replace(
            self._specs.instance(deployment, project),
            deployment_id=run.id,
            command=run.command,
            listens=False,
            limits=app_limits(self._size_of(run, project)),
        )
        try:
            failpoint("run copy")
            await self._runtime.copy(deployment.id, run.id)
            failpoint("run start")
            work = await self._work_of(self._db, run, project)
            if not await self._start(run, work):
                return None
            failpoint("run started")
            await self._runtime.start(spec, timeout_seconds=self._start_seconds)
        except DeployFailed as failed:
            return End(RunStatus.FAILED, failed.reason)
        except NoCapacity as full:
            return End(RunStatus.FAILED, full.message)
        return await self._follow(run, work, is_new=True)

    async def _follow(self, run: Run, work: Work, *, is_new: bool) -> End | None:
        """Waits for the end of a command, or ends it, and books its time.

        One that ended while no gateway looked is billed to its end, or where that is not known, as
        far as it was booked.
        """
        pause_seconds, booked_ms, seen_ms = _FIRST_LOOK_SECONDS, work.ran_ms, work.ran_ms
        most_ms = run.timeout_seconds * 1000
        while True:
            state = await self._runtime.inspect(run.id)
            ran_ms = self._time.now_ms() - work.started_at_ms
            if is_new or state.exit is None:
                seen_ms = ran_ms
            if state.exit is not None:
                at_ms = state.exit.ended_at_ms
                if at_ms is not None:
                    seen_ms = self._time.at_wall(at_ms) - work.started_at_ms
                seen_ms = min(max(seen_ms, booked_ms), ran_ms)
                if state.exit.exit_code and seen_ms >= most_ms:
                    return _timed_out(run, seen_ms)  # by a process that then ended itself
                return _ended(state.exit, seen_ms)
            if state.instance is None:
                return End(RunStatus.INTERRUPTED, _LOST)
            end = _timed_out(run) if ran_ms >= most_ms else None
            with contextlib.suppress(DatabaseUnavailable):
                end = end or await self._ended_by_rows(run)
                if end is None and ran_ms - booked_ms >= BOOK_SECONDS * 1000:
                    await self._book(work, ran_ms)
                    booked_ms = ran_ms
                    end = await self._unpaid(self._db, work)
            if end is not None:  # it may take its time to end, and has it billed
                await self._runtime.stop(run.id, keep=Keep.LOGS)
                ran_ms = self._time.now_ms() - work.started_at_ms
                return msgspec.structs.replace(end, ran_ms=ran_ms)
            is_new = True
            await asyncio.sleep(pause_seconds / self._speed)
            pause_seconds = min(2 * pause_seconds, POLL_SECONDS)

    async def _ended_by_rows(self, run: Run) -> End | None:
        """Returns how the rows have ended a run: by itself, or by its project."""
        current = await runs.by_id(self._db, run.id)
        if current is None or current.is_over:
            return End(RunStatus.CANCELLED)  # as it was ended already
        project = await projects.by_id(self._db, run.project_id)
        end = _refusal(run, project)
        if project is None or end is not None:
            return end
        if project.volume and await jobs.is_moving(self._db, project.id):
            # What it wrote from now on would be lost.
            return End(RunStatus.CANCELLED, "The project's volume was moved. Run it again.")
        return None

    async def _book(self, work: Work, ran_ms: int) -> None:
        async with self._db.transaction(durable=True) as tx:
            await self._book_in(tx, work, ran_ms)

    async def _book_in(self, tx: Transaction, work: Work, ran_ms: int) -> None:
        project = await projects.by_id(tx, work.project_id)
        if project is None or project.wallet != work.wallet:
            return  # its purse may be another wallet's by now
        whole_seconds_ms = -(-ran_ms // 1000) * 1000
        await book(tx, work, ran_ms=whole_seconds_ms, now_ms=self._clock.now_ms())

    # Ends

    async def _end(self, run: Run, end: End | None) -> None:
        failpoint("run ended")
        async with self._db.transaction(durable=True) as tx:
            await self._end_in(tx, run, end)

    async def _end_in(self, tx: Transaction, run: Run, end: End | None) -> None:
        """Books the rest, ends the row unless it has ended, and tells its owner."""
        if end is None:
            return
        if end.ran_ms and (work := await billing.work_of(tx, run.id)) is not None:
            await self._book_in(tx, work, end.ran_ms)
        now_ms = self._clock.now_ms()
        has_ended = await runs.end(
            tx, run.id, end.status, reason=end.reason, exit_code=end.exit_code, at_ms=now_ms
        )
        if not has_ended or end.status is RunStatus.SUCCEEDED:
            return
        data: dict[str, str | int | float] = {
            "project_id": run.project_id,
            "run_id": run.id,
            "status": end.status,
            "reason": end.reason,
        }
        if run.schedule is not None:
            data["schedule"] = run.schedule
        if end.exit_code is not None:
            data["exit_code"] = end.exit_code
        kind = EventKind.RUN_FAILED
        await events.record(tx, wallet=run.wallet, kind=kind, data=data, now_ms=now_ms)


def _timed_out(run: Run, ran_ms: int = 0) -> End:
    reason = f"It ran for {run.timeout_seconds} s, as long as it may."
    return End(RunStatus.TIMED_OUT, reason, None, ran_ms)


def _ended(how: AppExit, ran_ms: int) -> End:
    if how.out_of_memory:
        reason = "It was killed at its memory limit: run it in a larger size."
        return End(RunStatus.FAILED, reason, how.exit_code, ran_ms)
    if how.exit_code is None:
        return End(RunStatus.INTERRUPTED, _LOST, None, ran_ms)
    if how.exit_code:
        return End(
            RunStatus.FAILED, f"It ended with exit code {how.exit_code}.", how.exit_code, ran_ms
        )
    return End(RunStatus.SUCCEEDED, "", 0, ran_ms)


def _refusal(run: Run, project: Project | None) -> End | None:
    """Returns the end of a run whose project may not run any more."""
    why = ""
    if project is None or project.status in (ProjectStatus.DELETING, ProjectStatus.DELETED):
        why = "The project was deleted."
    elif project.wallet != run.wallet:
        why = "The project was given to another wallet."
    elif project.blocked_reason is not None:
        why = "The operator has suspended the project."
    elif project.paused_at_ms is not None:
        why = "The project was paused."
    elif project.status is ProjectStatus.SUSPENDED:
        why = "The project was suspended, as its credits or the disk's space ran out."
    elif project.serving_deployment_id is None:
        why = "No version of the project serves."
    return End(RunStatus.CANCELLED, why) if why else None
