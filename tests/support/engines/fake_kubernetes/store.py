"""The objects, their versions, and what has happened to them."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import uuid4

from support.engines.fake_kubernetes.faults import already_exists, expired, not_found
from support.engines.fake_kubernetes.merging import Path
from support.engines.fake_kubernetes.resources import NAMESPACES, PODS, Manifest, Resource

Key: TypeAlias = tuple[Resource, str, str]
"""Resource, namespace ("" for none), name."""

SYSTEM = {"creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation"}
SYSTEM |= {"resourceVersion", "uid"}
"""What of the metadata is the server's to write."""


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object."""

    version: int
    kind: str  # ADDED, MODIFIED or DELETED
    resource: Resource
    object: Manifest
    before: Manifest | None


@dataclass
class Store:
    """All objects. None is changed in its place: another takes it."""

    version: int = 1000
    compacted: int = 1000  # changes up to here are forgotten
    events: list[Event] = field(default_factory=list)
    objects: defaultdict[Resource, dict[tuple[str, str], Manifest]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """By namespace and name."""
    owned: dict[Key, dict[str, set[Path]]] = field(default_factory=dict)
    """Which manager has last written which fields."""
    listeners: list[Callable[[Event], None]] = field(default_factory=list)

    def find(self, resource: Resource, namespace: str, name: str) -> Manifest | None:
        """A copy of an object, to edit."""
        found = self.objects[resource].get((namespace, name))
        return None if found is None else copied(found)

    def get(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """As `find`. Raises Refusal if it is not there."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise not_found(resource, name)
        return found

    def all(self, resource: Resource, namespace: str = "") -> list[Manifest]:
        """Those of a namespace, or of all; ordered by namespace and name, as etcd's keys are.

        They are to be looked at alone: the controllers look at all objects whenever one changes.
        """
        found = self.objects[resource]
        return [found[at] for at in sorted(found) if namespace in {"", at[0]}]

    def add(self, resource: Resource, thing: Manifest) -> Manifest:
        key = key_of(resource, thing)
        if key[1:] in self.objects[resource]:
            raise already_exists(resource, key[2])
        thing = {"apiVersion": resource.api_version, "kind": resource.kind, **thing}
        metadata = {k: v for k, v in thing["metadata"].items() if k not in SYSTEM}
        metadata |= {"uid": str(uuid4()), "creationTimestamp": timestamp()}
        if "spec" in thing:
            metadata["generation"] = 1
        self._write(key, "ADDED", {**thing, "metadata": metadata})
        return self.get(*key)

    def put(self, resource: Resource, thing: Manifest) -> Manifest:
        """Replaces an object; one that stays the same keeps its version."""
        key = key_of(resource, thing)
        live = self.objects[resource].get(key[1:])
        if live is None:
            raise not_found(resource, key[2])
        metadata = {k: v for k, v in thing["metadata"].items() if k not in SYSTEM}
        metadata |= {k: v for k, v in live["metadata"].items() if k in SYSTEM}
        for name in ("deletionTimestamp", "deletionGracePeriodSeconds"):  # set once, by `delete`
            if name in thing["metadata"]:
                metadata[name] = thing["metadata"][name]
        if thing.get("spec") != live.get("spec"):
            metadata["generation"] = metadata.get("generation", 0) + 1
        written = {**thing, "metadata": metadata}
        if written != live:
            self._write(key, "MODIFIED", written)
        ends_later = resource in {PODS, NAMESPACES}  # when their processes or content have ended
        if "deletionTimestamp" in metadata and not metadata.get("finalizers") and not ends_later:
            self.remove(resource, key[1], key[2])
        return written

    @contextmanager
    def change(self, resource: Resource, namespace: str, name: str) -> Iterator[Manifest | None]:
        """Edits an object, and writes it if it is still there; None if it is not."""
        found = self.find(resource, namespace, name)
        yield found
        if found is not None and (namespace, name) in self.objects[resource]:
            self.put(resource, found)

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        key = (resource, namespace, name)
        live = self.objects[resource].pop(key[1:], None)
        self.owned.pop(key, None)
        if live is None:
            return
        self.version += 1
        gone = {**live, "metadata": {**live["metadata"], "resourceVersion": str(self.version)}}
        self._tell(Event(self.version, "DELETED", resource, gone, live))

    def since(self, version: int) -> Iterator[Event]:
        """What has happened after a version. Raises Refusal if that is forgotten."""
        if version < self.compacted:
            raise expired(f"too old resource version: {version} ({self.compacted})")
        yield from [event for event in self.events if event.version > version]

    def compact(self) -> None:
        """Forgets what has happened; who watches from an older version is told to list anew."""
        self.events.clear()
        self.compacted = self.version

    @contextmanager
    def listening(self, queue: "asyncio.Queue[Event]") -> Iterator[None]:
        """Puts each event into the queue from now on."""
        self.listeners.append(queue.put_nowait)
        try:
            yield
        finally:
            self.listeners.remove(queue.put_nowait)

    def _write(self, key: Key, kind: str, thing: Manifest) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        things, at, written = self.objects[key[0]], key[1:], copied(thing)
        before, things[at] = things.get(at), written
        self._tell(Event(self.version, kind, key[0], written, before))

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        for listener in list(self.listeners):
            listener(event)


def key_of(resource: Resource, thing: Manifest) -> Key:
    metadata = thing["metadata"]
    namespace = metadata.get("namespace", "") if resource.namespaced else ""
    return resource, namespace, metadata["name"]


def copied(thing: Any) -> Any:
    """A copy of something that is JSON: a seventh of the time of `deepcopy`."""
    if isinstance(thing, dict):
        return {key: copied(value) for key, value in thing.items()}
    return [copied(item) for item in thing] if isinstance(thing, list) else thing


def timestamp(at: datetime | None = None) -> str:
    """A time as most of the API writes it: whole seconds."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
