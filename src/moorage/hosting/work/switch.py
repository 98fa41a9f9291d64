"""The switch: the address of a project is routed to a new app once that is healthy."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

import httptools
import msgspec

from moorage.address import Address
from moorage.certificates.certificates import Certificates
from moorage.clock import Clock
from moorage.engines.engine import Instance
from moorage.errors import DeployFailed, FailureCause
from moorage.failpoints import failpoint
from moorage.hosting.addresses.addresses import Addresses, Hosts
from moorage.hosting.keeping.apps import Apps
from moorage.ledger.metering import Metering
from moorage.planning.plan import Plan
from moorage.records.deployment import Deployment, DeploymentStatus, Job, LostJob
from moorage.records.event import EventKind
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.records.size import Sizes
from moorage.storage import events
from moorage.storage.apps import deployments, jobs, projects, runs
from moorage.storage.database import Database, Transaction

_FIRST_PAUSE_SECONDS = 0.005
_MAX_PAUSE_SECONDS = 0.5
_REQUEST_SECONDS = 10.0
_HEAD_BYTES = 64 * 1024  # of an answer, with the interim answers before it


class Healthy(Protocol):
    """The signature of `wait_until_healthy`."""

    async def __call__(
        self,
        address: Address | None,
        /,
        *,
        host: str,
        path: str,
        timeout_seconds: float,
        has_ended: Callable[[], Awaitable[bool]],
    ) -> None:
        """Returns when `GET path` of the host is answered with less than 500.

        For a worker, without an address, when it has lived for `timeout_seconds`. Raises
        DeployFailed otherwise.
        """
        ...


async def wait_until_healthy(
    address: Address | None,
    *,
    host: str,
    path: str,
    timeout_seconds: float,
    has_ended: Callable[[], Awaitable[bool]],
) -> None:
    """Returns when `GET path` of the host, the app's own, is answered with less than 500.

    Raises DeployFailed(UNHEALTHY) when that does not happen in time, or when there is no answer
    and the app `has_ended`; its reason tells the last answer. A worker, without an address, is well
    when it has lived for `timeout_seconds`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_seconds
    if address is None:
        while loop.time() < deadline:
            if await has_ended():
                raise DeployFailed(FailureCause.CRASHED, "The worker ended at once.")
            await asyncio.sleep(min(_MAX_PAUSE_SECONDS, timeout_seconds))
        return
    pause = _FIRST_PAUSE_SECONDS
    while True:
        seen = await _ask(address, host, path, min(_REQUEST_SECONDS, timeout_seconds))
        if isinstance(seen, int) and seen < 500:
            return
        late = loop.time() + pause > deadline
        if late or (isinstance(seen, str) and await has_ended()):
            raise _unhealthy(seen, path, timeout_seconds)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _MAX_PAUSE_SECONDS)


async def _ask(address: Address, host: str, path: str, timeout_seconds: float) -> int | str:
    """Returns the status of one answer, or a sentence on what went wrong."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _status(address, host, path)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return f"no valid HTTP answer ({type(error).__name__})"


async def _status(address: Address, host: str, path: str) -> int | str:
    """Asks once. Reads no more than the head: the app's answer may have no end."""
    reader, writer = await address.connect(limit=_HEAD_BYTES)
    head = _Head()
    try:
        # HTTP/1.1 with the headers that clients send, as some apps need them.
        headers = f"Host: {host}\r\nAccept: */*\r\nConnection: close\r\n"
        request = f"GET {path} HTTP/1.1\r\n{headers}\r\n"
        writer.write(request.encode())
        read = 0
        while head.status is None and read < _HEAD_BYTES:
            piece = await reader.read(_HEAD_BYTES - read)
            if not piece:
                return "no valid HTTP answer (it hung up)"
            read += len(piece)
            head.take(piece)
    except httptools.HttpParserError as error:
        if head.status is None:
            return f"no valid HTTP answer ({type(error).__name__})"
    finally:
        writer.transport.abort()
    return head.status or "no valid HTTP answer (its head has no end)"


class _Head:
    """Parses an answer's head; `status` is set when the head is complete."""

    def __init__(self) -> None:
        self.status: int | None = None
        self._parser = httptools.HttpResponseParser(self)

    def take(self, piece: bytes) -> None:
        """Parses the next bytes of the answer. Raises HttpParserError."""
        self._parser.feed_data(piece)

    def on_headers_complete(self) -> None:
        """Called by the parser, also for interim answers (1xx)."""
        status = self._parser.get_status_code()
        if status >= 200 and self.status is None:
            self.status = status


def _unhealthy(seen: int | str, path: str, timeout_seconds: float) -> DeployFailed:
    saw = f"it answered {seen}" if isinstance(seen, int) else seen
    return DeployFailed(
        FailureCause.UNHEALTHY,
        f"The app listens but GET {path} was not answered with a status below 500 within "
        f"{timeout_seconds:.0f} s: {saw}. Make GET {path} answer, or set another healthPath, then "
        "deploy again.",
    )


_SHARE_USED_UP = (
    "No certificate is ordered for {host}: the wallet's share of new ones is used up for this "
    "week. Deploy to a name that has one, or again next week; credits stay."
)

_CERTIFICATE_SECONDS = 30.0


class Reconfigured(Exception):
    """The deployment's configuration changed after it was started."""


def plan_of(deployment: Deployment) -> Plan:
    """Returns the plan that its row holds."""
    return msgspec.json.decode(deployment.plan, type=Plan)


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
        sizes: Sizes,
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
        self._sizes = sizes
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

        If its volume was filled (`moved` says so), it is recorded before it is routed, so that what
        visitors store is kept. Raises DeployFailed, LostJob or Reconfigured, after the earlier
        route is restored.
        """
        failpoint("route")
        before = self._addresses.target(project)
        try:
            certified = bool(moved) or await self._route(project, instance)
            failpoint("ready")
            async with self._apps.held(project.id):
                if moved:  # its certificate may have come on the way
                    certified = await self._is_certified(project.id)
                kind = Kind.WORKER if instance.address is None else Kind.WEB
                await self._become_ready(
                    job, deployment, project, note, kind=kind, certified=certified, moved=moved
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

        Returns False if it does so over plain HTTP alone, as no certificate has come. A worker's
        address is routed nowhere, and not asked.
        """
        async with self._apps.held(project.id):
            await self._addresses.route(project, instance.address)
        if instance.address is None:
            return True
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
        kind: Kind,
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
            if current is None or not await projects.set_serving(
                tx, project.id, deployment.id, kind=kind
            ):
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
            current = msgspec.structs.replace(current, kind=kind)
            planned = plan_of(deployment).schedules or ()
            await runs.set_schedules(tx, project.id, planned, now_ms=now_ms)
            await self._tell_ready(tx, current, deployment, now_ms, certified=certified, told=told)
            await self._metering.resize(tx, current, self._sizes.of(deployment.size))
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
        data = {"project_id": project.id, "deployment_id": deployment.id} | deployment.acting
        if project.kind is Kind.WORKER:
            data["kind"] = Kind.WORKER.value
        elif certified:
            data["endpoint"] = self._hosts.url(project.unique_name)
        else:
            data["endpoint"] = f"http://{self.host(project)}"
        if told:
            data["note"] = told
        await events.record(
            tx, wallet=project.wallet, kind=EventKind.DEPLOYMENT_READY, data=data, now_ms=now_ms
        )

    async def _serve(self, tx: Transaction, project: Project, now_ms: int) -> None:
        """Begins billing, or continues it at the price of a project that is awake.

        Suspends it instead when the credits do not pay an hour of it.
        """
        if await self._metering.bills(tx, project.id):
            await self._metering.follow(tx, project)
            return
        was_suspended = project.status is ProjectStatus.SUSPENDED
        if await self._metering.begin_or_suspend(tx, project) and was_suspended:
            await _tell(tx, project, EventKind.PROJECT_RESUMED, now_ms)


def _volume(project: Project) -> tuple[bool, str | None]:
    return project.volume, project.volume_after


def _without_certificate(host: str) -> str:
    return (
        f"No certificate could be had for {host} yet. It is asked for again every ten minutes; "
        f"until it comes, the app is served at http://{host} and nothing is charged for it."
    )


async def _tell(tx: Transaction, project: Project, kind: EventKind, now_ms: int) -> None:
    data = {"project_id": project.id}
    await events.record(tx, wallet=project.wallet, kind=kind, data=data, now_ms=now_ms)
