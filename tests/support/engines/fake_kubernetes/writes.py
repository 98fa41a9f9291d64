"""Creating, applying, patching, replacing and deleting objects, as requests ask for it."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.engines.fake_kubernetes.admission import admit, admit_update, complete, validate
from support.engines.fake_kubernetes.faults import Refusal, bad_request, conflict
from support.engines.fake_kubernetes.merging import Path, changed, leaves, merged, without
from support.engines.fake_kubernetes.resources import NAMESPACES, PODS, Manifest, Resource
from support.engines.fake_kubernetes.store import Key, Store, timestamp

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
STATUS_ALONE = {"Pod", "Deployment", "ReplicaSet", "Namespace", "PersistentVolumeClaim", "Service"}
"""Whose `status` is written by the subresource alone."""


@dataclass
class Writer:
    """Changes the store as the API server does, after admission."""

    store: Store

    def create(
        self, resource: Resource, namespace: str, body: Manifest, *, manager: str = "unknown"
    ) -> Manifest:
        thing = _addressed(resource, namespace, body)
        metadata = thing["metadata"]
        if "name" not in metadata:
            if "generateName" not in metadata:
                raise bad_request("name or generateName is required")
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        if "resourceVersion" in metadata:
            raise bad_request("resourceVersion should not be set on objects to be created")
        if resource.kind in STATUS_ALONE:
            thing.pop("status", None)
        thing = _strings_encoded(thing)
        complete(resource, thing)
        validate(resource, thing)
        admit(self.store, resource, thing)
        created = self.store.add(resource, thing)
        self._own(_key(resource, created), {}, body, manager)
        return created

    def replace(self, key: Key, body: Manifest, *, manager: str, status: bool = False) -> Manifest:
        resource, namespace, name = key
        live = self.store.get(*key)
        thing = _addressed(resource, namespace, body)
        if thing["metadata"].get("name") != name:
            raise bad_request("the name of the object does not match the name on the URL")
        return self._update(key, live, thing, manager, status=status)

    def patch(
        self, key: Key, body: Manifest, kind: str, *, manager: str, status: bool = False
    ) -> Manifest:
        live = self.store.get(*key)
        return self._update(
            key, live, merged(live, body, keyed=kind == STRATEGIC), manager, status=status
        )

    def apply(
        self, key: Key, body: Manifest, *, manager: str, force: bool, status: bool = False
    ) -> tuple[Manifest, bool]:
        """Server-side apply; the object then, and whether it was created."""
        resource, namespace, name = key
        wanted = _addressed(resource, namespace, body)
        if wanted["metadata"].get("name") != name:
            raise bad_request("metadata.name does not match the name on the URL")
        wanted = _strings_encoded(wanted)
        live = self.store.find(*key)
        if live is None:
            if "uid" in wanted["metadata"]:
                raise conflict(resource, name, "uid mismatch: the object is not there")
            created = self.create(resource, namespace, wanted, manager=manager)
            return created, True
        fields = dict(leaves(wanted))
        owned = self.store.owned.setdefault(key, {})
        self._refuse_foreign(key, fields, dict(leaves(live)), manager, force=force)
        after = merged(live, wanted)
        given_up = owned.get(manager, set()) - set(fields)
        for path in given_up:
            if not any(path in paths for other, paths in owned.items() if other != manager):
                without(after, path)
        written = self._update(key, live, after, None, status=status)
        if force:
            _disown(owned, set(fields))
        owned[manager] = set(fields)
        return written, False

    def delete(self, key: Key, options: Mapping[str, Any]) -> Manifest:
        """Deletes, or begins to; what the kubelet and controllers do follows."""
        resource, _, name = key
        live = self.store.get(*key)
        wanted = options.get("preconditions") or {}
        for field in ("uid", "resourceVersion"):
            if wanted.get(field) not in {None, live["metadata"][field]}:
                raise conflict(resource, name, f"Precondition failed: {field} in precondition")
        metadata = live["metadata"]
        grace = self._grace(resource, live, options)
        policy = options.get("propagationPolicy", "Background")
        finalizer = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(policy)
        if finalizer and finalizer not in metadata.setdefault("finalizers", []):
            metadata["finalizers"].append(finalizer)
        waits = metadata.get("finalizers") or resource is NAMESPACES or (resource is PODS and grace)
        if not waits:
            self.store.remove(*key)
            return live
        if "deletionTimestamp" not in metadata:
            metadata["deletionTimestamp"] = timestamp()
        if resource is PODS:
            known = metadata.get("deletionGracePeriodSeconds", grace)
            metadata["deletionGracePeriodSeconds"] = min(grace, known)
        if resource is NAMESPACES:
            live["status"] = {"phase": "Terminating"}
        return self.store.put(resource, live)

    @staticmethod
    def _grace(resource: Resource, live: Manifest, options: Mapping[str, Any]) -> int:
        """How long a pod has; a pod that runs nowhere is gone at once."""
        if resource is not PODS or live.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return 0
        if "nodeName" not in live["spec"]:
            return 0
        asked = options.get("gracePeriodSeconds")
        return int(live["spec"]["terminationGracePeriodSeconds"] if asked is None else asked)

    def _update(
        self, key: Key, live: Manifest, thing: Manifest, manager: str | None, *, status: bool
    ) -> Manifest:
        resource, _, name = key
        version = thing["metadata"].get("resourceVersion", live["metadata"]["resourceVersion"])
        if version != live["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version"
            raise conflict(resource, name, f"{why} and try again")
        if status:
            thing = {**live, "status": thing.get("status", {})}
        else:
            if resource.kind in STATUS_ALONE:
                thing = {**thing, "status": live["status"]} if "status" in live else thing
            thing = _strings_encoded(thing)
            complete(resource, thing)
            validate(resource, thing)
            if "spec" in live:
                admit_update(resource, live, thing)
        written = self.store.put(resource, thing)
        if manager is not None:
            self._own(key, live, thing, manager)
        return written

    def _own(self, key: Key, before: Manifest, after: Manifest, manager: str) -> None:
        fields = changed(before, after)
        owned = self.store.owned.setdefault(key, {})
        _disown(owned, fields)
        owned.setdefault(manager, set()).update(fields)

    def _refuse_foreign(
        self,
        key: Key,
        fields: Mapping[Path, Any],
        live: Mapping[Path, Any],
        manager: str,
        *,
        force: bool,
    ) -> None:
        """Raises Refusal if another manager has set a field to another value."""
        if force:
            return
        for other, paths in self.store.owned.get(key, {}).items():
            foreign = [p for p in fields if p in paths and live.get(p) != fields[p]]
            if other != manager and foreign:
                words = ", ".join("." + ".".join(path) for path in foreign)
                raise Refusal(
                    409,
                    "Conflict",
                    f'Apply failed with {len(foreign)} conflict: conflict with "{other}": {words}',
                    causes=[
                        {"reason": "FieldManagerConflict", "field": "." + ".".join(path)}
                        for path in foreign
                    ],
                )


def _disown(owned: dict[str, set[Path]], fields: set[Path]) -> None:
    """Takes fields from whoever has written them."""
    for paths in owned.values():
        paths.difference_update(fields)


def _key(resource: Resource, thing: Manifest) -> Key:
    namespace = thing["metadata"]["namespace"] if resource.namespaced else ""
    return resource, namespace, thing["metadata"]["name"]


def _addressed(resource: Resource, namespace: str, body: Manifest) -> Manifest:
    """The object with the namespace of the request's address."""
    metadata = dict(body.get("metadata") or {})
    if resource.namespaced and metadata.setdefault("namespace", namespace) != namespace:
        raise bad_request("the namespace of the object does not match the namespace on the URL")
    metadata.pop("managedFields", None)
    named = {"apiVersion": resource.api_version, "kind": resource.kind}
    for field, value in named.items():
        if body.get(field, value) != value:
            raise bad_request(f"the {field} of the object does not match the request's: {value}")
    return {**named, **body, "metadata": metadata}


def _strings_encoded(thing: Manifest) -> Manifest:
    """Of a Secret, `stringData` becomes part of `data`; nothing else changes."""
    if thing["kind"] != "Secret":
        return thing
    plain = {
        k: base64.b64encode(v.encode()).decode() for k, v in thing.get("stringData", {}).items()
    }
    rest = {k: v for k, v in thing.items() if k != "stringData"}
    rest.setdefault("type", "Opaque")
    return {**rest, "data": {**rest.get("data", {}), **plain}} if plain else rest
