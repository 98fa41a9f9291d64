"""The store of toolchains, and the list of what can be had, opened for a gateway or a command."""

import os
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock, SystemClock
from moorage.planning.toolbox import Toolbox
from moorage.storage.database import Database
from moorage.storage.toolchains import in_use
from moorage.toolchains.inventory import Inventory
from moorage.toolchains.npm import Npm, find_npm
from moorage.toolchains.store import ToolchainStore

_UNUSED_SECONDS = 30 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Toolchains:
    """What installs toolchains, and what says which there are."""

    store: ToolchainStore
    inventory: Inventory


async def open_toolchains(
    stack: AsyncExitStack, data_dir: Path, *, installs: bool, clock: Clock
) -> Toolchains:
    """Open both below `data_dir`; without `installs`, only what is there already can be had."""
    program = find_npm() if installs else None
    npm = Npm(program, directory=data_dir / "npm") if program is not None else None
    store = ToolchainStore(data_dir / "toolchains", npm=npm, clock=clock)
    store.open()
    stack.push_async_callback(store.close)
    inventory = Inventory(store, npm=npm, listing_file=data_dir / "toolchains.json", clock=clock)
    await inventory.open()
    return Toolchains(store=store, inventory=inventory)


async def collect_unused(db: Database, store: ToolchainStore) -> None:
    """Remove the toolchains that no app was built with for weeks, and none that is kept needs."""
    await store.collect(unused_seconds=_UNUSED_SECONDS, kept=await in_use(db))


async def toolbox_here() -> Toolbox:
    """What a gateway on this machine could use, for a plan that no gateway makes.

    npm's lists are kept in the user's cache, and asked for again after a day.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    async with AsyncExitStack() as stack:
        found = await open_toolchains(stack, cache, installs=True, clock=SystemClock())
        if not found.inventory.is_fresh:
            await found.inventory.refresh()
        return found.inventory.toolbox
