"""Slots: numbers, unique on the machine, that give an app its addresses and user ids.

Gateways on one machine share the numbers through files in `/run/moorage/slots`, which they change
only under a lock. A file contains the path of the deployment's directory: once that directory and
the slot's network namespace are gone, the number is free again. A slot whose addresses the machine
has a route to is somebody's, whatever the files say: two networks with one address reach nothing.
"""

import fcntl
import ipaddress
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from moorage.errors import NoCapacity

SLOTS_DIRECTORY = Path("/run/moorage/slots")
NETNS_DIRECTORY = Path("/run/netns")
ROUTES = Path("/proc/thread-self/net/route")
_PREFIX_LENGTH = 30
_REFUSED = 0x200  # RTF_REJECT of <linux/route.h>: such as a gateway's, of addresses not in use
# systemd's table of user ids lists 1879048192–2147483647 as unused.
_FIRST_UID = 1_900_000_000


class NoSlotFree(NoCapacity):
    """Every slot of the subnet is taken: configure a larger one."""


@dataclass(frozen=True)
class Slot:
    """A number, with its addresses and user ids."""

    number: int
    host_address: str
    app_address: str

    @property
    def app_uid(self) -> int:
        """User and group id of the app."""
        return _FIRST_UID + 2 * self.number

    @property
    def proxy_uid(self) -> int:
        """User and group id of the app's socket proxy, which the app can't signal."""
        return _FIRST_UID + 2 * self.number + 1


@lru_cache(maxsize=4096)  # called for every running app every few seconds
def slot_at(subnet: str, number: int) -> Slot:
    """Returns slot `number` of `subnet`: a /30 with the host's address first, then the app's.

    Raises NoSlotFree beyond the subnet's end.
    """
    network = ipaddress.ip_network(subnet)
    first = int(network.network_address) + number * 4
    if not 0 <= number < _slot_count(subnet):
        raise NoSlotFree(f"{subnet} has no slot {number}: configure a larger subnet")
    host, app = ipaddress.ip_address(first + 1), ipaddress.ip_address(first + 2)
    return Slot(number, str(host), str(app))


def claim(subnet: str, holder: Path, *, wanted: int | None = None) -> Slot:
    """Claims a slot for `holder`, an existing directory: `wanted` if it is free, else the lowest.

    Raises NoSlotFree, OSError.
    """
    with _locked():
        current = None if wanted is None else _holder(wanted)
        if wanted is not None and current == holder:
            return slot_at(subnet, wanted)
        number = _free(subnet)
        if wanted is not None and current is None and wanted not in _routed(subnet):
            number = wanted
        slot = slot_at(subnet, number)
        temporary = SLOTS_DIRECTORY / f".{number}"
        temporary.write_text(str(holder))
        temporary.rename(SLOTS_DIRECTORY / str(number))
        return slot


def free(subnet: str) -> int:
    """Returns how many slots can still be claimed; a lower bound while some were never used."""
    count, routed = _slot_count(subnet), _routed(subnet)
    taken = {int(name) for name in _named() if name.isdigit() and int(name) < count}
    unnamed = count - len(taken | routed)
    return unnamed or sum(_holder(number) is None for number in taken - routed)


def holds(number: int, holder: Path) -> bool:
    """Returns whether `holder` has the slot."""
    return _holder(number) == holder


def release(number: int, holder: Path) -> None:
    """Frees a slot, if `holder` has it."""
    with _locked():
        if _holder(number) == holder:
            (SLOTS_DIRECTORY / str(number)).unlink()


@contextmanager
def _locked() -> Iterator[None]:
    SLOTS_DIRECTORY.mkdir(parents=True, exist_ok=True)
    with (SLOTS_DIRECTORY / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free(subnet: str) -> int:
    """Returns the lowest number without a file; if all have one, the lowest whose holder is gone.

    Checking whether holders are gone is too slow to do for a thousand.
    """
    count, named, routed = _slot_count(subnet), _named(), _routed(subnet)
    numbers = [number for number in range(count) if number not in routed]
    unnamed = (number for number in numbers if str(number) not in named)
    gone = (number for number in numbers if _holder(number) is None)
    return next(chain(unnamed, gone), count)


def _slot_count(subnet: str) -> int:
    return 1 << (_PREFIX_LENGTH - ipaddress.ip_network(subnet).prefixlen)


def _routed(subnet: str) -> set[int]:
    """Returns the slots that the machine has a route to, by the kernel's table (route(8))."""
    network = ipaddress.IPv4Network(subnet)
    found: set[int] = set()
    for line in ROUTES.read_text().splitlines()[1:]:
        _, destination, _, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & _REFUSED:
            continue
        first, size = _host_order(destination), 2**32 - _host_order(mask)
        start = first - int(network.network_address)
        if 0 <= start < network.num_addresses and size < network.num_addresses:
            found.update(range(start // 4, (start + size - 1) // 4 + 1))
    return found


def _host_order(number: str) -> int:
    """Returns an address of the kernel's table, which has its bytes as they lie in memory."""
    return socket.ntohl(int(number, 16))


def _named() -> set[str]:
    """Returns the names of the slots that have a file."""
    try:
        with os.scandir(SLOTS_DIRECTORY) as files:
            return {file.name for file in files}
    except FileNotFoundError:
        return set()


def _holder(number: int) -> Path | None:
    """Returns the holder of the slot; None if it has none, or the holder is gone."""
    try:
        holder = Path((SLOTS_DIRECTORY / str(number)).read_text())
    except FileNotFoundError:
        return None
    if holder.is_dir() or any(NETNS_DIRECTORY.glob(f"mo*-{number}")):
        return holder
    return None
