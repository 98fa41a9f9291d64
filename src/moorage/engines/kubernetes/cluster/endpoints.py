"""Where the cluster says that an app is ready, and which app that is."""

from collections.abc import Iterable
from dataclasses import dataclass

from moorage.address import Address
from moorage.engines.engine import Instance
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.objects.app import PORT
from moorage.engines.kubernetes.objects.labels import DEPLOYMENT_LABEL
from moorage.engines.kubernetes.objects.pod import Manifest


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """An EndpointSlice: the pods of one app that are ready, by name, and their addresses."""

    namespace: str
    name: str
    deployment_id: str
    port: int
    ready: frozenset[tuple[str, str]] = frozenset()


def parse(manifest: Manifest) -> Endpoints:
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


def instance(pods: Iterable[Pod], slices: Iterable[Endpoints]) -> Instance | None:
    """Returns the running app of one deployment.

    Pods and endpoints come by ways of their own, either of which may be late: an app runs only
    where both say that it is ready.
    """
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
