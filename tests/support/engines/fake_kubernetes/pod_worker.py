"""The kubelet's work for one pod: from its first container to its last."""

import asyncio
import base64
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.engines.fake_kubernetes import containers
from support.engines.fake_kubernetes.admission import is_sidecar, number
from support.engines.fake_kubernetes.container_logs import ContainerLog, LogQuery
from support.engines.fake_kubernetes.containers import Ended, NotStarted, Run, Settings
from support.engines.fake_kubernetes.faults import bad_request
from support.engines.fake_kubernetes.images import Image, ImageMissing, Images
from support.engines.fake_kubernetes.network import Network, Sandbox, run
from support.engines.fake_kubernetes.pace import Pace
from support.engines.fake_kubernetes.resources import CONFIG_MAPS, PODS, SECRETS, Manifest
from support.engines.fake_kubernetes.store import Store, timestamp
from support.engines.fake_kubernetes.volumes import VolumeMissing, Volumes, used_bytes


@dataclass
class ContainerState:
    """How one container of a pod is."""

    name: str
    image: str
    image_id: str = ""
    state: Manifest = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last: Manifest = field(default_factory=dict)
    restarts: int = 0
    started: bool = False  # its startup probe has succeeded, or it has none
    ready: bool = False

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """None unless it has ended, and is not to run again."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def wait(self, reason: str, message: str = "") -> None:
        self.state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        self.started = self.ready = False

    def run(self) -> None:
        self.state = {"running": {"startedAt": timestamp()}}

    def end(self, exit_code: int, reason: str, message: str = "") -> None:
        began = self.state.get("running", {}).get("startedAt", timestamp())
        ended = {"exitCode": exit_code, "reason": reason}
        ended |= {"startedAt": began, "finishedAt": timestamp()}
        self.state = {"terminated": ended | ({"message": message} if message else {})}
        self.started = self.ready = False

    def written(self) -> Manifest:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image_id,
            "state": self.state,
            "lastState": self.last,
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
        }


def status(
    live: Manifest,
    *,
    address: str,
    initial: list[ContainerState],
    usual: list[ContainerState],
    initialized: bool,
) -> Manifest:
    """A pod's status; what others have written of it stays."""
    phase = _phase(live["spec"]["restartPolicy"], initial, usual)
    ready = bool(usual) and all(state.ready for state in usual)
    reason = {"reason": "ContainersNotReady"} if not ready else {}
    conditions: dict[str, Any] = {
        "Initialized": {} if initialized else {"reason": "ContainersNotInitialized"},
        "Ready": reason,
        "ContainersReady": reason,
    }
    holds = {"Initialized": initialized, "Ready": ready, "ContainersReady": ready}
    before = live.get("status", {})
    found = {c["type"]: c for c in before.get("conditions", [])}
    for name, more in conditions.items():
        state = "True" if holds[name] else "False"
        if found.get(name, {}).get("status") != state:
            found[name] = {"type": name, "status": state, "lastTransitionTime": timestamp(), **more}
    addresses = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
    return {
        **before,
        "startTime": before.get("startTime", timestamp()),
        "phase": phase,
        "hostIP": "127.0.0.1",
        "qosClass": "Guaranteed",
        **addresses,
        "conditions": list(found.values()),
        **({"initContainerStatuses": [s.written() for s in initial]} if initial else {}),
        "containerStatuses": [state.written() for state in usual],
    }


def _phase(policy: str, initial: list[ContainerState], usual: list[ContainerState]) -> str:
    codes = [state.exit_code for state in usual]
    if policy == "Never" and any(state.exit_code for state in initial):
        return "Failed"
    if (
        policy != "Always"
        and None not in codes
        and all(state.state.get("terminated") for state in usual)
    ):
        if not any(codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    if any(state.running or state.restarts or state.last for state in usual):
        return "Running"
    return "Running" if any(code is not None for code in codes) else "Pending"


def ended_by(reason: str, message: str) -> Manifest:
    """The part of a pod's status when the kubelet itself ends it."""
    return {"phase": "Failed", "reason": reason, "message": message}


BACK_OFF_SECONDS, MAX_BACK_OFF_SECONDS = 10, 300
MESSAGE_CHARS = 4096  # of what a container says at its end
RETRY_SECONDS = 2  # for what a pod waits for: a volume, a Secret
DISK_SECONDS = 2  # between two looks at what pods have written: 10 on a real node
LATE = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True)
class Node:
    """What all pods of the node share."""

    store: Store
    images: Images
    network: Network
    volumes: Volumes
    directory: Path
    group: str  # the control group of the cluster
    pace: Pace


@dataclass
class Kept:
    """A container and its runs."""

    manifest: Manifest
    state: ContainerState
    run: Run | None = None
    log: ContainerLog | None = None
    previous: ContainerLog | None = None


@dataclass
class PodWorker:
    """Runs one pod's containers, and writes its status."""

    node: Node
    pod: Manifest
    sandbox: Sandbox | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _volumes: dict[str, Path] = field(default_factory=dict)
    _initial: list[Kept] = field(default_factory=list)
    _usual: list[Kept] = field(default_factory=list)
    _count: int = 0
    _ended_by: Manifest = field(default_factory=dict)  # what the kubelet says when it ends the pod

    def __post_init__(self) -> None:
        spec = self.pod["spec"]
        self._initial = [_kept(container) for container in spec.get("initContainers", [])]
        self._usual = [_kept(container) for container in spec["containers"]]

    @property
    def directory(self) -> Path:
        return self.node.directory / str(self.pod["metadata"]["uid"])

    @property
    def kept(self) -> list[Kept]:
        return [*self._initial, *self._usual]

    async def run(self) -> None:
        """Runs the pod to its end; a deleted one is removed from the API then."""
        work = asyncio.create_task(self._run())
        stop = asyncio.create_task(self.stopping.wait())
        full = asyncio.create_task(self._watch_disk())
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        ends = {work, stop, full}
        try:
            await asyncio.wait(ends, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if full.done():
                self._ended_by = full.result()
            elif not work.done() and not stop.done():
                self._ended_by = ended_by("DeadlineExceeded", LATE)
            if not work.done():
                self._tell()
                await self._terminate()
        finally:
            for task in ends:
                task.cancel()
            for task in (work, full):
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            await self._clean()
        await self.stopping.wait()
        metadata = self.pod["metadata"]
        found = self.node.store.find(PODS, metadata["namespace"], metadata["name"])
        if found is not None and found["metadata"]["uid"] == metadata["uid"]:
            self.node.store.remove(PODS, metadata["namespace"], metadata["name"])

    async def _run(self) -> None:
        self._tell()
        await self._set_up()
        sidecars: list[asyncio.Task[None]] = []
        try:
            for kept in self._initial:
                if is_sidecar(kept.manifest):
                    sidecars.append(asyncio.create_task(self._keep(kept, policy="Always")))
                    while not kept.state.started:
                        await asyncio.sleep(0.01)
                elif not await self._initialize(kept):
                    return
            self._tell(initialized=True)
            policy = self.pod["spec"]["restartPolicy"]
            async with asyncio.TaskGroup() as group:
                for kept in self._usual:
                    kept.state.wait("ContainerCreating")
                    group.create_task(self._keep(kept, policy=policy))
        finally:
            for task in sidecars:
                task.cancel()
            await self._kill_all()

    async def _initialize(self, kept: Kept) -> bool:
        """Runs an init container until it succeeds; False if the pod has failed with it."""
        policy = "Never" if self.pod["spec"]["restartPolicy"] == "Never" else "OnFailure"
        await self._keep(kept, policy=policy)
        kept.state.ready = kept.state.exit_code == 0
        self._tell()
        return kept.state.ready

    async def _watch_disk(self) -> Manifest:
        """Waits until a volume is larger than it may be; what the kubelet then says."""
        while True:
            await asyncio.sleep(self.node.pace.seconds(DISK_SECONDS))
            for volume in self.pod["spec"].get("volumes", []):
                empty, path = volume.get("emptyDir", {}), self._volumes.get(volume["name"])
                if path is None or "sizeLimit" not in empty or "medium" in empty:
                    continue
                if await asyncio.to_thread(used_bytes, path) > number(empty["sizeLimit"]):
                    of = f'Usage of EmptyDir volume "{volume["name"]}"'
                    words = f'{of} exceeds the limit "{empty["sizeLimit"]}".'
                    return ended_by("Evicted", words)

    async def _set_up(self) -> None:
        metadata = self.pod["metadata"]
        while True:
            try:
                directory = self.directory / "volumes"
                self._volumes = await self.node.volumes.make(self.pod, directory)
                break
            except VolumeMissing:
                await asyncio.sleep(self.node.pace.seconds(RETRY_SECONDS))
        host_name = self.pod["spec"].get("hostname", metadata["name"])
        self.sandbox = self.node.network.sandbox()
        await self.sandbox.open(host_name)
        self._tell()

    async def _keep(self, kept: Kept, *, policy: str) -> None:
        """Runs a container again and again, as its restart policy says."""
        back_off = 0.0
        while True:
            ended = await self._run_once(kept)
            self._tell()
            over = policy == "Never" or (policy == "OnFailure" and ended.exit_code == 0)
            if over or self.stopping.is_set() or self._ended_by:
                return
            kept.state.last = kept.state.state
            if back_off:
                words = f"back-off {int(back_off)}s restarting failed container={kept.state.name}"
                kept.state.wait("CrashLoopBackOff", words)
                self._tell()
                await asyncio.sleep(self.node.pace.seconds(back_off))
            back_off = min(back_off * 2 or BACK_OFF_SECONDS, MAX_BACK_OFF_SECONDS)
            kept.state.restarts += 1

    async def _run_once(self, kept: Kept) -> Ended:
        """One run of a container, with the states that the API tells of it."""
        image = await self._pulled(kept)
        settings = await self._settled(kept, image)
        self._count += 1
        kept.previous, kept.log = kept.log, ContainerLog()
        group = f"{self.node.group}/{self.pod['metadata']['uid']}/{kept.state.name}-{self._count}"
        kept.run = Run(self.directory / f"run-{self._count}", group, kept.log)
        try:
            assert self.sandbox is not None
            await kept.run.start(settings, self.sandbox)
        except NotStarted as error:
            kept.run = None
            kept.state.end(128, "StartError", f"failed to start containerd task: {error}")
            return Ended(exit_code=128, out_of_memory=False)
        kept.state.run()
        kept.state.started = "startupProbe" not in kept.manifest
        kept.state.ready = kept.state.started and "readinessProbe" not in kept.manifest
        self._tell()
        async with self._probing(kept):
            ended = await kept.run.wait()
        kept.run = None
        usual = "Completed" if ended.exit_code == 0 else "Error"
        reason = "OOMKilled" if ended.out_of_memory else usual
        message = settings.last_words.read_text(errors="replace")[:MESSAGE_CHARS]
        kept.state.end(ended.exit_code, reason, message)
        return ended

    async def _pulled(self, kept: Kept) -> Image:
        """The image; waits for it with growing pauses."""
        back_off = BACK_OFF_SECONDS
        while True:
            try:
                reference, policy = kept.manifest["image"], kept.manifest["imagePullPolicy"]
                image = await self.node.images.get(reference, policy=policy)
                kept.state.image_id = f"{reference.partition('@')[0]}@{image.digest}"
                return image
            except ImageMissing as error:
                kept.state.wait("ErrImagePull", str(error))
                self._tell()
                await asyncio.sleep(self.node.pace.seconds(1))
                words = f'Back-off pulling image "{kept.manifest["image"]}"'
                kept.state.wait("ImagePullBackOff", f"{words}: {error}")
                self._tell()
                await asyncio.sleep(self.node.pace.seconds(back_off))
                back_off = min(back_off * 2, MAX_BACK_OFF_SECONDS)

    async def _settled(self, kept: Kept, image: Image) -> Settings:
        """What the container runs with; waits for what its variables are read from."""
        while True:
            try:
                settings = Settings(
                    container=kept.manifest,
                    of_pod=self.pod["spec"]["securityContext"],
                    image=image,
                    environment=self._environment(kept.manifest),
                    volumes=self._volumes,
                    host_name=self.pod["spec"].get("hostname", self.pod["metadata"]["name"]),
                    last_words=self._last_words(kept),
                )
                _ = settings.user  # raises if it must not run so
                return settings
            except (VolumeMissing, NotStarted) as error:
                kept.state.wait("CreateContainerConfigError", str(error))
                self._tell()
                await asyncio.sleep(self.node.pace.seconds(RETRY_SECONDS))

    def _last_words(self, kept: Kept) -> Path:
        """An empty file, to which any user of the container may write."""
        file = self.directory / f"last-words-{kept.state.name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        file.chmod(0o666)
        return file

    def _environment(self, container: Manifest) -> dict[str, str]:
        """Raises VolumeMissing if a Secret or ConfigMap is not there."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self._data(source)
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if (field_ref := source.get("fieldRef")) is not None:
                value = self._field(field_ref["fieldPath"])
            elif source:
                keyed = {k.replace("KeyRef", "Ref"): v for k, v in source.items()}
                value = self._data(keyed)[next(iter(source.values()))["key"]]
            else:
                value = str(variable.get("value", ""))
            found[variable["name"]] = value
        return found

    def _data(self, source: Manifest) -> dict[str, str]:
        secret = "secretRef" in source
        reference = source["secretRef" if secret else "configMapRef"]
        resource = SECRETS if secret else CONFIG_MAPS
        namespace = self.pod["metadata"]["namespace"]
        found = self.node.store.find(resource, namespace, reference["name"])
        if found is None:
            if reference.get("optional"):
                return {}
            raise VolumeMissing(f'{resource.plural[:-1]} "{reference["name"]}" not found')
        data = found.get("data", {})
        return {k: base64.b64decode(v).decode() for k, v in data.items()} if secret else dict(data)

    def _field(self, path: str) -> str:
        assert self.sandbox is not None
        known: dict[str, str] = {
            "status.podIP": self.sandbox.address,
            "spec.nodeName": self.pod["spec"]["nodeName"],
        }
        metadata = self.pod["metadata"]
        known |= {f"metadata.{name}": metadata[name] for name in ("name", "namespace", "uid")}
        return known[path]

    @contextlib.asynccontextmanager
    async def _probing(self, kept: Kept) -> AsyncIterator[None]:
        task = asyncio.create_task(self._probe(kept))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _probe(self, kept: Kept) -> None:
        """Follows the container's probes, one kind after the other as the kubelet does."""
        if (startup := kept.manifest.get("startupProbe")) is not None:
            if not await self._until(kept, startup, wanted=True):
                await self._restart(kept)
                return
            kept.state.started = True
            kept.state.ready = "readinessProbe" not in kept.manifest
            self._tell()
        async with asyncio.TaskGroup() as group:
            if (liveness := kept.manifest.get("livenessProbe")) is not None:
                group.create_task(self._watch_liveness(kept, liveness))
            if (readiness := kept.manifest.get("readinessProbe")) is not None:
                group.create_task(self._watch_readiness(kept, readiness))

    async def _watch_liveness(self, kept: Kept, probe: Manifest) -> None:
        await self._until(kept, probe, wanted=False)
        await self._restart(kept)

    async def _watch_readiness(self, kept: Kept, probe: Manifest) -> None:
        while True:
            await self._until(kept, probe, wanted=not kept.state.ready, ends=False)
            kept.state.ready = not kept.state.ready
            self._tell()

    async def _until(self, kept: Kept, probe: Manifest, *, wanted: bool, ends: bool = True) -> bool:
        """Probes until it has often enough the result that is wanted.

        False if instead it has failed too often, which `ends` what a startup probe waits for: it is
        asked more often here, and has as long.
        """
        assert self.sandbox is not None
        await asyncio.sleep(self.node.pace.seconds(probe.get("initialDelaySeconds", 0)))
        alike = failures = 0
        needed = probe["successThreshold"] if wanted else probe["failureThreshold"]
        while True:
            success = await containers.succeeds(probe, kept.manifest, self.sandbox.address)
            alike = alike + 1 if success is wanted else 0
            failures = 0 if success else failures + 1
            if alike >= needed:
                return True
            if wanted and ends and self.node.pace.seconds(failures) >= probe["failureThreshold"]:
                return False
            await asyncio.sleep(self.node.pace.seconds(probe["periodSeconds"]))

    async def _restart(self, kept: Kept) -> None:
        """Ends a container whose probe has failed; `_keep` starts it again."""
        if kept.run is not None:
            await kept.run.signal(signal.SIGTERM)

    async def _terminate(self) -> None:
        """Asks all containers to end, and waits as long as they have."""
        live = self.node.store.find(
            PODS, self.pod["metadata"]["namespace"], self.pod["metadata"]["name"]
        )
        usual = self.pod["spec"]["terminationGracePeriodSeconds"] if self._ended_by else 0
        grace = (live or self.pod)["metadata"].get("deletionGracePeriodSeconds", usual)
        runs = [kept.run for kept in self.kept if kept.run is not None]
        for one in runs:
            await one.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace
        while any(kept.run for kept in self.kept) and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def _kill_all(self) -> None:
        for kept in self.kept:
            if kept.run is not None:
                await kept.run.kill()
                kept.run = None
                kept.state.end(137, "Error")

    async def _clean(self) -> None:
        self._tell()
        for path in self._volumes.values():
            if path.is_relative_to(self.directory) and path.is_mount():
                await run("umount", str(path))
        if self.sandbox is not None:
            await self.sandbox.close()

    def _tell(self, *, initialized: bool | None = None) -> None:
        """Writes the pod's status."""
        metadata = self.pod["metadata"]
        if initialized is None:
            initialized = all(k.state.exit_code == 0 or k.state.started for k in self._initial)
        with self.node.store.change(PODS, metadata["namespace"], metadata["name"]) as live:
            if live is None or live["metadata"]["uid"] != metadata["uid"]:
                return
            live["status"] = status(
                live,
                address=self.sandbox.address if self.sandbox else "",
                initial=[kept.state for kept in self._initial],
                usual=[kept.state for kept in self._usual],
                initialized=initialized,
            )
            if not any(kept.run for kept in self.kept):  # it has not failed before they have ended
                live["status"] |= self._ended_by

    def log(self, query: LogQuery) -> AsyncIterator[bytes]:
        """Lines of a container's log. Raises Refusal."""
        kept = next((k for k in self.kept if k.state.name == query.container), None)
        if query.container is None and len(self._usual) == 1:
            kept = self._usual[0]
        name = self.pod["metadata"]["name"]
        if kept is None:
            raise bad_request(f"container {query.container} is not valid for pod {name}")
        log = kept.previous if query.previous else kept.log
        if log is None and query.previous:
            words = f'previous terminated container "{kept.state.name}" in pod "{name}" not found'
            raise bad_request(words)
        if log is None:
            reason = kept.state.state["waiting"]["reason"]
            words = f'container "{kept.state.name}" in pod "{name}" is waiting to start: {reason}'
            raise bad_request(words)
        return log.lines(query)

    def usage(self) -> list[Manifest]:
        """What each running container uses, as the metrics API writes it."""
        return [
            {
                "name": kept.state.name,
                "usage": {
                    "cpu": f"{kept.run.cpu_nanocores}n",
                    "memory": f"{containers.working_set_bytes(kept.run.group) // 1024}Ki",
                },
            }
            for kept in self.kept
            if kept.run is not None
        ]


def _kept(container: Manifest) -> Kept:
    return Kept(container, ContainerState(container["name"], container["image"]))
