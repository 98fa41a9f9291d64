"""A cluster that runs in a thread of its own, and how a test acts on it."""

import asyncio
import json
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from aiohttp import web

from support.engines.fake_kubernetes import reaper
from support.engines.fake_kubernetes.admission import tell_quotas
from support.engines.fake_kubernetes.api import ApiServer
from support.engines.fake_kubernetes.faults import Fault, Faults, Refusal
from support.engines.fake_kubernetes.images import Image, Images
from support.engines.fake_kubernetes.kubelet import Kubelet
from support.engines.fake_kubernetes.life import ClaimController, collect_garbage, keep_namespaces
from support.engines.fake_kubernetes.network import Network
from support.engines.fake_kubernetes.pace import Pace
from support.engines.fake_kubernetes.pod_worker import Node
from support.engines.fake_kubernetes.resources import (
    NAMESPACES,
    NODES,
    STORAGE_CLASSES,
    Manifest,
    Resource,
)
from support.engines.fake_kubernetes.store import Event, Store
from support.engines.fake_kubernetes.volumes import Volumes
from support.engines.fake_kubernetes.workloads import (
    bind_pods,
    keep_deployments,
    keep_endpoints,
    keep_replicas,
)
from support.engines.fake_kubernetes.writes import Writer

T = TypeVar("T")
NODE = "node-1"
ALLOCATABLE = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"}
RESYNC_SECONDS = 0.1  # for what was refused, and may be allowed now
LAG_SECONDS = 0.005  # controllers are never at once where the objects are


class Cluster:
    """A cluster of one node; its methods are called from the test's thread."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory.name
        self.token = secrets.token_hex(16)
        self.network = Network(self.name)
        self.images = Images(directory / "images")
        self.pace = Pace()
        self.metrics_installed = True
        self.url = ""
        self.failures: list[Exception] = []
        self._store = Store()
        self._writer = Writer(self._store)
        self._faults = Faults()
        volumes = Volumes(self._store, directory / "claims")
        pods = directory / "pods"
        self._kubelet = Kubelet(
            Node(self._store, self.images, self.network, volumes, pods, f"/{self.name}", self.pace)
        )
        self._api = ApiServer(
            self._store, self._writer, self._faults, self.token, self._kubelet.log, self._metrics
        )
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()

    @property
    def host(self) -> str:
        """The address of this machine, as pods see it."""
        return self.network.host

    def kubeconfig(self, *, token: str | None = None) -> Path:
        """A file with how to reach the cluster."""
        path = self.directory / f"config-{secrets.token_hex(4)}"
        reach = {"server": self.url}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": reach}],
            "users": [{"name": "test", "user": {"token": token or self.token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        path.write_text(json.dumps(content))
        return path

    def add_image(self, reference: str, image: Image) -> None:
        """Makes an image that no registry has; others are pulled from registries on loopback."""
        self.images.given[reference] = image

    def fail(
        self, verb: str, plural: str, refusal: Refusal | None, *, times: int | None = None
    ) -> None:
        """Refuses requests from now on; without a refusal, they get no answer."""
        fault = Fault(verb, plural, refusal, times)
        self._call(lambda: self._faults.faults.append(fault))

    def mend(self) -> None:
        """Ends all faults; watches that were frozen stay so until they are cut."""

        def mend() -> None:
            self._faults.faults.clear()
            self._faults.denied.clear()
            self._faults.frozen = False

        self._call(mend)

    def deny(self, verb: str, plural: str) -> None:
        """Takes a permission away."""
        self._call(lambda: self._faults.denied.add((verb, plural)))

    def freeze_watches(self) -> None:
        """Watches stay open, and tell nothing."""

        def freeze() -> None:
            self._faults.frozen = True

        self._call(freeze)

    def cut_streams(self) -> None:
        """Ends all watches and followed logs, as a proxy between does."""
        self._call(self._cut)

    def expire_watches(self) -> None:
        """Forgets what has happened: a watch from an older version gets 410 Gone."""
        self._call(self._store.compact)

    def objects(self, resource: Resource, namespace: str = "") -> list[Manifest]:
        """What there is, read past the API."""
        return self._call(lambda: self._store.all(resource, namespace))

    def delete(self, resource: Resource, namespace: str, name: str) -> None:
        """Deletes an object as somebody does by hand; its controllers do the rest."""
        self._call(lambda: self._writer.delete((resource, namespace, name), {}))

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Removes an object past the API."""
        self._call(lambda: self._store.remove(resource, namespace, name))

    @contextmanager
    def changing(self, resource: Resource, namespace: str, name: str) -> Iterator[Manifest]:
        """Edits an object past the API, the node's allocatable say."""
        thing = self._call(lambda: self._store.get(resource, namespace, name))
        yield thing
        self._call(lambda: self._store.put(resource, thing))

    def start(self) -> None:
        opened = threading.Event()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._serve(opened)), name=self.name
        )
        self._thread.start()
        if not opened.wait(30):
            raise RuntimeError("the fake cluster does not open")

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(30)
        self._loop.close()
        if self.failures:
            raise ExceptionGroup("the fake cluster has failed", self.failures)

    async def _serve(self, opened: threading.Event) -> None:
        self._install()
        runner = web.AppRunner(self._api.application(), shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        (address,) = runner.addresses
        self.url = f"http://127.0.0.1:{address[1]}"
        tasks = [
            asyncio.create_task(self._kubelet.run()),
            asyncio.create_task(self._control()),
        ]
        await asyncio.sleep(0)
        opened.set()
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait({*tasks, ended}, return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, ended):
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        self.failures += [error for error in found if isinstance(error, Exception)]
        await runner.cleanup()

    def _install(self) -> None:
        """What a cluster has before anybody uses it."""
        for name in ("default", "kube-system"):
            self._writer.create(NAMESPACES, "", {"metadata": {"name": name}})
        conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]
        status = {"allocatable": ALLOCATABLE, "capacity": ALLOCATABLE, "conditions": conditions}
        self._store.add(NODES, {"metadata": {"name": NODE}, "spec": {}, "status": status})
        body = {"metadata": {"name": "standard"}, "provisioner": "test"}
        self._store.add(STORAGE_CLASSES, body)

    async def _control(self) -> None:
        """Runs the controllers whenever something has changed."""
        controllers: tuple[Callable[[Store, Writer], None], ...] = (
            keep_namespaces,
            ClaimController(self.directory / "claims"),
            keep_deployments,
            keep_replicas,
            bind_pods,
            keep_endpoints,
            collect_garbage,
        )
        queue: asyncio.Queue[Event] = asyncio.Queue()
        with self._store.listening(queue):
            while True:
                with suppress(TimeoutError):  # not by wait_for, which may swallow a cancellation
                    async with asyncio.timeout(RESYNC_SECONDS):
                        await queue.get()
                await asyncio.sleep(LAG_SECONDS)
                while not queue.empty():
                    queue.get_nowait()
                for control in controllers:
                    control(self._store, self._writer)
                tell_quotas(self._store)

    def _cut(self) -> None:
        for task in self._api.watches:
            task.cancel()

    def _metrics(self) -> list[Manifest] | None:
        return self._kubelet.usage() if self.metrics_installed else None

    def _call(self, act: Callable[[], T]) -> T:
        """Does something in the cluster's thread."""

        async def called() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(30)


@contextmanager
def started_cluster() -> Iterator[Cluster]:
    """A cluster; whatever happens, nothing of it stays."""
    directory = Path(tempfile.mkdtemp(prefix="mk", dir="/tmp"))
    directory.chmod(0o711)
    cluster = Cluster(directory)
    cluster.network.open()
    watcher = subprocess.Popen(
        [
            *(sys.executable, "-I", reaper.__file__),  # isolated: it imports nothing of ours
            *(cluster.name, cluster.host, str(directory)),
        ],
        stdin=subprocess.PIPE,
    )
    try:
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
    finally:
        watcher.communicate()
