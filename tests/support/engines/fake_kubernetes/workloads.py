"""The controllers of Deployments and ReplicaSets."""

import hashlib
import json
import math
from collections import defaultdict
from typing import Any

from support.engines.fake_kubernetes.admission import number, pod_amount
from support.engines.fake_kubernetes.faults import Refusal
from support.engines.fake_kubernetes.resources import (
    CLAIMS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    Manifest,
    Resource,
)
from support.engines.fake_kubernetes.selection import labels_of, matches
from support.engines.fake_kubernetes.store import Store, copied, timestamp
from support.engines.fake_kubernetes.writes import Writer


def bind_pods(store: Store, writer: Writer) -> None:
    """Each new pod gets the node, or a condition that says why not."""
    del writer  # bindings need no admission
    for pod in store.all(PODS):
        if "nodeName" in pod["spec"] or "deletionTimestamp" in pod["metadata"]:
            continue
        node = store.all(NODES)[0]
        why = _reason(store, node, pod)
        with store.change(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"]) as live:
            assert live is not None
            if why is None:
                live["spec"]["nodeName"] = node["metadata"]["name"]
                condition = {"type": "PodScheduled", "status": "True"}
            else:
                words = {"reason": "Unschedulable", "message": why}
                condition = {"type": "PodScheduled", "status": "False", **words}
            _set(live.setdefault("status", {"phase": "Pending"}), condition)


def _reason(store: Store, node: Manifest, pod: Manifest) -> str | None:
    """Why the pod does not fit; None if it does."""
    for volume in pod["spec"].get("volumes", []):
        if (claim := volume.get("persistentVolumeClaim")) is not None:
            found = store.find(CLAIMS, pod["metadata"]["namespace"], claim["claimName"])
            missing = f'0/1 nodes are available: persistentvolumeclaim "{claim["claimName"]}"'
            if found is None:
                return f"{missing} not found."
            if "deletionTimestamp" in found["metadata"]:
                return f"{missing} is being deleted."
            if found["status"]["phase"] != "Bound":
                return "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    if node["spec"].get("unschedulable"):
        return "0/1 nodes are available: 1 node(s) were unschedulable."
    for name in ("cpu", "memory", "ephemeral-storage"):
        others = [p for p in store.all(PODS) if "nodeName" in p["spec"] and _runs(p)]
        asked = [pod_amount(p["spec"], "requests", name) or 0 for p in (*others, pod)]
        if sum(asked) > number(node["status"]["allocatable"][name]):
            return f"0/1 nodes are available: 1 Insufficient {name}."
    return None


def _runs(pod: Manifest) -> bool:
    return pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}


def _set(status: Manifest, condition: Manifest) -> None:
    """Sets a condition; it keeps its time while it says the same."""
    conditions = status.setdefault("conditions", [])
    for known in conditions:
        if known["type"] == condition["type"]:
            if any(known.get(key) != value for key, value in condition.items()):
                known.update(condition, lastTransitionTime=timestamp())
            return
    conditions.append({**condition, "lastTransitionTime": timestamp()})


HASH = "pod-template-hash"
MANAGER = "kube-controller-manager"


def owned(store: Store, resource: Resource, owner: Manifest) -> list[Manifest]:
    """The objects that an object controls."""
    uid = owner["metadata"]["uid"]
    return [
        thing
        for thing in store.all(resource, owner["metadata"]["namespace"])
        if any(o["uid"] == uid for o in thing["metadata"].get("ownerReferences", []))
    ]


def owner_reference(owner: Manifest) -> Manifest:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_ready(pod: Manifest) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_active(pod: Manifest) -> bool:
    over = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return not over and "deletionTimestamp" not in pod["metadata"]


def keep_replicas(store: Store, writer: Writer) -> None:
    """Each ReplicaSet has as many pods as it wants."""
    for replica_set in store.all(REPLICA_SETS):
        if "deletionTimestamp" in replica_set["metadata"]:
            continue
        active = [pod for pod in owned(store, PODS, replica_set) if _is_active(pod)]
        missing = replica_set["spec"]["replicas"] - len(active)
        failure = None
        try:
            for _ in range(missing):
                _create_pod(writer, replica_set)
        except Refusal as refusal:
            failure = refusal.message
        for pod in sorted(active, key=is_ready)[: max(-missing, 0)]:
            writer.delete((PODS, pod["metadata"]["namespace"], pod["metadata"]["name"]), {})
        _tell_replicas(store, replica_set, active, failure)


def _create_pod(writer: Writer, replica_set: Manifest) -> None:
    template, name = copied(replica_set["spec"]["template"]), replica_set["metadata"]["name"]
    metadata = {
        **{k: v for k, v in template["metadata"].items() if k in {"labels", "annotations"}},
        "generateName": f"{name}-",
        "ownerReferences": [owner_reference(replica_set)],
    }
    body = {"metadata": metadata, "spec": template["spec"]}
    writer.create(PODS, replica_set["metadata"]["namespace"], body, manager=MANAGER)


def _tell_replicas(
    store: Store, replica_set: Manifest, active: list[Manifest], failure: str | None
) -> None:
    metadata = replica_set["metadata"]
    ready = sum(is_ready(pod) for pod in active)
    with store.change(REPLICA_SETS, metadata["namespace"], metadata["name"]) as live:
        if live is None:
            return
        counts = {"replicas": len(active), "readyReplicas": ready, "availableReplicas": ready}
        before = live.get("status", {}).get("conditions", [])
        conditions = [c for c in before if failure is not None and c["type"] == "ReplicaFailure"]
        if failure is not None and not conditions:  # a real one tries more and more seldom
            words = {"reason": "FailedCreate", "message": failure}
            conditions = [_condition(before, "ReplicaFailure", "True", **words)]
        live["status"] = {
            **counts,
            "observedGeneration": live["metadata"]["generation"],
            "conditions": conditions,
        }


def keep_deployments(store: Store, writer: Writer) -> None:
    """Each Deployment has a ReplicaSet of its newest template, and rolls over to it."""
    for deployment in store.all(DEPLOYMENTS):
        if "deletionTimestamp" in deployment["metadata"]:
            continue
        sets = owned(store, REPLICA_SETS, deployment)
        newest = _hash(deployment["spec"]["template"])
        current = [s for s in sets if s["metadata"]["labels"][HASH] == newest]
        old = [s for s in sets if s["metadata"]["labels"][HASH] != newest]
        if not current:
            current = [_create_set(writer, deployment, newest)]
        _roll(store, deployment, current[0], old)
        _forget(store, writer, deployment, old)
        _tell_deployment(store, deployment, newest)


def _hash(template: Manifest) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _create_set(writer: Writer, deployment: Manifest, newest: str) -> Manifest:
    metadata, template = deployment["metadata"], copied(deployment["spec"]["template"])
    template.setdefault("metadata", {}).setdefault("labels", {})[HASH] = newest
    selector = {**deployment["spec"]["selector"]["matchLabels"], HASH: newest}
    body = {
        "metadata": {
            "name": f"{metadata['name']}-{newest}",
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner_reference(deployment)],
        },
        "spec": {"replicas": 0, "selector": {"matchLabels": selector}, "template": template},
    }
    return writer.create(REPLICA_SETS, metadata["namespace"], body, manager=MANAGER)


def _roll(store: Store, deployment: Manifest, current: Manifest, old: list[Manifest]) -> None:
    """Moves replicas from old sets to the current one, as the strategy allows."""
    wanted, strategy = deployment["spec"]["replicas"], deployment["spec"]["strategy"]
    old_pods = [pod for one in old for pod in owned(store, PODS, one)]
    if strategy["type"] == "Recreate":
        for one in old:
            _scale(store, one, 0)
        over = {"Succeeded", "Failed"}
        if not any(pod.get("status", {}).get("phase") not in over for pod in old_pods):
            _scale(store, current, wanted)
        return
    surge = _resolved(strategy["rollingUpdate"]["maxSurge"], wanted, up=True)
    unavailable = _resolved(strategy["rollingUpdate"]["maxUnavailable"], wanted, up=False)
    kept = sum(one["spec"]["replicas"] for one in old)
    _scale(store, current, min(wanted, max(wanted + surge - kept, 0)))
    ready = sum(is_ready(pod) for pod in owned(store, PODS, current) if _is_active(pod))
    not_ready = sum(not is_ready(pod) for pod in old_pods if _is_active(pod))
    spare = max(ready + (kept - not_ready) - (wanted - unavailable), 0) + not_ready
    for one in old:
        less = min(one["spec"]["replicas"], spare)
        _scale(store, one, one["spec"]["replicas"] - less)
        spare -= less


def _resolved(amount: int | str, of: int, *, up: bool) -> int:
    if isinstance(amount, int):
        return amount
    share = int(amount.removesuffix("%")) * of / 100
    return math.ceil(share) if up else math.floor(share)


def _scale(store: Store, replica_set: Manifest, replicas: int) -> None:
    metadata = replica_set["metadata"]
    with store.change(REPLICA_SETS, metadata["namespace"], metadata["name"]) as live:
        if live is not None:
            live["spec"]["replicas"] = replicas


def _forget(store: Store, writer: Writer, deployment: Manifest, old: list[Manifest]) -> None:
    """Deletes old sets without pods, but for as many as the history may have."""
    idle = [one for one in old if not one["spec"]["replicas"] and not owned(store, PODS, one)]
    idle.sort(key=lambda one: int(one["metadata"]["resourceVersion"]))
    for one in idle[: max(len(idle) - deployment["spec"]["revisionHistoryLimit"], 0)]:
        writer.delete((REPLICA_SETS, one["metadata"]["namespace"], one["metadata"]["name"]), {})


def _tell_deployment(store: Store, deployment: Manifest, newest: str) -> None:
    metadata, spec = deployment["metadata"], deployment["spec"]
    sets = owned(store, REPLICA_SETS, deployment)
    total, updated, ready = 0, 0, 0
    failures = []
    for one in sets:
        status = one.get("status", {})
        total += status.get("replicas", 0)
        ready += status.get("readyReplicas", 0)
        if one["metadata"]["labels"][HASH] == newest:
            updated += status.get("replicas", 0)
            failures = status.get("conditions", [])
    with store.change(DEPLOYMENTS, metadata["namespace"], metadata["name"]) as live:
        if live is None:
            return
        before = live.get("status", {}).get("conditions", [])
        enough = ready >= spec["replicas"] - _tolerated(spec)
        reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
        done = updated == total == spec["replicas"] == ready
        progress = "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
        conditions = [
            _condition(before, "Available", "True" if enough else "False", reason=reason),
            _condition(before, "Progressing", "True", reason=progress),
            *failures,
        ]
        counts = {"replicas": total, "updatedReplicas": updated, "readyReplicas": ready}
        counts |= {"availableReplicas": ready, "unavailableReplicas": spec["replicas"] - ready}
        live["status"] = {k: v for k, v in counts.items() if v > 0} | {
            "observedGeneration": live["metadata"]["generation"],
            "conditions": conditions,
        }


def _tolerated(spec: Manifest) -> int:
    if spec["strategy"]["type"] == "Recreate":
        return 0
    return _resolved(
        spec["strategy"]["rollingUpdate"]["maxUnavailable"], spec["replicas"], up=False
    )


def _condition(before: list[Manifest], kind: str, state: str, **words: str) -> dict[str, Any]:
    """A condition; its time changes with its state."""
    last = next((c for c in before if c["type"] == kind and c["status"] == state), {})
    at = last.get("lastTransitionTime", timestamp())
    return {"type": kind, "status": state, "lastTransitionTime": at, **words}


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
