"""Keeps the list of available toolchains current: on the machine, in the store, and from npm."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import msgspec

from moorage.clock import Clock
from moorage.planning.dockerfile.commands import PROGRAMS
from moorage.planning.toolbox import Toolbox
from moorage.toolchains.store import (
    Npm,
    NpmFailed,
    ToolchainStore,
    host_versions,
    packages,
    php_extensions,
    present,
)
from moorage.whole_file import replace_file

FRESH_SECONDS = 24 * 3600.0
RETRY_SECONDS = 900.0
_FIRST_ANSWER_SECONDS = 20.0
_MAX_QUERIES = 3  # at the same time; each is an npm process of some 50 MB

logger = logging.getLogger(__name__)


class Listing(msgspec.Struct, frozen=True):
    """npm's last answers, kept in a file beside the store."""

    asked_at_ms: int = 0
    versions: dict[str, tuple[str, ...]] = {}  # by package


@dataclass(eq=False)
class Inventory:
    """Makes the `toolbox` for planners. Without a network, it uses npm's last answers."""

    store: ToolchainStore
    _: KW_ONLY
    npm: Npm | None
    listing_file: Path
    clock: Clock
    offered: Callable[[Toolbox], Toolbox] = lambda found: found

    def __post_init__(self) -> None:
        self._host: dict[str, tuple[str, ...]] = {}
        self._programs: tuple[str, ...] = ()
        self._listing = Listing()
        self._heard = asyncio.Event()  # self.npm was asked at least once, even if it failed
        self.toolbox = Toolbox()

    async def open(self) -> None:
        """Reads the machine's versions and npm's last answers; does not ask npm."""
        self._host, extensions = await asyncio.gather(host_versions(), php_extensions())
        self._programs = (*await asyncio.to_thread(present, PROGRAMS), *extensions)
        self._listing = await asyncio.to_thread(_read, self.listing_file)
        await self._assemble()
        if self.npm is None or self._listing.asked_at_ms:
            self._heard.set()

    async def known(self) -> Toolbox:
        """Returns the toolbox, once npm was asked for the first time, or after 20 seconds."""
        if not self._heard.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_ANSWER_SECONDS):
                    await self._heard.wait()
        return self.toolbox

    async def refresh(self) -> None:
        """Asks npm for the versions of every package; keeps the old ones where it fails."""
        npm = self.npm
        if npm is None:
            return
        names = sorted({package.name for package in packages()})
        slots = asyncio.Semaphore(_MAX_QUERIES)
        answers = await asyncio.gather(*(_versions(npm, name, slots) for name in names))
        heard = {name: found for name, found in zip(names, answers, strict=True) if found}
        if len(heard) < len(names):
            logger.warning("npm lists no versions of some toolchains: those known before are used")
        self._listing = Listing(
            asked_at_ms=self.clock.now_ms() if heard else self._listing.asked_at_ms,
            versions={**self._listing.versions, **heard},
        )
        if heard:
            data = msgspec.json.encode(self._listing)
            await asyncio.to_thread(replace_file, self.listing_file, data)
        await self._assemble()
        self._heard.set()

    @property
    def is_fresh(self) -> bool:
        """Returns whether npm has answered in the last day."""
        age_ms = self.clock.now_ms() - self._listing.asked_at_ms
        return 0 <= age_ms < FRESH_SECONDS * 1000

    async def run(self) -> None:
        """Keeps the toolbox current, until cancelled."""
        while True:
            if not self.is_fresh:
                await self.refresh()
            await asyncio.sleep(RETRY_SECONDS)

    async def _assemble(self) -> None:
        store = await asyncio.to_thread(self.store.installed)
        if self.npm is not None:
            for package in packages():
                listed = package.releases(self._listing.versions.get(package.name, ()))
                store[package.program] = (*store.get(package.program, ()), *listed)
        found = Toolbox(
            host=self._host,
            programs=self._programs,
            store={program: tuple(dict.fromkeys(found)) for program, found in store.items()},
        )
        self.toolbox = self.offered(found)


async def _versions(npm: Npm, package: str, slots: asyncio.Semaphore) -> tuple[str, ...]:
    async with slots:
        try:
            return tuple(await npm.versions(package))
        except NpmFailed as failed:
            logger.info("npm: %s: %s", package, failed)
            return ()


def _read(file: Path) -> Listing:
    """Returns the listing; an empty one if the file is missing or unreadable."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Listing)
    except (OSError, msgspec.MsgspecError):
        return Listing()
