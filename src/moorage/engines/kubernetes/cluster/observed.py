"""What is known of the cluster: pods, endpoints and records, by deployment, and how old that is.

What concerns all apps reads the copies, which are renewed each minute and refuse to
answer when they are too old. Before anything is decided about one app, `refresh` asks the cluster.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from moorage.address import Address
from moorage.clock import Clock
from moorage.engines.engine import Instance
from moorage.engines.kubernetes.cluster import pods
from moorage.engines.kubernetes.cluster.client import CONFIG_MAPS, ENDPOINT_SLICES, PODS
from moorage.engines.kubernetes.cluster.mirror import Key, Mirror, Source
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.objects.app import PORT
from moorage.engines.kubernetes.objects.labels import (
    DEPLOYMENT_LABEL,
    INSTANCE_LABEL,
    PART_LABEL,
    Part,
    record_name,
)
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.engines.kubernetes.running import record
from moorage.engines.kubernetes.running.record import Record


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """An EndpointSlice: the pods of one app that are ready, by name, and their addresses."""

    namespace: str
    name: str
    deployment_id: str
    port: int
    ready: frozenset[tuple[str, str]] = frozenset()


def read_endpoints(manifest: Manifest) -> Endpoints:
    """Reads what the API has of an EndpointSlice."""
    metadata = manifest["metadata"]
    ports = {it.get("name"): it.get("port") for it in manifest.get("ports") or ()}
    return Endpoints(
        namespace=metadata["namespace"],
        name=metadata["name"],
        deployment_id=metadata.get("labels", {}).get(DEPLOYMENT_LABEL, ""),
        port=ports.get(PORT) or 0,
        ready=frozenset(
            (endpoint.get("targetRef", {}).get("name", ""), address)
            for endpoint in manifest.get("endpoints") or ()
            if endpoint.get("conditions", {}).get("ready")
            for address in endpoint["addresses"]
        ),
    )


def instance_of(pods: Collection[Pod], slices: Iterable[Endpoints]) -> Instance | None:
    """Returns the running app of one deployment.

    Pods and endpoints come by ways of their own, either of which may be late: an app that listens
    runs only where both say that it is ready.
    """
    for pod in pods:
        if pod.log is not None and pod.is_running and not pod.is_ending:
            return Instance(deployment_id=pod.deployment_id, address=None, port=None)
    serving = {pod.name: pod for pod in pods if pod.is_ready and not pod.is_ending}
    found = [
        (serving[name].created, name, address, endpoints)
        for endpoints in slices
        for name, address in endpoints.ready
        if endpoints.port and name in serving and serving[name].ip == address
    ]
    if not found:
        return None
    _, _, address, endpoints = max(found, key=lambda it: it[:3])
    host = f"[{address}]" if ":" in address else address
    return Instance(
        deployment_id=endpoints.deployment_id,
        address=Address(f"{host}:{endpoints.port}"),
        port=endpoints.port,
    )


class Named(Protocol):
    """What all that is copied has."""

    @property
    def namespace(self) -> str:
        """Where it is."""
        ...

    @property
    def deployment_id(self) -> str:
        """Whose it is."""
        ...


N = TypeVar("N", bound=Named)


class _OfDeployments(Generic[N]):
    """Objects by deployment, as a mirror reports their changes."""

    def __init__(self, key: Callable[[N], Key]) -> None:
        self._key = key
        self._found: dict[str, dict[Key, N]] = {}

    def change(self, before: N | None, after: N | None) -> None:
        """Takes in a change."""
        if before is not None:
            own = self._found.get(before.deployment_id, {})
            own.pop(self._key(before), None)
            if not own:
                self._found.pop(before.deployment_id, None)
        if after is not None:
            self._found.setdefault(after.deployment_id, {})[self._key(after)] = after

    def of(self, deployment_id: str) -> dict[Key, N]:
        """Returns a deployment's objects."""
        return self._found.get(deployment_id, {})

    def ids(self) -> set[str]:
        """Returns the deployments that have some."""
        return set(self._found)


class Observed:
    """The copies, and who waits for a change.

    `on_pod` is called with the former and the new state of each pod that changes.
    """

    def __init__(
        self,
        source: Source,
        *,
        instance: str,
        clock: Clock,
        on_pod: Callable[[Pod | None, Pod | None], None],
    ) -> None:
        self._on_pod = on_pod
        self._events: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._pods: _OfDeployments[Pod] = _OfDeployments(_key_of_pod)
        self._endpoints: _OfDeployments[Endpoints] = _OfDeployments(_key_of_endpoints)
        self._records: _OfDeployments[Record] = _OfDeployments(_key_of_record)

        def labels(part: str) -> Mapping[str, str]:
            return {INSTANCE_LABEL: instance, PART_LABEL: part}

        self._pod_mirror = Mirror(
            source,
            PODS,
            labels=labels(Part.APP),
            parse=pods.parse,
            changed=self._pod_changed,
            clock=clock,
        )
        self._endpoint_mirror = Mirror(
            source,
            ENDPOINT_SLICES,
            labels=labels(Part.APP),
            parse=read_endpoints,
            changed=self._endpoints_changed,
            clock=clock,
        )
        self._record_mirror = Mirror(
            source,
            CONFIG_MAPS,
            labels=labels(Part.RECORD),
            parse=record.parse,
            changed=self._record_changed,
            clock=clock,
        )
        self._mirrors = (self._pod_mirror, self._endpoint_mirror, self._record_mirror)

    async def open(self) -> None:
        """Lists everything, then follows it. Raises ClusterUnavailable, Refused."""
        for mirror in self._mirrors:
            await mirror.relist()
        self._tasks = [asyncio.create_task(mirror.run()) for mirror in self._mirrors]

    async def close(self) -> None:
        """Ends the following."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    def require_fresh(self) -> None:
        """Raises ClusterUnavailable if any of the copies is too old."""
        for mirror in self._mirrors:
            mirror.require_fresh()

    def known(self) -> set[str]:
        """Returns the deployments that have a record. Raises ClusterUnavailable."""
        self._record_mirror.require_fresh()
        return self._records.ids()

    def records(self) -> list[Record]:
        """Returns all records. Raises ClusterUnavailable."""
        return list(self._record_mirror)

    def record(self, deployment_id: str) -> Record | None:
        """Returns a deployment's record. Raises ClusterUnavailable."""
        self._record_mirror.require_fresh()
        return next(iter(self._records.of(deployment_id).values()), None)

    def pods(self, deployment_id: str) -> list[Pod]:
        """Returns a deployment's pods, those that are ending too. Raises ClusterUnavailable."""
        self._pod_mirror.require_fresh()
        return list(self._pods.of(deployment_id).values())

    def instance(self, deployment_id: str) -> Instance | None:
        """Returns an app if it runs, and listens if it is to. Raises ClusterUnavailable."""
        self._endpoint_mirror.require_fresh()
        found = self._endpoints.of(deployment_id).values()
        return instance_of(self.pods(deployment_id), found)

    def instances(self) -> dict[str, Instance]:
        """Returns all apps that run, and listen if they are to, by deployment.

        Raises ClusterUnavailable.
        """
        self.require_fresh()
        without_port = {pod.deployment_id for pod in self._pod_mirror if pod.log is not None}
        found = {name: self.instance(name) for name in self._endpoints.ids() | without_port}
        return {name: instance for name, instance in found.items() if instance is not None}

    async def refresh(self, deployment_id: str) -> None:
        """Asks the cluster for a deployment's pods and endpoints. Raises ClusterUnavailable."""
        known = self.record(deployment_id)
        if known is None:
            return
        labels = {DEPLOYMENT_LABEL: deployment_id}
        await self._pod_mirror.refresh(
            namespace=known.namespace, labels=labels, known=[*self._pods.of(deployment_id)]
        )
        await self._endpoint_mirror.refresh(
            namespace=known.namespace, labels=labels, known=[*self._endpoints.of(deployment_id)]
        )

    def put_record(self, manifest: Manifest) -> None:
        """Takes in a record that the server has just stored."""
        self._record_mirror.put(manifest)

    def drop_record(self, known: Record) -> None:
        """Takes out a record that the server has just deleted."""
        self._record_mirror.drop(_key_of_record(known))

    async def changes(self, deployment_id: str, *, seconds: float) -> bool:
        """Waits until anything of a deployment changes, or so long; returns whether it did."""
        event = self._events.setdefault(deployment_id, asyncio.Event())
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        return True

    def _pod_changed(self, before: Pod | None, after: Pod | None) -> None:
        self._pods.change(before, after)
        self._wake(before, after)
        self._on_pod(before, after)

    def _endpoints_changed(self, before: Endpoints | None, after: Endpoints | None) -> None:
        self._endpoints.change(before, after)
        self._wake(before, after)

    def _record_changed(self, before: Record | None, after: Record | None) -> None:
        self._records.change(before, after)
        self._wake(before, after)

    def _wake(self, before: Named | None, after: Named | None) -> None:
        for it in (before, after):
            if it is not None and (event := self._events.pop(it.deployment_id, None)) is not None:
                event.set()


def _key_of_pod(pod: Pod) -> Key:
    return pod.namespace, pod.name


def _key_of_endpoints(found: Endpoints) -> Key:
    return found.namespace, found.name


def _key_of_record(found: Record) -> Key:
    return found.namespace, record_name(found.deployment_id)
