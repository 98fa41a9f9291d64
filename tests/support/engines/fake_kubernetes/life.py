"""The controllers of what begins and ends with other objects: namespaces, owned objects, claims."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from support.engines.fake_kubernetes.resources import (
    CLAIMS,
    CONFIG_MAPS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    STORED,
    Manifest,
    Resource,
)
from support.engines.fake_kubernetes.store import Key, Store
from support.engines.fake_kubernetes.writes import Writer

PROTECTION = "kubernetes.io/pvc-protection"


def keep_namespaces(store: Store, writer: Writer) -> None:
    """A namespace has a service account; one that is deleted loses its content, then itself."""
    for namespace in store.all(NAMESPACES):
        name = namespace["metadata"]["name"]
        if "deletionTimestamp" not in namespace["metadata"]:
            if store.find(SERVICE_ACCOUNTS, name, "default") is None:
                writer.create(SERVICE_ACCOUNTS, name, {"metadata": {"name": "default"}})
                body = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}}
                writer.create(CONFIG_MAPS, name, body)
            continue
        content = [
            (resource, name, thing["metadata"]["name"])
            for resource in STORED
            if resource.namespaced
            for thing in store.all(resource, name)
            if "deletionTimestamp" not in thing["metadata"] or resource is not PODS
        ]
        for key in content:
            writer.delete(key, {})
        if not any(store.all(r, name) for r in STORED if r.namespaced):
            store.remove(NAMESPACES, "", name)


def collect_garbage(store: Store, writer: Writer) -> None:
    """What is owned goes with its owner; an owner in foreground deletion waits for it."""
    things = [(resource, thing) for resource in STORED for thing in store.all(resource)]
    uids = {thing["metadata"]["uid"] for _, thing in things}
    for resource, thing in things:
        owners = thing["metadata"].get("ownerReferences", [])
        if owners and not any(owner["uid"] in uids for owner in owners):
            _delete(store, writer, _key(resource, thing), "Background")
    for resource, thing in things:
        finalizers = thing["metadata"].get("finalizers", [])
        if "deletionTimestamp" not in thing["metadata"]:
            continue
        uid = thing["metadata"]["uid"]
        dependents = [
            (kind, other)
            for kind, other in things
            if any(o["uid"] == uid for o in other["metadata"].get("ownerReferences", []))
            and store.find(*_key(kind, other)) is not None
        ]
        if "foregroundDeletion" in finalizers:
            for kind, other in dependents:
                _delete(store, writer, _key(kind, other), "Foreground")
            if not dependents:
                _release(store, _key(resource, thing), "foregroundDeletion")
        elif "orphan" in finalizers:
            for kind, other in dependents:
                _disown(store, _key(kind, other), uid)
            _release(store, _key(resource, thing), "orphan")


def _key(resource: Resource, thing: Manifest) -> Key:
    metadata = thing["metadata"]
    return resource, metadata.get("namespace", ""), metadata["name"]


def _delete(store: Store, writer: Writer, key: Key, policy: str) -> None:
    found = store.find(*key)
    if found is not None and "deletionTimestamp" not in found["metadata"]:
        writer.delete(key, {"propagationPolicy": policy if key[0] is not PODS else "Background"})


def _release(store: Store, key: Key, finalizer: str) -> None:
    with store.change(*key) as live:
        if live is not None:
            live["metadata"]["finalizers"].remove(finalizer)


def _disown(store: Store, key: Key, uid: str) -> None:
    with store.change(*key) as live:
        if live is not None:
            owners = live["metadata"]["ownerReferences"]
            live["metadata"]["ownerReferences"] = [o for o in owners if o["uid"] != uid]


@dataclass(frozen=True)
class ClaimController:
    """Gives each claim a directory, and keeps it while a pod uses it."""

    claims: Path

    def __call__(self, store: Store, writer: Writer) -> None:
        del writer
        for claim in store.all(CLAIMS):
            key = _key(CLAIMS, claim)
            path = self.claims / key[1] / key[2]
            if "deletionTimestamp" in claim["metadata"]:
                if not _is_used(store, claim) and PROTECTION in claim["metadata"]["finalizers"]:
                    shutil.rmtree(path, ignore_errors=True)
                    _release(store, key, PROTECTION)
            elif claim["status"]["phase"] == "Pending" and _has_class(store, claim):
                path.mkdir(parents=True)
                with store.change(*key) as live:
                    assert live is not None
                    spec = live["spec"]
                    spec["volumeName"] = f"pvc-{claim['metadata']['uid']}"
                    capacity = {"storage": spec["resources"]["requests"]["storage"]}
                    modes = spec["accessModes"]
                    live["status"] = {"phase": "Bound", "accessModes": modes, "capacity": capacity}


def _has_class(store: Store, claim: Manifest) -> bool:
    name = claim["spec"].get("storageClassName", "standard")
    return store.find(STORAGE_CLASSES, "", name) is not None


def _is_used(store: Store, claim: Manifest) -> bool:
    metadata = claim["metadata"]
    return any(
        volume.get("persistentVolumeClaim", {}).get("claimName") == metadata["name"]
        for pod in store.all(PODS, metadata["namespace"])
        if pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}
        for volume in pod["spec"].get("volumes", [])
    )
