"""When each image in the registry's repository of base images was last used.

A registry does not know. So each set of gateways keeps a small manifest beside them, whose
annotations tell it; whoever removes images reads those of all.
"""

import hashlib
from collections.abc import Iterable, Mapping

import msgspec

from moorage.engines.images.manifest import OCI_MANIFEST, Content, Descriptor
from moorage.engines.images.reference import Reference, Repository
from moorage.engines.images.registry import NotInRegistry, Registry

NOTES = "used-"
"""What the tags of these manifests begin with."""

IN_USE_SECONDS = 2 * 3600
"""An image that was used within them is not removed: a build may be running on it."""

_NOTED_SECONDS = 3600  # a later use is noted anew
_KIND = "application/vnd.moorage.base-uses"
_EMPTY = Content(media_type="application/vnd.oci.empty.v1+json", body=b"{}")  # OCI image spec 1.1


class BaseUse(msgspec.Struct, frozen=True):
    """A base image in the registry, by the tag that it has there."""

    tag: str
    name: str  # as it is called where it comes from
    digest: str
    size_bytes: int  # of its layers as they are stored
    used_at: int  # Unix time


class _Notes(msgspec.Struct, rename="camel"):
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    config: Descriptor = _EMPTY.descriptor
    layers: tuple[Descriptor, ...] = (_EMPTY.descriptor,)
    artifact_type: str = _KIND
    media_type: str = OCI_MANIFEST
    schema_version: int = 2


def superfluous(uses: Iterable[BaseUse], *, now: int, max_seconds: int, max_bytes: int) -> set[str]:
    """Returns the digests of images to remove: long unused ones, and beyond the size the oldest.

    What is in use, and what has a digest of such, stays, however much it is.
    """
    by_age = sorted(uses, key=lambda use: use.used_at)
    used = {use.digest for use in by_age if use.used_at > now - IN_USE_SECONDS}
    removed = {use.digest for use in by_age if use.used_at < now - max_seconds} - used
    sizes = {use.digest: use.size_bytes for use in by_age}
    for use in by_age:
        if sum(size for digest, size in sizes.items() if digest not in removed) <= max_bytes:
            break
        if use.digest not in used:
            removed.add(use.digest)
    return removed


class BaseUses:
    """The notes of one set of gateways, and those of all others."""

    def __init__(self, registry: Registry, bases: Repository, *, made_by: str) -> None:
        """`made_by` is this set's name, which no other has."""
        self._registry = registry
        name = hashlib.sha256(made_by.encode()).hexdigest()[:12]
        self._own = Reference(repository=bases, tag=f"{NOTES}{name}")
        self._noted: dict[str, BaseUse] | None = None

    async def note(self, use: BaseUse) -> None:
        """Notes a use, unless the same was noted within the hour. Raises RegistryFailed."""
        noted = await self._known()
        before = noted.get(use.tag)
        is_recent = before is not None and use.used_at - before.used_at < _NOTED_SECONDS
        if before is not None and is_recent and before.digest == use.digest:
            return
        await self._write({**noted, use.tag: use})

    async def forget(self, digests: set[str]) -> None:
        """Drops what is noted of images that were removed. Raises RegistryFailed."""
        noted = await self._known()
        kept = {tag: use for tag, use in noted.items() if use.digest not in digests}
        if kept != noted:
            await self._write(kept)

    async def all(self, tags: Iterable[str]) -> dict[str, BaseUse]:
        """Returns the last use of each image, by its tag; `tags` are all of the repository.

        Raises RegistryFailed.
        """
        found: dict[str, BaseUse] = {}
        for tag in tags:
            if not tag.startswith(NOTES):
                continue
            notes = await self._read(Reference(repository=self._own.repository, tag=tag))
            for use in notes.values():
                if use.tag not in found or found[use.tag].used_at < use.used_at:
                    found[use.tag] = use
        return found

    async def _known(self) -> dict[str, BaseUse]:
        if self._noted is None:
            self._noted = await self._read(self._own)
        return self._noted

    async def _write(self, noted: Mapping[str, BaseUse]) -> None:
        before = await self._registry.digest(self._own)
        values = {tag: msgspec.json.encode(use).decode() for tag, use in sorted(noted.items())}
        content = Content(media_type=OCI_MANIFEST, body=msgspec.json.encode(_Notes(values)))
        await self._registry.push_blob(self._own.repository, _EMPTY.body, digest=_EMPTY.digest)
        await self._registry.put_manifest(self._own, content)
        self._noted = dict(noted)
        if before is not None and before != content.digest:
            await self._registry.delete_manifest(self._own.pinned(before))

    async def _read(self, notes: Reference) -> dict[str, BaseUse]:
        try:
            content = await self._registry.manifest(notes)
            values = msgspec.json.decode(content.body, type=_Notes).annotations
            return {tag: msgspec.json.decode(it, type=BaseUse) for tag, it in values.items()}
        except (NotInRegistry, msgspec.DecodeError):
            return {}
