"""The volumes of projects: a claim each, in their wallets' namespaces.

Only pods reach what is in a volume: one runs `volume_program`, to which the gateway connects.
"""

import asyncio
import errno
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from moorage.archive.tree import Tree
from moorage.clock import Clock
from moorage.engines.engine import Limits, NewVolume
from moorage.engines.failure import not_built, not_carried, not_taken_along
from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster.client import PODS, SECRETS, Cluster, NotFound, Refused
from moorage.engines.kubernetes.cluster.namespaces import requested_bytes
from moorage.engines.kubernetes.cluster.pods import unscheduled
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects.app import DATA
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    PART_LABEL,
    VOLUME_LABEL,
    WALLET_LABEL,
    Part,
    volume_name,
    volume_pod_name,
)
from moorage.engines.kubernetes.objects.pod import (
    USER,
    Manifest,
    PodOptions,
    literal,
    mount,
    on_one_node,
    resources,
    restricted_container,
    restricted_pod,
    secret,
)
from moorage.engines.kubernetes.running.starting import Patience
from moorage.engines.kubernetes.volume_program import ANOTHERS, PORT, REFUSED, TOKEN, TOKEN_LENGTH
from moorage.engines.locks import checked
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.threads import in_thread, to_its_end

CONTAINER = "volume"
_STOP_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class VolumePod:
    """One run."""

    volume_id: str
    wallet: str  # its hash
    namespace: str
    image: str  # Moorage's own
    command: Sequence[str]
    token: str  # who sends it gets the files, or gives them
    user: int = USER  # whom it runs as
    reads: bool  # and writes nothing: an app may be using the volume
    limits: Limits
    timeout_seconds: int

    def labels(self, instance: str) -> dict[str, str]:
        """The labels of its objects."""
        return {
            INSTANCE_LABEL: instance,
            WALLET_LABEL: self.wallet,
            VOLUME_LABEL: self.volume_id,
            PART_LABEL: Part.VOLUME,
        }


def volume_pod_objects(pod: VolumePod, options: PodOptions) -> list[Manifest]:
    """Returns the Secret and the pod, in the order in which to apply them."""
    name, labels = volume_pod_name(pod.volume_id), pod.labels(options.instance)
    return [
        secret(name, pod.namespace, labels=labels, values={TOKEN: pod.token}),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": pod.namespace, "labels": labels},
            "spec": _spec(pod, options),
        },
    ]


def _spec(pod: VolumePod, options: PodOptions) -> Manifest:
    claim = {"claimName": volume_name(pod.volume_id)}
    return {
        **restricted_pod(options, user=pod.user),
        "restartPolicy": "Never",
        "activeDeadlineSeconds": pod.timeout_seconds,
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "affinity": on_one_node({VOLUME_LABEL: pod.volume_id}),
        "containers": [_container(pod)],
        "volumes": [{"name": "data", "persistentVolumeClaim": claim}],
    }


def _container(pod: VolumePod) -> Manifest:
    reference = {"name": volume_pod_name(pod.volume_id), "key": TOKEN}
    return {
        "name": CONTAINER,
        "image": pod.image,
        "imagePullPolicy": "IfNotPresent",
        "command": literal(*pod.command),
        "env": [{"name": TOKEN, "valueFrom": {"secretKeyRef": reference}}],
        "ports": [{"containerPort": PORT}],
        "resources": resources(pod.limits, helps=True),
        "securityContext": restricted_container(),
        "volumeMounts": [mount("data", DATA, read_only=pod.reads)],
    }


Transfer: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Sends or receives an archive over a connection to a pod."""

_PROGRAM = ("python3", "-m", "moorage.engines.kubernetes.volume_program", DATA)
_LEAST_SECONDS = 120
_BYTES_PER_SECOND = 4 * 1024**2  # the least that a volume's disk is believed to do
_MAX_USERS = 3  # the usual one, the owner of the first other file, and one of an earlier version
_HEADERS_BYTES = 64 * 1024**2  # of an archive's entries, beside as much as may be in its files
_PIECE_BYTES = 1 << 20
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
_UNSTARTABLE = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
_ENDING_SECONDS = 60.0
_POLL_SECONDS = 0.2


class AnothersFiles(Exception):
    """Some files of a volume only `user` may read."""

    def __init__(self, user: int) -> None:
        super().__init__(f"user {user} alone may read some of its files")
        self.user = user


@dataclass(frozen=True, kw_only=True)
class VolumePods:
    """Those of one gateway; each runs to its end, and nothing of it is left then."""

    cluster: Cluster
    options: PodOptions
    clock: Clock
    patience: Patience = field(default_factory=Patience)

    async def run(self, pod: VolumePod, transfer: Transfer) -> str:
        """Runs a pod, and `transfer` over a connection to it; returns the pod's last message.

        What ran for the volume before is ended first. Raises AnothersFiles, DeployFailed,
        ClusterUnavailable, OSError.
        """
        await self.end(pod.volume_id)
        try:
            for manifest in volume_pod_objects(pod, self.options):
                await self.cluster.apply(manifest)
            transferring = asyncio.ensure_future(self._transfer(pod, transfer))
            try:
                ended = await self._ended(pod)
            finally:
                transferring.cancel()
                await asyncio.wait({transferring})
        except Refused as error:
            raise _refused(error) from error
        finally:
            await to_its_end(self._clear(pod))
        message = _message_of(ended)
        if transferring.cancelled() or transferring.exception() is not None:
            raise _failed("the connection to its pod was lost")
        return message

    async def end(self, volume_id: str) -> None:
        """Ends what runs for a volume. Raises ClusterUnavailable if that is not over soon."""
        deadline = self.clock.monotonic_seconds() + _ENDING_SECONDS
        while found := await self._pods(volume_id):
            if self.clock.monotonic_seconds() > deadline:
                raise ClusterUnavailable("The cluster does not end the pod of a volume.")
            for pod in found:
                metadata = pod["metadata"]
                place = {"namespace": metadata["namespace"]}
                seen = {"uid": metadata["uid"]}
                await self.cluster.delete(SECRETS, metadata["name"], **place)
                await self.cluster.delete(PODS, metadata["name"], **place, seen=seen)
            await asyncio.sleep(_POLL_SECONDS)

    async def _clear(self, pod: VolumePod) -> None:
        await self.end(pod.volume_id)
        name = volume_pod_name(pod.volume_id)
        await self.cluster.delete(SECRETS, name, namespace=pod.namespace)  # where no pod was made

    async def _pods(self, volume_id: str) -> list[Manifest]:
        labels = {
            INSTANCE_LABEL: self.options.instance,
            PART_LABEL: Part.VOLUME,
            VOLUME_LABEL: volume_id,
        }
        return (await self.cluster.list(PODS, labels=labels)).items

    async def _transfer(self, pod: VolumePod, transfer: Transfer) -> None:
        """Connects to the pod once it listens, and transfers. Is cancelled once the pod ended."""
        name = volume_pod_name(pod.volume_id)
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            found = await self.cluster.get(PODS, name, namespace=pod.namespace)
            if not (address := found.get("status", {}).get("podIP")):
                continue
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    reader, writer = await asyncio.open_connection(address, PORT)
            except OSError:  # it does not listen yet
                continue
            try:
                writer.write(pod.token.encode())
                await transfer(reader, writer)
            finally:
                writer.close()
            return

    async def _ended(self, pod: VolumePod) -> Manifest:
        """Waits for the pod's end; returns it. Raises DeployFailed if it does not come."""
        name, since = volume_pod_name(pod.volume_id), dict[str, float]()
        deadline = self.clock.monotonic_seconds() + pod.timeout_seconds

        def lasts(what: str) -> float:
            now = self.clock.monotonic_seconds()
            return now - since.setdefault(what, now) if what else 0.0

        while True:
            try:
                found = await self.cluster.get(PODS, name, namespace=pod.namespace)
            except NotFound:
                raise _failed("the cluster has lost its pod") from None
            state, status = _state(found), found.get("status", {})
            if "terminated" in state:
                return found
            if status.get("phase") == "Failed":
                raise _failed(status.get("message") or status.get("reason") or "its pod was ended")
            waiting = state.get("waiting") or {}
            obstacle, no_node = waiting.get("reason", ""), unscheduled(found)
            if obstacle in _UNSTARTABLE and lasts(obstacle) > self.patience.pull_seconds:
                raise _failed(f"{obstacle}: {waiting.get('message', '')}")
            if lasts(no_node) > self.patience.schedule_seconds:
                raise _failed("no node takes its pod")
            if self.clock.monotonic_seconds() > deadline:
                raise _failed(f"it took longer than {pod.timeout_seconds} s")
            await asyncio.sleep(_POLL_SECONDS)


class ClaimedVolumes(ABC):
    """The part of the engine that has volumes."""

    _options: ClusterOptions

    @property
    @abstractmethod
    def _shared(self) -> Shared:
        """What deployments share."""

    @property
    @abstractmethod
    def _builder(self) -> ImageBuilder:
        """What knows whom an image's app runs as."""

    @property
    def _volume_pods(self) -> VolumePods:
        shared = self._shared
        return VolumePods(cluster=shared.cluster, options=shared.pods, clock=shared.clock)

    async def volumes(self) -> set[str]:
        """As `Engine.volumes`."""
        return await self._shared.claims.ids()

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        """As `Engine.read_volume`; most volumes have files of one user, who may read all.

        Raises ClusterUnavailable where another try may succeed.
        """
        if written_by:
            raise not_taken_along("its engine keeps none")
        claim = await self._shared.claims.find(checked(volume_id))
        if claim is None:
            return None
        size = requested_bytes(claim) if max_bytes is None else max_bytes
        pod = self._pod(claim, volume_id, "read", str(size), reads=True, size_bytes=size)
        for _ in range(_MAX_USERS):
            received = _Received(target, max_bytes=2 * size + _HEADERS_BYTES)
            try:
                digest, content, entries = (await self._run(pod, received.take)).split()
            except AnothersFiles as error:
                pod = replace(pod, user=error.user)
                continue
            except DeployFailed as error:
                if error.cause is FailureCause.OUT_OF_DISK:  # of the files, at every try
                    raise
                raise ClusterUnavailable(error.reason) from error
            if received.digest != digest:
                raise ClusterUnavailable("The volume's files did not come whole.")
            return Tree(
                path=target, digest=digest, content_bytes=int(content), entries=int(entries)
            )
        raise not_carried("some of its files only one user may read, and some only another")

    async def write_volume(self, volume: NewVolume, tree: Tree) -> None:
        """As `Engine.write_volume`: the files are those of the user as whom the app runs."""
        record = self._shared.observed.record(volume.deployment_id)
        if record is None or not record.is_built:
            raise not_built("make a volume for")
        claims, volume_id = self._shared.claims, checked(volume.volume_id)
        if (old := await claims.find(volume_id)) is not None and await claims.is_used(old):
            raise DeployFailed(FailureCause.INTERRUPTED, "the volume is in use")
        await self.delete_volume(volume_id)
        try:
            async with self._shared.namespaces.made(volume.owner) as namespace:
                await claims.ensure(
                    volume_id,
                    owner=volume.owner,
                    namespace=namespace,
                    size_bytes=volume.size_bytes,
                )
        except Refused as error:
            raise _refused(error) from error
        if (claim := await claims.find(volume_id)) is None:
            raise DeployFailed(FailureCause.INTERRUPTED, "The cluster has no such volume.")
        size = volume.size_bytes
        words = ("write", str(size), tree.digest)
        pod = self._pod(claim, volume_id, *words, reads=False, size_bytes=size)
        user = await self._builder.user(record.image)
        await self._run(replace(pod, user=user), partial(_send, tree.path))

    async def delete_volume(self, volume_id: str, *, unless_used: bool = False) -> None:
        """As `Engine.delete_volume`; a namespace goes with the last that was in it."""
        claims = self._shared.claims
        claim = await claims.find(checked(volume_id))
        if unless_used and (claim is None or await claims.is_used(claim)):
            return
        await self._volume_pods.end(volume_id)
        for namespace in await claims.remove(volume_id):
            await self._shared.namespaces.tidy(namespace)

    async def _run(self, pod: VolumePod, transfer: Transfer) -> str:
        """As `VolumePods.run`, in a namespace with what a volume's pod needs."""
        try:
            await self._shared.namespaces.renew(pod.namespace)
        except Refused as error:
            raise _refused(error) from error
        return await self._volume_pods.run(pod, transfer)

    def _pod(
        self, claim: Manifest, volume_id: str, *words: str, reads: bool, size_bytes: int
    ) -> VolumePod:
        metadata = claim["metadata"]
        return VolumePod(
            volume_id=volume_id,
            wallet=metadata["labels"][WALLET_LABEL],
            namespace=metadata["namespace"],
            image=self._options.own_image,
            command=(*_PROGRAM, *words),
            token=secrets.token_hex(TOKEN_LENGTH // 2),
            reads=reads,
            limits=self._options.app,
            timeout_seconds=_LEAST_SECONDS + size_bytes // _BYTES_PER_SECOND,
        )


class _Received:
    """Writes what a pod sends to a file, in place of an earlier attempt's."""

    def __init__(self, target: Path, *, max_bytes: int) -> None:
        self._target = target
        self._max_bytes = max_bytes
        self.digest = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Reads to the end. Raises OSError for more than may come."""
        del writer
        sha256, size = hashlib.sha256(), 0
        with self._target.open("wb") as file:
            while piece := await asyncio.wait_for(reader.read(_PIECE_BYTES), _SILENCE_SECONDS):
                size += len(piece)
                if size > self._max_bytes:
                    raise OSError(errno.EFBIG, "a volume's archive is too large")
                sha256.update(piece)
                await in_thread(file.write, piece)
        self.digest = f"sha256:{sha256.hexdigest()}"


async def _send(path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del reader
    with path.open("rb") as file:
        while piece := await in_thread(file.read, _PIECE_BYTES):
            writer.write(piece)
            await asyncio.wait_for(writer.drain(), _SILENCE_SECONDS)
    writer.write_eof()


def _state(pod: Manifest) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((it.get("state") or {} for it in statuses if it.get("name") == CONTAINER), {})


def _message_of(pod: Manifest) -> str:
    """Returns the program's last message. Raises AnothersFiles, DeployFailed."""
    ended = _state(pod).get("terminated") or {}
    code, message = int(ended.get("exitCode", 0)), str(ended.get("message", ""))
    if code == 0:
        return message
    if code == ANOTHERS and message.isdecimal():
        raise AnothersFiles(int(message))
    is_its_own = code == REFUSED
    raise _failed(
        message or f"exit code {code}",
        FailureCause.OUT_OF_DISK if is_its_own else FailureCause.INTERRUPTED,
    )


def _failed(why: str, cause: FailureCause = FailureCause.INTERRUPTED) -> DeployFailed:
    return DeployFailed(cause, f"The app's volume can't be moved: {why}.")


def _refused(error: Refused) -> DeployFailed:
    return DeployFailed(FailureCause.NO_CAPACITY, f"The cluster does not take the volume: {error}.")
