"""The Kubernetes engine: BuildKit builds, and a Deployment of one pod runs each app.

Moorage starts apps again when they end: a pod whose app has ended is replaced by a new one, with
the pauses of `hosting.keeping.restarts`, and the Deployment of an app that ends while it starts is
scaled to no pods. While no gateway runs, the kubelet starts an ended container again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import msgspec

from moorage.engines.disks.disk import free_bytes
from moorage.engines.engine import (
    AppExit,
    AppState,
    BuildSpec,
    Incident,
    IncidentKind,
    Instance,
    InstanceSpec,
    Keep,
    Resources,
    Usage,
    WrittenFiles,
)
from moorage.engines.failure import not_built
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.images.registry import RegistryFailed
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes import self_test
from moorage.engines.kubernetes.cluster.client import NODES, PODS, Cluster, Refused
from moorage.engines.kubernetes.cluster.pods import Pod, has_ended, newest
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.kind import CAPABILITIES
from moorage.engines.kubernetes.objects.labels import INSTANCE_LABEL, PART_LABEL, Part
from moorage.engines.kubernetes.opening import MakeBuilder, connected, require_permissions, trial_of
from moorage.engines.kubernetes.running import app
from moorage.engines.kubernetes.running.record import Record
from moorage.engines.kubernetes.running.starting import Patience
from moorage.engines.kubernetes.running.usage import Meter, allocatable
from moorage.engines.kubernetes.volumes import ClaimedVolumes
from moorage.engines.locks import Locks, checked
from moorage.engines.logs.logs import LogReading, Logs
from moorage.engines.logs.store import OUT
from moorage.errors import ClusterUnavailable, IsolationMissing
from moorage.loop import Keeps
from moorage.records.deployment import LogKind
from moorage.threads import in_thread, to_its_end


class Leftovers:
    """Those of all wallets, of which one is checked at a time."""

    def __init__(self, shared: Shared, builder: ImageBuilder, locks: Locks) -> None:
        """`locks` are those of deployments."""
        self._shared = shared
        self._builder = builder
        self._locks = locks
        self._last = ""

    async def remove_next(self) -> None:
        """Checks the next wallet. Raises ClusterUnavailable, Refused, OSError."""
        wallets = await self._shared.namespaces.wallets()
        if not wallets:
            return
        self._last = min((it for it in wallets if it > self._last), default=min(wallets))
        await self._remove_images(wallets[self._last], self._last)
        await self._shared.namespaces.tidy(self._last)

    async def _remove_images(self, wallet: str, namespace: str) -> None:
        found = await self._builder.stored(wallet)
        for deployment_id in sorted(found - self._shared.observed.known()):
            if self._locks.is_held(deployment_id):
                continue  # it is being made
            async with self._locks.alone(deployment_id):
                records = await self._shared.namespaces.records(namespace)
                if deployment_id not in {it.deployment_id for it in records}:
                    self._shared.cluster.require_leader()
                    await self._builder.remove(wallet, deployment_id)


logger = logging.getLogger(__name__)


class KubernetesEngine(ClaimedVolumes, LogReading):
    """An `Engine` of a Deployment for each app, in a namespace for each wallet."""

    capabilities = CAPABILITIES

    def __init__(
        self,
        configuration: HostConfiguration,
        options: ClusterOptions,
        *,
        keeps: Keeps | None,
        make_builder: MakeBuilder,
        patience: Patience = Patience(),  # noqa: B008 (frozen)
        upkeep_seconds: float = 60.0,
    ) -> None:
        """`keeps` says whether this gateway still runs the apps; without it, it only asks."""
        self._configuration = configuration
        self._options = options
        self._keeps = keeps
        self._make_builder = make_builder
        self._patience = patience
        self._upkeep_seconds = upkeep_seconds
        self._opened: Shared | None = None
        self._stack = AsyncExitStack()  # of what is open beside
        self._built_by: ImageBuilder | None = None
        self._locks = Locks()
        self._meter = Meter()
        self._memory_bytes = self._cpu_millis = 0  # of all nodes, for pods
        self._maintaining: asyncio.Task[None] | None = None

    async def open(self) -> str:
        """As `Engine.open`: also proves by a pod that pods are isolated."""
        configuration, options = self._configuration, self._options
        shared = connected(configuration, options, keeps=self._keeps, on_pod=self._pod_changed)
        cluster = shared.cluster
        try:
            version = await cluster.version()
            await require_permissions(cluster)
            if self._keeps:
                trial = trial_of(configuration, options)
                try:
                    await self_test.require_isolation(cluster, trial, shared.clock)
                except self_test.NoNode as error:
                    labels = {INSTANCE_LABEL: shared.instance, PART_LABEL: Part.APP.value}
                    if not (await cluster.list(PODS, labels=labels)).items:
                        raise
                    logger.warning("as apps run, the gateway starts all the same: %s", error)
                builder = self._make_builder(cluster)
                self._built_by = await self._stack.enter_async_context(builder)
            shared.logs.deployments.mkdir(parents=True, exist_ok=True, mode=0o700)
            configuration.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            await self._measure(cluster)
            self._opened = shared
            await shared.observed.open()
        except (ClusterUnavailable, Refused) as error:
            await self._close(shared)
            raise IsolationMissing((f"{error}",)) from error
        except BaseException:
            await self._close(shared)
            raise
        self._maintaining = asyncio.create_task(self._maintain(shared))
        return f"kubernetes: {version}, restricted pods, network policies"

    async def check(self) -> None:
        """As `Engine.check`: the cluster answers, and says what runs."""
        if self._opened is None:
            raise IsolationMissing(("the engine is closed",))
        try:
            await self._opened.cluster.uid()
            self._opened.observed.require_fresh()
        except (ClusterUnavailable, Refused) as error:
            raise IsolationMissing((f"{error}",)) from error

    async def close(self, *, stop_apps: bool) -> None:
        """As `Engine.close`."""
        if self._maintaining is not None:
            self._maintaining.cancel()
            with suppress(asyncio.CancelledError):
                await self._maintaining
            self._maintaining = None
        shared = self._opened
        if shared is None:
            return
        try:
            if stop_apps:
                await asyncio.gather(*map(self.stop, shared.observed.known()))
                kept = await shared.namespaces.wallets()
                await asyncio.gather(*map(shared.namespaces.tidy, kept))
        finally:
            await self._close(shared)

    async def build(self, spec: BuildSpec) -> None:
        """As `Engine.build`: leaves an image in the registry."""
        shared = self._shared

        async def log(lines: Sequence[str]) -> None:
            texts = [line.encode("utf-8", "replace") for line in lines]
            logs, now_ms = shared.logs.of(spec.deployment_id), shared.clock.now_ms()
            await in_thread(logs.append, LogKind.BUILD, OUT, texts, at_ms=now_ms)

        async with self._making(spec.deployment_id, owner=spec.owner) as finish:
            built = await self._builder.build(spec, log)
            await finish(built)

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """As `Engine.copy`: another name for the same image."""
        shared = self._shared
        origin = shared.observed.record(checked(origin_id))
        if origin is None or not origin.is_built:
            raise not_built("copy")
        async with self._making(deployment_id, beside=origin) as finish:
            built = await self._builder.copy(origin.image, deployment_id)
            await shared.logs.copy(origin_id, deployment_id, LogKind.BUILD)
            await finish(built)

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """As `Engine.start`. Raises ClusterUnavailable, after which the app may run."""
        shared = self._shared
        async with self._locks.alone(checked(spec.deployment_id)):
            await app.require_volume(shared, spec)
            record = shared.observed.record(spec.deployment_id)
            if record is None or not record.is_built:
                raise not_built("start")
            await shared.observed.refresh(spec.deployment_id)
            if (found := shared.observed.instance(spec.deployment_id)) is not None:
                return found
            try:
                record = await app.launch(shared, record, spec, timeout_seconds=timeout_seconds)
                return await app.wait_ready(
                    shared,
                    record,
                    spec,
                    timeout_seconds=timeout_seconds,
                    patience=self._patience,
                )
            except ClusterUnavailable:
                raise  # what runs is not known: nothing is stopped on that account
            except BaseException:
                await to_its_end(self._halt(spec.deployment_id))
                raise

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        """As `Engine.stop`; the wallet's namespace goes with the last of its deployments."""
        shared = self._shared
        async with self._locks.alone(checked(deployment_id)):
            if keep is Keep.ALL:
                await to_its_end(self._halt(deployment_id))
                return
            record = await to_its_end(self._discard(deployment_id))
            if keep is Keep.LOGS:
                return
            await shared.logs.remove(deployment_id)
            if record is not None:
                await shared.forget(record)
        if record is not None:
            await shared.namespaces.tidy(record.namespace)

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """As `Engine.export_files`: what the image has in `/app`."""
        record = self._shared.observed.record(checked(deployment_id))
        if record is None or not record.is_built:
            raise not_built("move")
        max_bytes = self._options.build.disk_bytes
        await self._builder.fetch_files(record.image, target, without=without, max_bytes=max_bytes)

    async def running(self) -> dict[str, Instance]:
        """As `Engine.running`. Raises ClusterUnavailable."""
        return self._shared.observed.instances()

    async def inspect(self, deployment_id: str) -> AppState:
        """As `Engine.inspect`: asks the cluster. Raises ClusterUnavailable."""
        observed = self._shared.observed
        await observed.refresh(checked(deployment_id))
        if (instance := observed.instance(deployment_id)) is not None:
            return AppState(instance=instance)
        return AppState(exit=await self._exit(deployment_id))

    async def known(self) -> set[str]:
        """As `Engine.known`: those with a record, or with logs here. Raises ClusterUnavailable."""
        shared = self._shared
        return shared.observed.known() | {path.name for path in shared.logs.deployments.iterdir()}

    async def next_incident(self) -> Incident:
        """As `Engine.next_incident`: ends of apps, and lost volumes."""
        return await self._shared.incidents.get()

    async def connections(self, deployment_id: str) -> int | None:
        """As `Engine.connections`: a cluster does not count who is connected to an app."""
        found = self._shared.observed.instance(checked(deployment_id))
        return 0 if found is None or found.address is None else None

    async def usage(self) -> dict[str, Usage]:
        """As `Engine.usage`: what the metrics API has; nothing where there is none."""
        used = await self._meter.read(self._shared.cluster, instance=self._shared.instance)
        running = self._shared.observed.instances()
        return {name: usage for name, usage in used.items() if name in running}

    async def _exit(self, deployment_id: str) -> AppExit | None:
        """Returns how an app ended; None while it runs, or if it was never started."""
        shared = self._shared
        record = shared.observed.record(deployment_id)
        if record is None or record.stage is not Stage.STARTED:
            return None
        pod = newest(shared.observed.pods(deployment_id))
        ended = record.exit if pod is None else pod.end
        if pod is None and ended is None and not self._locks.is_held(deployment_id):
            ended = AppExit(exit_code=None, out_of_memory=False)
        if ended is not None:
            await shared.followers.drained(deployment_id)
        return ended

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        """As `Engine.written`: nothing, as an app can only write in memory and to its volume."""
        if self._shared.observed.record(checked(deployment_id)) is None:
            return None
        return WrittenFiles(files=0, size_bytes=0, complete=True)

    async def resources(self) -> Resources:
        """As `Engine.resources`: what the nodes have for pods, and the gateway's own disk.

        The cluster's disks are bounded by quotas.
        """
        return Resources(
            memory_bytes=self._memory_bytes,
            cpu_millis=self._cpu_millis,
            free_bytes=await in_thread(free_bytes, self._shared.logs.deployments),
        )

    @property
    def _shared(self) -> Shared:
        if self._opened is None:
            raise RuntimeError("the engine is not open")
        return self._opened

    @property
    def _builder(self) -> ImageBuilder:
        if self._built_by is None:
            raise RuntimeError("this gateway does not keep the apps")
        return self._built_by

    def _logs(self, deployment_id: str) -> Logs:
        return self._shared.logs.of(checked(deployment_id))

    async def _readable(self, deployment_id: str, kind: LogKind) -> Logs:
        return await self._shared.logs.readable(checked(deployment_id), kind)

    async def _close(self, shared: Shared) -> None:
        await shared.observed.close()
        await shared.followers.close()
        await shared.logs.close()
        await self._stack.aclose()
        await shared.cluster.close()
        self._opened = None

    @asynccontextmanager
    async def _making(
        self, deployment_id: str, *, owner: str = "", beside: Record | None = None
    ) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
        """Begins a record, in stage BUILDING; gives what finishes it with the image's name.

        On errors the build has failed, and only its log is kept. One that is cancelled stays as it
        is: another gateway may have begun it again.
        """
        shared = self._shared
        async with self._locks.alone(checked(deployment_id)):
            await to_its_end(self._discard(deployment_id))
            record = await app.begin(shared, deployment_id, owner=owner, beside=beside)

            async def finish(image: str) -> None:
                built = msgspec.structs.replace(record, stage=Stage.BUILT, image=image)
                await shared.store(built)

            try:
                yield finish
            except Exception as error:
                failed = msgspec.structs.replace(record, stage=Stage.FAILED)
                await to_its_end(shared.store(failed))
                if isinstance(error, RegistryFailed):
                    raise ClusterUnavailable("The gateway's registry of images failed.") from error
                raise
            finally:
                await shared.logs.publish(deployment_id)

    async def _halt(self, deployment_id: str) -> None:
        record = self._shared.observed.record(deployment_id)
        if record is not None and record.stage is Stage.STARTED:
            await app.halt(self._shared, record)

    async def _discard(self, deployment_id: str) -> Record | None:
        """Ends the app, removes all but the logs and the record, which it returns."""
        shared = self._shared
        record = shared.observed.record(deployment_id)
        if record is None:
            return None
        await self._halt(deployment_id)
        await app.remove_objects(shared, record)
        shared.cluster.require_leader()
        if record.stage is not Stage.FAILED:
            await self._builder.remove(record.wallet, deployment_id)
        failed = msgspec.structs.replace(record, stage=Stage.FAILED, image="")
        return await shared.store(failed) if failed != record else record

    def _pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        if not self._keeps:
            return
        self._shared.followers.see(before, after)
        if before is None or not has_ended(before, after):
            return
        if not self._locks.is_held(before.deployment_id):
            ended = Incident(before.deployment_id, IncidentKind.ENDED)
            self._shared.incidents.put_nowait(ended)

    async def _maintain(self, shared: Shared) -> None:
        """Measures the cluster again each minute, and removes what is left over."""
        tasks: list[Callable[[], Awaitable[None]]] = [partial(self._measure, shared.cluster)]
        if self._keeps:
            tasks.append(Leftovers(shared, self._builder, self._locks).remove_next)
        while True:
            await asyncio.sleep(self._upkeep_seconds)
            for task in tasks:
                try:
                    await task()
                except Exception as error:  # noqa: BLE001 (the next minute tries again)
                    logger.warning("the cluster is not maintained: %r", error)

    async def _measure(self, cluster: Cluster) -> None:
        nodes = (await cluster.list(NODES)).items
        self._memory_bytes = int(allocatable(nodes, "memory"))
        self._cpu_millis = int(1000 * allocatable(nodes, "cpu"))
