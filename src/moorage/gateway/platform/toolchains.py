"""Opens the store of toolchains and the list of available ones, for a gateway or a command."""

import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from moorage.clock import Clock, SystemClock
from moorage.gateway.platform.isolation import offered as offered_to
from moorage.planning.toolbox import Toolbox
from moorage.settings import load_settings
from moorage.toolchains.inventory import Inventory
from moorage.toolchains.npm import Npm, find_npm
from moorage.toolchains.store import ToolchainStore, Version, nothing_needed


class StoreLimits(msgspec.Struct, frozen=True):
    """How much the store may hold, and how much of its disk must stay free."""

    max_bytes: int
    reserve_bytes: int


_UNLIMITED = StoreLimits(max_bytes=1 << 62, reserve_bytes=0)


@dataclass(frozen=True, kw_only=True)
class Toolchains:
    """The store that installs toolchains, and the list of those that are available."""

    store: ToolchainStore
    inventory: Inventory


async def open_toolchains(
    stack: AsyncExitStack,
    data_dir: Path,
    *,
    installs: bool,
    clock: Clock,
    offered: Callable[[Toolbox], Toolbox] = lambda found: found,
    limits: StoreLimits = _UNLIMITED,
    sweeps: bool = True,
    needed: Callable[[], Awaitable[Collection[Version]]] = nothing_needed,
) -> Toolchains:
    """Opens both below `data_dir`; without `installs`, only installed toolchains are available.

    With `sweeps`, removes what an interrupted install left: no other process may use them then.
    """
    program = find_npm() if installs else None
    npm = None
    if program is not None:
        npm = Npm(program, directory=data_dir / "npm")
        if sweeps:
            npm.sweep()
    store = ToolchainStore(
        data_dir / "toolchains",
        npm=npm,
        clock=clock,
        max_bytes=limits.max_bytes,
        reserve_bytes=limits.reserve_bytes,
        needed=needed,
    )
    if sweeps:
        store.open()
    stack.push_async_callback(store.close)
    listing_file = data_dir / "toolchains.json"
    inventory = Inventory(store, npm=npm, listing_file=listing_file, clock=clock, offered=offered)
    await inventory.open()
    return Toolchains(store=store, inventory=inventory)


async def toolbox_here() -> Toolbox:
    """Returns the toolbox of this machine, for a plan made without a gateway.

    npm's lists are kept in the user's cache for a day. What the operator has put into the
    store of the gateway that the settings of this machine describe counts, too.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "moorage"
    async with AsyncExitStack() as stack:
        found = await open_toolchains(stack, cache, installs=True, clock=SystemClock())
        if not found.inventory.is_fresh:
            await found.inventory.refresh()
        toolbox = found.inventory.toolbox
    settings = load_settings(file=None)
    toolbox = with_installed(toolbox, Path(settings.data_dir) / "toolchains")
    return offered_to(settings)(toolbox)


def with_installed(toolbox: Toolbox, store: Path) -> Toolbox:
    """Returns the toolbox with what is in a store's directory, such as the operator's links."""
    found = dict(toolbox.store)
    places: list[Path] = []
    with suppress(PermissionError):  # it is the gateway's, and this may be another user
        places = sorted(path for path in store.glob("[!.]*/*") if path.is_dir())
    for place in places:
        program = place.parent.name
        found[program] = tuple(dict.fromkeys((*found.get(program, ()), place.name)))
    return msgspec.structs.replace(toolbox, store=found)
