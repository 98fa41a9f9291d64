"""Queues runs, and ends them."""

import uuid
from collections.abc import Callable

import msgspec

from moorage.acting import acted_by
from moorage.clock import Clock
from moorage.errors import NothingServes, OutOfCredits, RunNotFound, TooManyRuns
from moorage.hosting.entrance.configuration import refuse_stopped
from moorage.ledger import ledger
from moorage.records.project import Project, ProjectStatus
from moorage.records.run import Run, RunKind, RunStatus
from moorage.records.size import Sizes
from moorage.storage import idempotency
from moorage.storage.apps import projects, runs
from moorage.storage.database import Database
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts

MAX_QUEUED = 100
"""Runs of a project that wait."""

_RETRY_SECONDS = 30
_SUSPENDED = (
    "The project is suspended. It starts again with credits for an hour, memory and disk: "
    "send this again then."
)


class QueuedRun(msgspec.Struct, frozen=True):
    """A run that was queued."""

    run_id: str


class Runs:
    """What an owner does with the runs of a project."""

    def __init__(
        self, *, db: Database, sizes: Sizes, clock: Clock, on_queued: Callable[[], None]
    ) -> None:
        self._db = db
        self._sizes = sizes
        self._clock = clock
        self._on_queued = on_queued

    async def queue(
        self,
        of: Project,
        command: str,
        *,
        timeout_seconds: int,
        size: str | None = None,
        claim: Claim | None = None,
    ) -> QueuedRun:
        """Queues a run of a command, which begins as soon as there is a place.

        Raises InvalidField for a size that there is not, ProjectNotFound, ProjectBlocked,
        ProjectPaused, OutOfCredits, NothingServes, TooManyRuns.
        """
        queued = QueuedRun(str(uuid.uuid4()))
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, of.wallet)
            project = await projects.living(tx, of)
            refuse_stopped(await accounts.wallet_row(tx, project.wallet), project)
            if project.serving_deployment_id is None:
                raise NothingServes
            if size is not None:
                self._sizes.chosen(size, now=project.size, has_volume=False, field="size")
            reach = await ledger.reach(tx, project.id, wallet=project.wallet)
            if reach.total <= 0:
                raise OutOfCredits
            if project.status is ProjectStatus.SUSPENDED:
                raise TooManyRuns(_RETRY_SECONDS, _SUSPENDED)
            if await runs.queued_of(tx, project.id) >= MAX_QUEUED:
                said = f"{MAX_QUEUED} runs of this project wait: let some end first."
                raise TooManyRuns(_RETRY_SECONDS, said)
            run = Run(
                id=queued.run_id,
                project_id=project.id,
                wallet=project.wallet,
                kind=RunKind.COMMAND,
                command=command,
                size=size or "",
                timeout_seconds=timeout_seconds,
                status=RunStatus.QUEUED,
                created_at_ms=self._clock.now_ms(),
                acted_by=acted_by(project.wallet),
            )
            await runs.add(tx, run)
            await idempotency.carried_out(tx, claim, queued)
        self._on_queued()
        return queued

    async def cancel(self, project: Project, run_id: str) -> Run:
        """Ends a run that waits or runs; returns it as it is then. Raises RunNotFound."""
        run = await self.of(project, run_id)
        if run.is_over:
            return run
        async with self._db.transaction(durable=True) as tx:
            now_ms = self._clock.now_ms()
            await runs.end(tx, run.id, RunStatus.CANCELLED, reason="You ended it.", at_ms=now_ms)
        self._on_queued()  # what it has on an engine goes
        return await self.of(project, run_id)

    async def of(self, project: Project, run_id: str) -> Run:
        """Returns a run of a project, and of the wallet that has it now. Raises RunNotFound."""
        run = await runs.by_id(self._db, run_id)
        if run is None or (run.project_id, run.wallet) != (project.id, project.wallet):
            raise RunNotFound
        return run
