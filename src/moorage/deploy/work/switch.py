"""The switch: the address of a project is routed to a newly started app."""

from collections.abc import Awaitable, Callable

from moorage.address import Address
from moorage.certificates.certificates import Certificates
from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.keeping.apps import Apps
from moorage.engines.engine import Instance
from moorage.errors import DeployFailed, FailureCause
from moorage.events import outbox
from moorage.failpoints import failpoint
from moorage.ledger.metering import Metering
from moorage.records.deployment import Deployment, DeploymentStatus, Job, LostJob
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database, Transaction

_SHARE_USED_UP = (
    "No certificate is ordered for {host}: the wallet's share of new ones is used up for this "
    "week. Deploy to a name that has one, or again next week; credits stay."
)

_CERTIFICATE_SECONDS = 30.0


class Reconfigured(Exception):
    """The deployment's configuration changed after it was started."""


class Switch:
    """Routes addresses to new versions; the reconciler drains and stops the old ones."""

    def __init__(
        self,
        *,
        db: Database,
        addresses: Addresses,
        answers: Callable[[str], Awaitable[bool]],
        answers_plain: Callable[[str], Awaitable[bool]],
        certificates: Certificates | None,
        apps: Apps,
        metering: Metering,
        hosts: Hosts,
        clock: Clock,
    ) -> None:
        self._db = db
        self._addresses = addresses
        self._answers = answers
        self._answers_plain = answers_plain
        self._certificates = certificates
        self._apps = apps
        self._metering = metering
        self._hosts = hosts
        self._clock = clock

    async def to(
        self,
        instance: Instance,
        *,
        job: Job,
        deployment: Deployment,
        project: Project,
        note: str,
        moved: str = "",
    ) -> None:
        """Routes the address to the app, checks that it answers, then records that it serves.

        If its volume was filled (`moved` is a sentence about that), it is recorded first: what a
        visitor has the app store counts. Raises DeployFailed, LostJob or Reconfigured, and then
        restores the earlier route.
        """
        failpoint("route")
        before = self._addresses.target(project)
        try:
            certified = bool(moved) or await self._route(project, instance)
            failpoint("ready")
            async with self._apps.held(project.id):
                if moved:  # its certificate may have come on the way
                    certified = await self._is_certified(project.id)
                await self._become_ready(
                    job, deployment, project, note, certified=certified, moved=moved
                )
                if moved:
                    failpoint("volume counts")
                    await self._addresses.route(project, instance.address)
        except BaseException:
            async with self._apps.held(project.id):
                await self._route_back(deployment, project, before)
            raise

    async def _is_certified(self, project_id: str) -> bool:
        project = await projects.by_id(self._db, project_id)
        return project is not None and project.uncertified_since_ms is None

    async def begin(self, project: Project) -> None:
        """Has the certificate ordered, so that it comes while the app is built."""
        if self._certificates is not None:
            await self._certificates.want(self.host(project), project.wallet)

    def host(self, project: Project) -> str:
        """Returns the host at which visitors ask for a project."""
        return self._addresses.host(project)

    async def _route(self, project: Project, instance: Instance) -> bool:
        """Routes the address to the instance, and checks that it answers through the proxy.

        Returns False if it does so over plain HTTP alone, as no certificate has come.
        """
        async with self._apps.held(project.id):
            await self._addresses.route(project, instance.address)
        host = self.host(project)
        if await self._is_secured(project) and await self._answers(host):
            return True
        has_none = self._certificates is not None and not await self._certificates.has(host)
        if has_none and await self._answers_plain(host):
            return False
        raise DeployFailed(
            FailureCause.UNHEALTHY,
            f"The app answered, but {self._hosts.url(project.unique_name)} did not. "
            "Deploy again; if it persists, the gateway's operator has to look at the proxy.",
        )

    async def _is_secured(self, project: Project) -> bool:
        """Returns whether the host has the certificate that it needs, after half a minute at most.

        Raises DeployFailed when the wallet's share of new ones is used up.
        """
        if self._certificates is None:
            return True
        host = self.host(project)
        if not await self._certificates.want(host, project.wallet):
            raise DeployFailed(FailureCause.UNHEALTHY, _SHARE_USED_UP.format(host=host))
        return await self._certificates.wait_for(host, _CERTIFICATE_SECONDS)

    async def _route_back(
        self, deployment: Deployment, project: Project, before: Address | None
    ) -> None:
        """Restores the earlier route, unless the rows say that the new app serves."""
        current = await projects.by_id(self._db, project.id)
        if current is not None and current.serving_deployment_id == deployment.id:
            return
        if current is None or current.status is not ProjectStatus.ACTIVE or before is None:
            await self._addresses.unroute(project)
        else:
            await self._addresses.route(project, before)

    async def _become_ready(
        self,
        job: Job,
        deployment: Deployment,
        project: Project,
        note: str,
        *,
        certified: bool,
        moved: str,
    ) -> None:
        told = moved if certified else f"{_without_certificate(self.host(project))} {moved}".strip()
        note = f"{told} {note}".strip()
        async with self._db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, "ready")
            row = await deployments.by_id(tx, deployment.id)
            if row is not None and row.configuration != deployment.configuration:
                raise Reconfigured
            current = await projects.by_id(tx, project.id)
            if current is not None and _volume(current) != _volume(project):
                raise Reconfigured
            if current is None or not await projects.set_serving(tx, project.id, deployment.id):
                raise LostJob
            now_ms = self._clock.now_ms()
            await deployments.move(
                tx, deployment.id, DeploymentStatus.READY, note=note, at_ms=now_ms
            )
            replaced = current.serving_deployment_id
            if replaced is not None:
                await deployments.move(tx, replaced, DeploymentStatus.SUPERSEDED, at_ms=now_ms)
            since_ms = None if certified else current.uncertified_since_ms or now_ms
            await projects.set_uncertified(tx, project.id, since_ms=since_ms)
            if not certified:
                await self._metering.end(tx, project.id)
            await self._tell_ready(tx, current, deployment, now_ms, certified=certified, told=told)
            await self._serve(tx, current, now_ms)
            await jobs.finish(tx, job)

    async def _tell_ready(
        self,
        tx: Transaction,
        project: Project,
        deployment: Deployment,
        now_ms: int,
        *,
        certified: bool,
        told: str,
    ) -> None:
        host = self.host(project)
        data = {
            "project_id": project.id,
            "deployment_id": deployment.id,
            "endpoint": self._hosts.url(project.unique_name) if certified else f"http://{host}",
        }
        if told:
            data["note"] = told
        await outbox.record(
            tx, wallet=project.wallet, kind=EventKind.DEPLOYMENT_READY, data=data, now_ms=now_ms
        )

    async def _serve(self, tx: Transaction, project: Project, now_ms: int) -> None:
        """Begins billing, unless the project is billed already.

        Suspends it instead when the credits do not pay an hour of it.
        """
        if await self._metering.bills(tx, project.id):
            return
        was_suspended = project.status is ProjectStatus.SUSPENDED
        if await self._metering.begin_or_suspend(tx, project):
            if was_suspended:
                await _tell(tx, project, EventKind.PROJECT_RESUMED, now_ms)
        elif not was_suspended:
            await _tell(tx, project, EventKind.PROJECT_SUSPENDED, now_ms)


def _volume(project: Project) -> tuple[bool, str | None]:
    return project.volume, project.volume_after


def _without_certificate(host: str) -> str:
    return (
        f"No certificate could be had for {host} yet. It is asked for again every ten minutes; "
        f"until it comes, the app is served at http://{host} and nothing is charged for it."
    )


async def _tell(tx: Transaction, project: Project, kind: EventKind, now_ms: int) -> None:
    data = {"project_id": project.id}
    await outbox.record(tx, wallet=project.wallet, kind=kind, data=data, now_ms=now_ms)
