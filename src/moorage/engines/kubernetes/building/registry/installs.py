"""What installs have made, as images of the operator's registry: later builds do not repeat them.

Each wallet has its own repository for them, as no build may harm one of another's. An image's tag
is the install's key; an app that was built on it has its layers below its files, and its key in a
label.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.clock import Clock
from moorage.engines.images.manifest import RunConfiguration, labels, with_label, with_layers
from moorage.engines.images.reference import Reference, Repository
from moorage.engines.images.registry import NotInRegistry
from moorage.engines.kubernetes.building.registry.image_store import (
    ImageStore,
    PackedLayer,
    StoredImage,
)
from moorage.engines.kubernetes.objects.labels import INSTALL_LABEL, INSTANCE_LABEL
from moorage.threads import in_thread

UNUSED_SECONDS = 24 * 3600
"""What no kept release was built on stays so long: the next try of a build that failed has it."""

_FOLDER = "install"
_ROOTS, _MADE_AT = "moorage.dev/topmost", "moorage.dev/made-at"
_FILES = "app"  # where uploads are, in images


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An install that is kept, as far as it counts for how long."""

    key: str
    made_at: int  # Unix time
    size_bytes: int


def superfluous(
    kept: Collection[Kept], used: Collection[str], *, now: int, max_bytes: int
) -> list[str]:
    """Returns the keys of those to remove: unused ones that are old, or too many with newer ones.

    `used` are the keys that kept releases were built on.
    """
    removed, taken = [], 0
    for each in sorted(kept, key=lambda it: it.made_at, reverse=True):
        if each.key in used:
            continue
        taken += each.size_bytes
        if taken > max_bytes or each.made_at < now - UNUSED_SECONDS:
            removed.append(each.key)
    return removed


def is_beside(roots: Collection[str], files: Collection[str]) -> bool:
    """Returns whether no file of an upload is at, above or below what an install has made.

    Both are paths in the image.
    """
    made, given = set(roots), set(files)
    return not any(given & set(_line(it)) for it in made) and not any(
        made & set(_line(it)) for it in given
    )


def _read(roots: str) -> list[str] | None:
    """Reads a list of names; None if it is none."""
    try:
        return msgspec.json.decode(roots, type=list[str])
    except msgspec.DecodeError:
        return None


def _files(source: Path) -> list[str]:
    return [f"{_FILES}/{it.relative_to(source)}" for it in source.rglob("*") if it.is_file()]


def _line(path: str) -> Iterator[str]:
    """Yields a path, and the directories above it."""
    while path:
        yield path
        path = path.rpartition("/")[0]


class Installs:
    """The installs of all wallets that one set of gateways has kept."""

    def __init__(
        self,
        store: ImageStore,
        root: Repository,
        *,
        made_by: str,
        clock: Clock,
        max_unused_bytes: int,
    ) -> None:
        """`max_unused_bytes` are for those of one wallet that no release was built on.

        If it is 0, none is kept at all.
        """
        self.are_kept = max_unused_bytes > 0
        self._store = store
        self._root = root
        self._made_by = made_by
        self._clock = clock
        self._max_unused_bytes = max_unused_bytes
        self._held: Counter[str] = Counter()

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Keeps one that a build may use, as long as this lasts."""
        self._held[key] += 1
        try:
            yield
        finally:
            self._held[key] -= 1

    async def find(self, wallet: str, key: str, source: Path) -> StoredImage | None:
        """Returns what an install has made, if `source` can be laid over it.

        Raises RegistryFailed, OSError.
        """
        try:
            found = await self._store.get(self._name(wallet, key))
        except NotInRegistry:
            return None
        roots = _read(labels(found.image).get(_ROOTS, ""))
        if roots is None or not is_beside(roots, await in_thread(_files, source)):
            return None
        return found

    async def keep(
        self,
        wallet: str,
        key: str,
        *,
        base: StoredImage,
        layers: Sequence[PackedLayer],
        run: RunConfiguration,
        roots: str,
    ) -> StoredImage:
        """Keeps an install, whose layer is the last; `roots` are its topmost names in JSON.

        Raises RegistryFailed, OSError.
        """
        name, apps = self._name(wallet, key), self._root.below(wallet)
        await self._store.put_layers(base, layers, apps)
        image = with_layers(base.image, [packed.layer for packed in layers], run)
        for named in image.manifest.layers:
            await self._store.move(apps, name.repository, named)
        told = {INSTANCE_LABEL: self._made_by, _ROOTS: roots, _MADE_AT: str(self._now())}
        for label, value in told.items():
            image = with_label(image, label, value)
        return await self._store.put(name, image)

    async def collect(
        self, wallet: str, used: Callable[[], Awaitable[Collection[str]]], *, is_over: bool
    ) -> None:
        """Removes what no release needs; all, with `is_over`, of a wallet that has nothing more.

        `used` gives the keys of those that kept releases were built on. Raises RegistryFailed.
        """
        found: dict[str, tuple[Kept, Reference]] = {}
        keys = await self._store.registry.tags(self._name(wallet, "").repository)
        if not keys:
            return
        needed = set() if is_over else await used()
        for key in keys:
            stored = await self._store.get(self._name(wallet, key))
            told = labels(stored.image)
            if told.get(INSTANCE_LABEL) == self._made_by:
                size = stored.image.manifest.layers[-1].size  # the others are of its base
                made_at = int(told.get(_MADE_AT, "0"))
                found[key] = Kept(key=key, made_at=made_at, size_bytes=size), stored.stored
        kept = [each for each, _ in found.values()]
        most = 0 if is_over else self._max_unused_bytes
        for key in superfluous(kept, needed, now=self._now(), max_bytes=most):
            if not self._held[key]:
                await self._store.remove(found[key][1])

    def _name(self, wallet: str, key: str) -> Reference:
        return Reference(repository=self._root.below(wallet).below(_FOLDER), tag=key)

    def _now(self) -> int:
        return self._clock.now_ms() // 1000


def key_of(image: StoredImage) -> str:
    """Returns the key of the install that an app was built on; "" for none."""
    return labels(image.image).get(INSTALL_LABEL, "")
