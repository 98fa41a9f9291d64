"""The scheduler: binds pods to the one node, if they fit."""

from support.engines.fake_kubernetes.admission import pod_amount
from support.engines.fake_kubernetes.quantities import number
from support.engines.fake_kubernetes.resources import CLAIMS, NODES, PODS, Manifest
from support.engines.fake_kubernetes.store import Store, timestamp
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
