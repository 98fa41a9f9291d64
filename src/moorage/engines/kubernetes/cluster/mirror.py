"""A copy of some of the cluster's objects, which is never believed for longer than is stated.

It is listed again every `relist_seconds`, and follows a watch in between. A watch that stands still
is like a cluster in which nothing changes: so only the beginning of the last whole list counts
for the copy's age, and a copy that is older than `max_age_seconds` answers with ClusterUnavailable.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from moorage.clock import Clock
from moorage.engines.kubernetes.cluster.client import Change, Gone, Listed, Refused, Resource
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.errors import ClusterUnavailable

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0
_SILENCE_SECONDS = 75.0  # API servers send bookmarks about once a minute
_BOOKMARK, _DELETED = "BOOKMARK", "DELETED"

Key = tuple[str, str]
"""Namespace and name of an object."""

T = TypeVar("T")


class Source(Protocol):
    """The part of the cluster that a mirror needs."""

    async def list(
        self, resource: Resource, *, namespace: str = "", labels: Mapping[str, str] | None = None
    ) -> Listed:
        """Returns the objects with these labels, of one namespace or of all."""
        ...

    def watch(
        self,
        resource: Resource,
        *,
        labels: Mapping[str, str],
        version: str,
        seconds: int,
        silence_seconds: float,
    ) -> AsyncGenerator[Change, None]:
        """Gives what changes after a version."""
        ...


class Mirror(Generic[T]):
    """The objects of one kind with some labels, in the form that `parse` gives them.

    `changed` is called with the former and the new form of each object that changes; with None for
    one that is not there.
    """

    def __init__(
        self,
        source: Source,
        resource: Resource,
        *,
        labels: Mapping[str, str],
        parse: Callable[[Manifest], T],
        changed: Callable[[T | None, T | None], None],
        clock: Clock,
        relist_seconds: float = 60.0,
        max_age_seconds: float = 90.0,
    ) -> None:
        self._source = source
        self._resource = resource
        self._labels = labels
        self._parse = parse
        self._changed = changed
        self._clock = clock
        self._relist_seconds = relist_seconds
        self._max_age_seconds = max_age_seconds
        self._objects: dict[Key, tuple[str, T]] = {}  # with the version of each
        self._listed_at = float("-inf")
        self._version = ""

    def __iter__(self) -> Iterator[T]:
        """Gives all objects. Raises ClusterUnavailable if the copy is too old."""
        self.require_fresh()
        return iter([value for _, value in self._objects.values()])

    def get(self, key: Key) -> T | None:
        """Returns an object. Raises ClusterUnavailable if the copy is too old."""
        self.require_fresh()
        found = self._objects.get(key)
        return None if found is None else found[1]

    def require_fresh(self) -> None:
        """Raises ClusterUnavailable if the copy is too old to decide anything by it."""
        age = self._clock.monotonic_seconds() - self._listed_at
        if age > self._max_age_seconds:
            raise ClusterUnavailable(
                f"What the cluster has of {self._resource.plural} is not known: it could not be"
                f" listed for {self._max_age_seconds:.0f} s."
            )

    def put(self, manifest: Manifest) -> None:
        """Takes in an object as the server has just answered it, unless a newer one is known."""
        key, version = _key(manifest), _version(manifest)
        known = self._objects.get(key)
        if known is None or _is_newer(version, known[0]):
            self._set(key, version, self._parse(manifest))

    def drop(self, key: Key) -> None:
        """Takes out an object whose deletion the server has confirmed."""
        known = self._objects.pop(key, None)
        if known is not None:
            self._changed(known[1], None)

    async def relist(self) -> None:
        """Lists once. Raises ClusterUnavailable, Refused."""
        begun = self._clock.monotonic_seconds()
        listed = await self._source.list(self._resource, labels=self._labels)
        self._take_list(listed, list(self._objects))
        self._version, self._listed_at = listed.version, begun

    async def refresh(
        self, *, namespace: str, labels: Mapping[str, str], known: Collection[Key]
    ) -> None:
        """Asks for some of the objects now; `known` are those of them that were known so far.

        Raises ClusterUnavailable, Refused.
        """
        asked = {**self._labels, **labels}
        listed = await self._source.list(self._resource, namespace=namespace, labels=asked)
        self._take_list(listed, known)

    async def run(self) -> None:
        """Lists and watches, over failures of the cluster, until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                if self._seconds_left() <= 0:
                    await self.relist()
                await self._watch()
                pause = _FIRST_PAUSE_SECONDS
            except (ClusterUnavailable, Refused) as error:
                if isinstance(error, Gone):
                    self._version = ""
                logger.warning("%s are not followed: %s", self._resource.plural, error)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            except Exception:  # an object that can't be read must not end the following
                self._version = ""
                logger.exception("%s are not followed", self._resource.plural)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            await asyncio.sleep(pause)  # a server may end each watch at once

    def _seconds_left(self) -> float:
        """Returns how long until the next list is due."""
        if not self._version:
            return 0.0
        return self._listed_at + self._relist_seconds - self._clock.monotonic_seconds()

    async def _watch(self) -> None:
        """Follows what changes, until the next list is due."""
        seconds = max(1, round(self._seconds_left()))
        with contextlib.suppress(TimeoutError):  # a server may take longer than it was asked
            async with asyncio.timeout(seconds + 1):
                watch = self._source.watch(
                    self._resource,
                    labels=self._labels,
                    version=self._version,
                    seconds=seconds,
                    silence_seconds=_SILENCE_SECONDS,
                )
                async with contextlib.aclosing(watch):
                    async for change in watch:
                        self._take(change)

    def _take_list(self, listed: Listed, known: Collection[Key]) -> None:
        """Takes in what was listed, and takes out what is known and was not."""
        found = {_key(manifest): manifest for manifest in listed.items}
        for key in set(known) - found.keys():
            held = self._objects.get(key)
            if held is not None and not _is_newer(held[0], listed.version):  # else made meanwhile
                self.drop(key)
        for manifest in found.values():
            self.put(manifest)

    def _take(self, change: Change) -> None:
        self._version = _version(change.object)
        if change.type == _DELETED:
            key = _key(change.object)
            known = self._objects.get(key)
            if known is not None and not _is_newer(known[0], self._version):  # else it is a new one
                self.drop(key)
        elif change.type != _BOOKMARK:
            self.put(change.object)

    def _set(self, key: Key, version: str, value: T) -> None:
        known = self._objects.get(key)
        self._objects[key] = (version, value)
        self._changed(None if known is None else known[1], value)


def _key(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _version(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("resourceVersion", ""))


def _is_newer(version: str, other: str) -> bool:
    """Compares versions of objects: numbers, since Kubernetes 1.35 by its API's own promise."""
    return int(version or 0) > int(other or 0)
