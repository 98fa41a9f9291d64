"""The node's agent: a worker for each pod that is bound to it."""

import asyncio
from collections.abc import AsyncIterator

from support.engines.fake_kubernetes.container_logs import LogQuery
from support.engines.fake_kubernetes.faults import bad_request, not_found
from support.engines.fake_kubernetes.pod_worker import Node, PodWorker
from support.engines.fake_kubernetes.resources import PODS, Manifest
from support.engines.fake_kubernetes.selection import labels_of
from support.engines.fake_kubernetes.store import Event, timestamp


class Kubelet:
    """Runs the pods of the node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.workers: dict[str, PodWorker] = {}

    async def run(self) -> None:
        """Follows the pods; ends all of them when it is cancelled."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        with self.node.store.listening(queue):
            async with asyncio.TaskGroup() as workers:
                while True:
                    event = await queue.get()
                    if event.resource is PODS:
                        self._see(event, workers)

    def _see(self, event: Event, workers: asyncio.TaskGroup) -> None:
        pod = event.object
        uid = pod["metadata"]["uid"]
        if uid not in self.workers:
            if event.kind == "DELETED" or "nodeName" not in pod["spec"]:
                return
            self.workers[uid] = PodWorker(self.node, pod)
            task = workers.create_task(self.workers[uid].run())
            task.add_done_callback(lambda _: self.workers.pop(uid))
        if event.kind == "DELETED" or "deletionTimestamp" in pod["metadata"]:
            self.workers[uid].stopping.set()

    async def log(self, namespace: str, name: str, query: LogQuery) -> AsyncIterator[bytes]:
        pod = self.node.store.get(PODS, namespace, name)
        worker = self.workers.get(pod["metadata"]["uid"])
        if worker is None:
            if "nodeName" not in pod["spec"]:
                raise bad_request(f"pod {name} does not have a host assigned")
            raise not_found(PODS, name)
        return worker.log(query)

    def usage(self) -> list[Manifest]:
        """What the metrics API says of the running pods."""
        return [
            {
                "metadata": {
                    "name": worker.pod["metadata"]["name"],
                    "namespace": worker.pod["metadata"]["namespace"],
                    "labels": labels_of(worker.pod),
                },
                "timestamp": timestamp(),
                "window": "15s",
                "containers": containers,
            }
            for worker in self.workers.values()
            if (containers := worker.usage())
        ]
