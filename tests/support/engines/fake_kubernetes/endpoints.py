"""The controller of EndpointSlices: which pods of a Service are ready."""

from collections import defaultdict

from support.engines.fake_kubernetes.resources import ENDPOINT_SLICES, PODS, SERVICES, Manifest
from support.engines.fake_kubernetes.selection import labels_of, matches
from support.engines.fake_kubernetes.store import Store
from support.engines.fake_kubernetes.workloads import is_ready, owned, owner_reference
from support.engines.fake_kubernetes.writes import Writer

SERVICE_NAME = "kubernetes.io/service-name"


def keep_endpoints(store: Store, writer: Writer) -> None:
    """Each Service with a selector has a slice with the addresses of its pods."""
    for service in store.all(SERVICES):
        selector = service["spec"].get("selector")
        if not selector or "deletionTimestamp" in service["metadata"]:
            continue
        namespace = service["metadata"]["namespace"]
        found = defaultdict(list)
        for pod in store.all(PODS, namespace):
            if matches({"matchLabels": selector}, labels_of(pod)) and _has_address(pod):
                found[_ports(service, pod)].append(_endpoint(service, pod))
        (slices, wanted) = owned(store, ENDPOINT_SLICES, service), dict(found) or {(): []}
        for index, (ports, endpoints) in enumerate(wanted.items()):
            _write(store, writer, service, slices[index : index + 1], ports, endpoints)
        for extra in slices[len(wanted) :]:
            writer.delete((ENDPOINT_SLICES, namespace, extra["metadata"]["name"]), {})


def _has_address(pod: Manifest) -> bool:
    status = pod.get("status", {})
    return "podIP" in status and status["phase"] not in {"Succeeded", "Failed"}


def _ports(service: Manifest, pod: Manifest) -> tuple[tuple[str, int, str], ...]:
    """The ports of a pod that the Service leads to: name, number, protocol."""
    named = {
        port.get("name"): port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
    }
    return tuple(
        (port.get("name", ""), named.get(port["targetPort"], port["targetPort"]), port["protocol"])
        for port in service["spec"].get("ports", [])
    )


def _endpoint(service: Manifest, pod: Manifest) -> Manifest:
    serving, terminating = is_ready(pod), "deletionTimestamp" in pod["metadata"]
    anyway = bool(service["spec"].get("publishNotReadyAddresses"))
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": anyway or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    }


def _write(
    store: Store,
    writer: Writer,
    service: Manifest,
    slices: list[Manifest],
    ports: tuple[tuple[str, int, str], ...],
    endpoints: list[Manifest],
) -> None:
    content = {
        "addressType": "IPv4",
        "endpoints": endpoints or None,  # as the real one writes an empty list
        "ports": [{"name": n, "port": p, "protocol": kind} for n, p, kind in ports] or None,
    }
    metadata = service["metadata"]
    if slices:
        name = slices[0]["metadata"]["name"]
        with store.change(ENDPOINT_SLICES, metadata["namespace"], name) as live:
            if live is not None:
                live.update(content)
        return
    labels = {SERVICE_NAME: metadata["name"], **labels_of(service)}
    body = {
        "metadata": {
            "generateName": f"{metadata['name']}-",
            "labels": labels,
            "ownerReferences": [owner_reference(service)],
        },
        **content,
    }
    writer.create(ENDPOINT_SLICES, metadata["namespace"], body, manager="endpointslice-controller")
