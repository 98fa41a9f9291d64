"""Moving: the next version of a project is on another engine, and its volume goes along.

The files are exported and built on the gateway's own engine; the owner pays nothing for that build.
The volume is exported and imported there. It counts once the rows say that the next version serves.
A volume that a project is given, or that an export brings, is filled in the same way.

The version that serves is stopped before its volume is read, and visitors wait until the switch. A
failure before the switch, a crash included, leaves that version with its volume and files; the copy
is removed, and made again by the next attempt.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from moorage.archive.project import VOLUME, part_of
from moorage.archive.tree import Tree
from moorage.clock import Clock
from moorage.engines.engine import BuildSpec, Engine, NewVolume
from moorage.engines.failure import not_carried
from moorage.engines.locks import Locks
from moorage.engines.pair import EnginePair
from moorage.errors import ClusterUnavailable, DatabaseUnavailable, DeployFailed, FailureCause
from moorage.failpoints import failpoint
from moorage.hosting.addresses.addresses import Addresses
from moorage.hosting.entrance.configuration import copied_deployment, queue_deployment
from moorage.hosting.keeping.apps import Apps
from moorage.hosting.limits import app_limits
from moorage.hosting.sources import Sources
from moorage.ledger.metering import Metering
from moorage.planning.plan import Stack
from moorage.records.deployment import Deployment, Job, LostJob, Origin
from moorage.records.project import Project
from moorage.records.size import Sizes
from moorage.storage.apps import deployments, jobs, projects, runs
from moorage.storage.database import Database, Source, Transaction
from moorage.threads import in_thread, to_its_end

log = structlog.get_logger()

BUILT = "built"
"""The step of a job whose deployment can be started."""

TIDY_SECONDS = 60.0
_LAST_REQUESTS_SECONDS = 5.0  # how long requests may take that came before the route was removed
_LAST_RUNS_SECONDS = 60.0  # how long runs may take to end; they have 5 s after SIGTERM
_POLL_SECONDS = 0.05

INSTALLED = frozenset({"node_modules", ".venv", "__pycache__", ".pnpm-store"})
"""Directories that an install makes: they may hold programs for the other engine's machine."""

_TOO_LARGE = (
    "the app's files can't be moved: with the holes of sparse files, or one file under several "
    "names, they are larger than its disk"
)


async def queue_move(
    tx: Transaction, project: Project, serving: Deployment, engine: str, *, now_ms: int
) -> Deployment:
    """Queues a project's move to an engine; it must have no deployment under way."""
    copy = copied_deployment(serving, Origin.CONFIGURATION, now_ms=now_ms)
    moved = msgspec.structs.replace(copy, engine=engine)
    await queue_deployment(tx, project, moved, in_place_of=(), builds=True)
    return moved


async def moves(source: Source, deployment: Deployment) -> bool:
    """Returns whether a copy is to be on another engine than what it is a copy of."""
    if deployment.copy_of is None:
        return False
    origin = await deployments.by_id(source, deployment.copy_of)
    return origin is not None and origin.engine != deployment.engine


async def build_moved(engine: Engine, deployment: Deployment, spec: BuildSpec, own: str) -> None:
    """Exports the files of what a deployment is a copy of, and builds them on the engine `own`.

    Raises DeployFailed as `Engine.build`, and if the deployment is to be on another engine.
    """
    if deployment.engine != own or deployment.copy_of is None:
        raise DeployFailed(
            FailureCause.INTERRUPTED,
            f"This gateway builds with {own}, no longer with {deployment.engine}.",
        )
    if spec.plan.stack is Stack.DOCKERFILE and not engine.capabilities.dockerfiles:
        raise DeployFailed(
            FailureCause.BUILD_FAILED,
            f"A Dockerfile can't be built by {own}: leave it out, and deploy again.",
        )
    await in_thread(_clear, spec.source)
    without = INSTALLED if spec.plan.install else ()
    await engine.export_files(deployment.copy_of, spec.source, without=without)
    await in_thread(_require_to_fit, spec.source, spec.limits.disk_bytes)
    await engine.build(spec)


def _require_to_fit(directory: Path, max_bytes: int) -> None:
    """Raises DeployFailed for files that a build would write out larger than an app's disk."""
    for parent, _, names in os.walk(directory):
        for name in names:
            max_bytes -= os.lstat(f"{parent}/{name}").st_size
            if max_bytes < 0:
                raise DeployFailed(FailureCause.OUT_OF_DISK, _TOO_LARGE)


def _clear(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """From where a volume's content comes, and where to."""

    before: Engine
    after: Engine
    written_by: str = ""  # the deployment whose app has written it; "": it is the volume's own

    @property
    def is_apart(self) -> bool:
        """Whether it goes to another engine."""
        return self.before is not self.after


class VolumeMoves:
    """Fills volumes for deployments that are being started."""

    def __init__(
        self,
        *,
        db: Database,
        runtime: Engine,
        scratch: Path,
        reserve_bytes: int,
        addresses: Addresses,
        apps: Apps,
        metering: Metering,
        locks: Locks,
        sources: Sources,
        sizes: Sizes,
        clock: Clock,
    ) -> None:
        """`locks` are those of volumes, for exports as well.

        `scratch` is a directory for archives that are under way, which need not exist;
        `reserve_bytes` of its disk are not for them.
        """
        self._db = db
        self._runtime = runtime
        self._pair = runtime if isinstance(runtime, EnginePair) else None
        self._apart = None if self._pair is None or self._pair.shares_volumes else self._pair
        self._scratch = scratch
        self._sources = sources
        self._reserve_bytes = reserve_bytes
        self._under_way = 0
        self._addresses = addresses
        self._apps = apps
        self._metering = metering
        self._sizes = sizes
        self._clock = clock
        self._locks = locks

    @asynccontextmanager
    async def moved(self, job: Job, deployment: Deployment, project: Project) -> AsyncIterator[str]:
        """Fills the volume that the deployment is to have; gives a sentence about it.

        Gives "" where there is nothing to fill it with. Otherwise the version that serves is
        stopped, until the rows say that the deployment serves, or the block fails. An export of the
        volume is waited for. Raises DeployFailed, LostJob, OSError, ClusterUnavailable.
        """
        if not project.volume:
            yield ""
            return
        if project.serving_deployment_id is None and await self._begin(job, deployment, project):
            yield "The app's volume, /data, began with what the export had."
            return
        if self._locks.is_held(project.id):
            log.info("a move waits for an export of the volume", project=project.id)
        async with self._locks.alone(project.id):
            way = await self._way(deployment, project)
            if way is None:
                yield ""
                return
            async with self._filled(job, deployment, project, way) as tree:
                yield _sentence(way, tree)
        await self._tidy_safely(project.id)

    async def _begin(self, job: Job, deployment: Deployment, project: Project) -> bool:
        """Fills the volume of a project of which nothing has served, if an export brought one."""
        path = await self._sources.volume(deployment.id)
        if path is None:
            return False
        part = await in_thread(part_of, path, name=VOLUME)
        tree = Tree(path=path, digest=f"sha256:{part.sha256}", content_bytes=0, entries=0)
        await self._runtime.stop(deployment.id)  # an attempt that was cut off may have begun it
        async with self._apps.held(project.id), self._db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, jobs.MOVING)  # nothing clears it from now on
        await self._runtime.write_volume(self._new(deployment, project), tree)
        failpoint("volume begun")
        return True

    def _new(self, deployment: Deployment, project: Project) -> NewVolume:
        return NewVolume(
            volume_id=project.id,
            owner=project.wallet,
            deployment_id=deployment.id,
            size_bytes=self._size_bytes(deployment),
        )

    def _size_bytes(self, deployment: Deployment) -> int:
        return app_limits(self._sizes.of(deployment.size)).volume_bytes

    async def tidy(self) -> None:
        """Removes what moves have left of volumes where these do not count, and their archives.

        One that stays holds up no other. Raises ClusterUnavailable, OSError.
        """
        for volume_id in await in_thread(self._archives):
            if not self._locks.is_held(volume_id):
                async with self._locks.alone(volume_id):
                    await self._discard_archive(volume_id)
        if self._apart is None:
            return
        for volume_id in await self._apart.own.volumes() & await self._apart.leaving.volumes():
            if not self._locks.is_held(volume_id):
                await self._tidy_safely(volume_id)

    async def _way(self, deployment: Deployment, project: Project) -> _Way | None:
        """Returns from where the deployment's volume is to be filled; None if from nowhere."""
        serving = project.serving_deployment_id
        if serving is None:  # what failed before it served has left nothing that counts
            await self._forget_copy(project.id, beside=deployment.id)
            return None
        before = after = self._runtime
        if self._pair is not None:
            before = await self._pair.engine_of(serving)
            after = await self._pair.engine_of(deployment.id)
        if project.volume_begins:
            keeps = before.capabilities.written_files
            return _Way(before=before, after=after, written_by=serving) if keeps else None
        if self._apart is None or before is after or project.id not in await before.volumes():
            return None
        return _Way(before=before, after=after)

    @asynccontextmanager
    async def _filled(
        self, job: Job, deployment: Deployment, project: Project, way: _Way
    ) -> AsyncIterator[Tree | None]:
        try:
            await self._runtime.stop(deployment.id)  # an attempt that was cut off may have begun it
            with self._archive_room(deployment), self._closed(project.id, way):
                await self._stop(job, project, way)
                if way.written_by and way.written_by == deployment.copy_of and not way.is_apart:
                    await self._runtime.copy(way.written_by, deployment.id)  # with its last files
                tree = await self._copy(deployment, project, way)
                failpoint("volume moved")
                yield tree
        except BaseException:
            await to_its_end(self._take_back(job, deployment, project, way))
            raise

    async def _copy(self, deployment: Deployment, project: Project, way: _Way) -> Tree | None:
        """Exports the content, which nothing uses, and imports it where the deployment is."""
        directory = self._scratch / project.id
        try:
            await in_thread(_make_empty, directory)
            tree = await way.before.read_volume(
                project.id,
                directory / "volume.tar.gz",
                max_bytes=self._size_bytes(deployment),
                written_by=way.written_by,
            )
            failpoint("volume exported")
            if tree is not None:
                await way.after.write_volume(self._new(deployment, project), tree)
            return tree
        finally:
            await self._discard_archive(project.id)

    @contextmanager
    def _archive_room(self, deployment: Deployment) -> Iterator[None]:
        """Holds room for an archive of a whole volume. Raises DeployFailed if there is none."""
        size_bytes = self._size_bytes(deployment)
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        needed = size_bytes + self._under_way + self._reserve_bytes
        if needed > shutil.disk_usage(self._scratch).free:
            raise not_carried("the gateway's disk has no room for an archive of it")
        self._under_way += size_bytes
        try:
            yield
        finally:
            self._under_way -= size_bytes

    @contextmanager
    def _closed(self, volume_id: str, way: _Way) -> Iterator[None]:
        """Within the block, no app is started where the volume comes from."""
        if self._apart is None:
            yield
            return
        with self._apart.closed(volume_id, way.before):
            yield

    async def _stop(self, job: Job, project: Project, way: _Way) -> None:
        """Stops all apps that may use the old volume, after they have answered their requests.

        The job's row says that none may be started, so a restarted gateway knows it too. Until an
        app of the project is started, nothing is billed.
        """
        async with self._apps.held(project.id):
            async with self._db.transaction(durable=True) as tx:
                await jobs.hold(tx, job, jobs.MOVING)
            await self._addresses.unroute(project)
        failpoint("volume held")
        await self._until_runs_end(project.id)
        known = await way.before.known()
        for each in await deployments.of_project(self._db, project.id):
            if each.id in known:
                await self._apps.app(each.id).end()
                await self._until_idle(way.before, each.id)
                await way.before.stop(each.id)
        async with self._db.transaction(durable=True) as tx:
            await jobs.hold(tx, job, jobs.MOVING)
            await self._unbill(tx, project.id)

    async def _unbill(self, tx: Transaction, project_id: str) -> None:
        """Ends the billing of a project whose app was stopped; one that slept sleeps on."""
        current = await projects.by_id(tx, project_id)
        if current is None or current.asleep_since_ms is not None:
            return
        await self._metering.end(tx, project_id)
        await deployments.set_down(
            tx,
            project_id,
            serving=current.serving_deployment_id or "",
            since_ms=self._clock.now_ms(),
        )

    async def _until_runs_end(self, project_id: str) -> None:
        """Waits for the project's runs, which see that it moves. Raises ClusterUnavailable."""
        deadline = self._clock.monotonic_seconds() + _LAST_RUNS_SECONDS
        while await runs.holds(self._db, project_id):
            if self._clock.monotonic_seconds() > deadline:
                raise ClusterUnavailable("A run of the project does not end.")
            await asyncio.sleep(_POLL_SECONDS)

    async def _until_idle(self, engine: Engine, deployment_id: str) -> None:
        deadline = self._clock.monotonic_seconds() + _LAST_REQUESTS_SECONDS
        while await engine.connections(deployment_id) != 0:
            if self._clock.monotonic_seconds() > deadline:
                return
            await asyncio.sleep(_POLL_SECONDS)

    async def _take_back(
        self, job: Job, deployment: Deployment, project: Project, way: _Way
    ) -> None:
        """Has the old volume count again, unless by the rows the new one does.

        They are read in a transaction that writes: it waits for one whose outcome is not known.
        """
        try:
            async with self._db.transaction(durable=True) as tx:
                current = await projects.by_id(tx, project.id)
            if current is None or current.serving_deployment_id == deployment.id:
                return
            try:
                await self._runtime.stop(deployment.id)
                await way.after.delete_volume(project.id)
            except (ClusterUnavailable, DeployFailed, OSError) as error:
                log.warning(
                    "the copy of a volume stays for now", project=project.id, error=str(error)
                )
            with suppress(LostJob):
                async with self._db.transaction(durable=True) as tx:
                    await jobs.hold(tx, job, BUILT)
            app = self._apps.app(current.serving_deployment_id or "")
            app.was_woken = True  # its start is no restart of an app that has ended
            app.used_at = self._clock.monotonic_seconds()  # visitors could not use it meanwhile
            app.reset_pause("start")
        except DatabaseUnavailable as error:
            log.warning("a volume waits for the database", project=project.id, error=error.message)

    async def _tidy_safely(self, project_id: str) -> None:
        try:
            await self._tidy(project_id)
        except (ClusterUnavailable, DatabaseUnavailable, OSError) as error:
            log.warning("the old volume stays for now", project=project_id, error=str(error))

    async def _tidy(self, project_id: str) -> None:
        """Removes a volume from the engine that does not have what serves, if that one has it."""
        async with self._locks.alone(project_id):
            project = await projects.by_id(self._db, project_id)
            serving = None if project is None else project.serving_deployment_id
            if self._apart is None or serving is None:
                return
            engine = await self._apart.engine_of(serving)
            if serving in await engine.known() and project_id in await engine.volumes():
                await self._forget_copy(project_id, beside=serving)

    async def _forget_copy(self, volume_id: str, *, beside: str) -> None:
        """Removes a volume from the engine that does not have a deployment."""
        if self._apart is None:
            return
        other = self._apart.other(await self._apart.engine_of(beside))
        if volume_id in await other.volumes():
            await other.delete_volume(volume_id)

    def _archives(self) -> set[str]:
        return {it.name for it in self._scratch.iterdir()} if self._scratch.is_dir() else set()

    async def _discard_archive(self, volume_id: str) -> None:
        await in_thread(shutil.rmtree, self._scratch / volume_id, ignore_errors=True)


def _make_empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)  # of an attempt that was cut off
    directory.mkdir(mode=0o700, parents=True)


def _sentence(way: _Way, tree: Tree | None) -> str:
    if tree is None:
        return ""
    if way.written_by:
        return (
            "The app's new volume, /data, began with what the version before had written below "
            "/app, at the same paths."
        )
    return (
        f"The app's volume was moved with it: {tree.entries:,} files, "
        f"{tree.content_bytes / 1024**2:,.1f} MiB."
    )
