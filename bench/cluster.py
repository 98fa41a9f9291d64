"""From a paid `POST` to an address that answers, in a cluster, beside the cluster's own rollout.

The cluster is the tests' own, with real containers: what it needs itself, for the same Deployment
applied by hand until its pod is ready, is taken away.
"""

import asyncio
import copy
import json
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from deploying import through_gateway
from gateway import funded, gateway
from measure import Row, median, spread
from moorage.engines.images.base_images import DEFAULTS
from support.clients.wallet import HELLO
from support.engines.base_image import SHOWN
from support.engines.docker_fixture import SMALL, import_base, started_dockerd
from support.engines.fake_kubernetes.cluster import Cluster, started_cluster
from support.engines.fake_kubernetes.resources import DEPLOYMENTS, PODS, Manifest
from support.engines.kubernetes_client import KubernetesClient, opened_client
from support.engines.kubernetes_fixture import own_image
from support.engines.runtime_fixture import registry_for_both
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

ROUNDS = 5
BEYOND_SECONDS = 2.0
_OWN = "moorage/own"
_PREFIX = "bench"
_DELETES = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}


def run() -> list[Row]:
    """Seconds of deploys and of rollouts, in turn; the first round of each warms up."""
    with _beside_cluster() as (started, cluster):
        return asyncio.run(_measure(started, cluster))


async def _measure(started: DevGateway, cluster: Cluster) -> list[Row]:
    wallet = await funded(started)
    settled = await wallet.settled(await wallet.deploy_paid("bench-hello", HELLO))
    assert settled["status"] == "ready", settled
    (made,) = cluster.objects(DEPLOYMENTS)
    ours, own = [], []
    async with opened_client(cluster.kubeconfig()) as client:
        for number in range(ROUNDS + 1):
            took = await through_gateway(started, HELLO)
            plain = await _rollout(client, cluster, made)
            if number:
                ours.append(took)
                own.append(plain)
    beyond = median(ours) - median(own)
    return [
        Row(
            "paid POST → 200 in a cluster, beyond its own rollout",
            f"{beyond:.2f} s",
            f"≤ {BEYOND_SECONDS:g} s",
            beyond <= BEYOND_SECONDS,
            f"{median(ours):.2f} s − {median(own):.2f} s; {spread(ours, 2)} and"
            f" {spread(own, 2)} s; with BuildKit's build, and the push to a registry",
        )
    ]


async def _rollout(client: KubernetesClient, cluster: Cluster, made: Manifest) -> float:
    """Seconds from applying what the gateway had applied, under another name, to a ready pod."""
    name, namespace = f"hand-{secrets.token_hex(4)}", made["metadata"]["namespace"]
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    labels, spec = {"bench": name}, copy.deepcopy(made["spec"])
    spec["selector"] = {"matchLabels": labels}
    spec["template"]["metadata"] = {"labels": labels}
    metadata = {"name": name, "namespace": namespace}
    begun = time.perf_counter()
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    await client.apply(path, body, manager="bench")
    await until(lambda: _is_ready(cluster, labels), pause_seconds=0.005)
    took = time.perf_counter() - begun
    await client.answer("DELETE", path, _DELETES)
    await until(lambda: not _pods(cluster, labels))
    return took


def _pods(cluster: Cluster, labels: dict[str, str]) -> list[Manifest]:
    return [
        it
        for it in cluster.objects(PODS)
        if it["metadata"].get("labels") is not None
        and labels.items() <= it["metadata"]["labels"].items()
    ]


def _is_ready(cluster: Cluster, labels: dict[str, str]) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for pod in _pods(cluster, labels)
        for condition in pod.get("status", {}).get("conditions", ())
    )


@contextmanager
def _beside_cluster() -> Iterator[tuple[DevGateway, Cluster]]:
    """A gateway whose apps run in a cluster, with a registry for their images."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="moorage-bench-")))
        dockerd = stack.enter_context(started_dockerd())
        import_base(dockerd, SMALL)
        registry = stack.enter_context(registry_for_both(directory / "registry", dockerd))
        cluster = stack.enter_context(started_cluster())
        cluster.images.shown = SHOWN
        cluster.add_image(_OWN, own_image(cluster.directory / "own"))
        settings = {
            "isolation": "kubernetes",
            "run_dir": str(cluster.directory / _PREFIX),
            "kubernetes_config": str(cluster.kubeconfig()),
            "kubernetes_namespace": _PREFIX,
            "kubernetes_registry": f"{registry.host}/apps",
            "kubernetes_own_image": _OWN,
            "kubernetes_gateway_networks": f"{cluster.host}/32",
            "kubernetes_builder": dockerd.host,
            "base_images": json.dumps(dict.fromkeys(DEFAULTS, SMALL)),
            "dockerfile_registries": "*,local",
        }
        yield stack.enter_context(gateway(pinned=False, **settings)), cluster
