"""Sleep: an app that nobody uses is stopped, and is an address and files until its next request.

That it sleeps is said by its project's row first, then done by the reconciler, so that a crash in
between leaves nothing undecided.
"""

import asyncio
from collections.abc import Collection

import structlog

from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.keeping.subject_tasks import SubjectTasks
from moorage.engines.engine import Engine, Instance
from moorage.records.project import Project
from moorage.storage.apps import projects
from moorage.storage.database import Database

log = structlog.get_logger()

_LAST_GUESTS_SECONDS = 5.0  # how long what came just before the route was taken away may take
_POLL_SECONDS = 0.02
_ASLEEP = "Not used for a while: asleep until the next request."


class Sleep:
    """Puts the apps to sleep that have had neither request nor connection for `after_seconds`.

    With 0 none ever sleeps. The time is this process's: a gateway that was restarted waits afresh.
    """

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        addresses: Addresses,
        subject_tasks: SubjectTasks,
        after_seconds: float,
        clock: Clock,
    ) -> None:
        self._db = db
        self._runtime = runtime
        self._addresses = addresses
        self._subject_tasks = subject_tasks
        self._after_seconds = after_seconds
        self._clock = clock
        self._used: dict[str, float] = {}  # by serving deployment: when it was last in use
        self._just_stopped: set[str] = set()  # since the comparison under way began

    def use(self, deployment_id: str) -> None:
        """Note that a serving app was asked for just now. Its next idle time is a new one."""
        self._used[deployment_id] = self._clock.monotonic_seconds()
        self._subject_tasks.forgive("sleep", deployment_id)

    def begin(self) -> None:
        """A comparison begins: what it will find running was not stopped before."""
        self._just_stopped.clear()

    async def rests(self, project: Project, instance: Instance | None) -> bool:
        """Whether an active project's app is to be left stopped; sees to it that it is.

        One that has not been used for long enough is looked at more closely, aside.
        """
        serving = project.serving_deployment_id or ""
        if serving in self._just_stopped:
            return True
        if project.asleep_since_ms is None:
            if self._idle(serving):
                self._subject_tasks.begin("sleep", serving, lambda: self._try(project.id, instance))
            return False
        if instance is not None:
            self._subject_tasks.begin(
                "sleep", serving, lambda: self._lie_down(project.id, instance)
            )
        return True

    def end(self, *, known: Collection[str]) -> None:
        """The comparison is over; what is known of deployments that are gone is dropped."""
        for deployment_id in self._used.keys() - set(known):
            del self._used[deployment_id]

    def _idle(self, serving: str) -> bool:
        if not self._after_seconds:
            return False
        now = self._clock.monotonic_seconds()
        return now - self._used.setdefault(serving, now) >= self._after_seconds

    async def _try(self, project_id: str, instance: Instance | None) -> None:
        """Put a project's app to sleep, unless it is in use or about to be replaced."""
        project = await projects.by_id(self._db, project_id)
        serving = None if project is None else project.serving_deployment_id
        if serving is None or not self._idle(serving):
            return
        if await self._runtime.connections(serving):
            self.use(serving)
            return
        async with self._db.transaction(durable=False) as tx:
            lay_down = await projects.fall_asleep(
                tx, project_id, serving=serving, at_ms=self._clock.now_ms()
            )
        if lay_down and instance is not None:
            await self._lie_down(project_id, instance)

    async def _lie_down(self, project_id: str, instance: Instance) -> None:
        """Stop a sleeping project's app once nobody is with it; leave it to who woke it meanwhile.

        Between reading that it sleeps and stopping it, no other task gets its turn.
        """
        serving = instance.deployment_id
        deadline = self._clock.monotonic_seconds() + _LAST_GUESTS_SECONDS
        noted = False
        while (project := await self._sleeping(project_id, serving)) is not None:
            if self._addresses.target(project) == instance.address:
                await self._addresses.remove(project)
            guests = await self._runtime.connections(serving)
            if guests and self._clock.monotonic_seconds() > deadline:
                await self._stay_up(project, instance)
                return
            if not guests and not noted:
                await self._runtime.note(serving, _ASLEEP)
                noted = True
            elif not guests and await self._sleeping(project_id, serving) is not None:
                self._just_stopped.add(serving)
                await self._runtime.stop(serving)
                log.info("app fell asleep", deployment=serving)
                return
            else:
                await asyncio.sleep(_POLL_SECONDS)

    async def _sleeping(self, project_id: str, serving: str) -> Project | None:
        """The project as it is now, while it sleeps and has this app."""
        project = await projects.by_id(self._db, project_id)
        if project is None or project.asleep_since_ms is None:
            return None
        return project if project.serving_deployment_id == serving else None

    async def _stay_up(self, project: Project, instance: Instance) -> None:
        """Somebody is with the app: it goes on as before; the reconciler leads its address."""
        self.use(instance.deployment_id)
        async with self._db.transaction(durable=False) as tx:
            await projects.wake(tx, project.id)
