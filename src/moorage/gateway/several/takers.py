"""Keeps two gateways of one machine from taking the same payments, or sending from the same key.

Each would credit what the other credited: a restored gateway beside the one that it was saved from,
or a second one with the same `pay_to`. Those that share a database take each payment once, and may
run side by side. What others on a machine have in common with them is an address on a chain, so
each locks a place for it in one file: all of it, or of those with a name one byte for its database.
"""

import fcntl
import os
import struct
import tempfile
from collections.abc import Iterable
from contextlib import AsyncExitStack
from hashlib import blake2b
from pathlib import Path

import structlog

from moorage.chains.address import parse_address
from moorage.errors import AlreadyRunning
from moorage.payments.relay.relayer import key_in
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.operation import configuration
from moorage.storage.several.identity import identity

log = structlog.get_logger()

ROOTS_LOCK_FILE = Path("/run/moorage/addresses.lock")
"""Of all gateways with root; engines make their places beside it, which apps' users pass to."""

_PLACE_BYTES = 5  # so that a place is far below 2**63, where a lock ends
_BOOKS_BYTES = 2
_PLACE_SIZE = 1 << 8 * _BOOKS_BYTES

_FLOCK = "@hhqqi4x"  # struct flock of fcntl(2): type, whence, start, length, pid


async def taken_addresses(settings: Settings, db: Database, *, pay_to: str) -> list[str]:
    """Returns every address that this gateway watches or sends from, on each chain (CAIP-10).

    Raises ConfigurationInvalid for a relayer key that can't be read.
    """
    addresses = {*await configuration.watched_recipients(db), parse_address(pay_to)}
    if settings.relayer_key_file:
        relayer = key_in(Path(settings.relayer_key_file), option="relayer_key_file")
        addresses.add(parse_address(relayer.address))
    chains = {item.chain(name).chain_id for name, item in settings.chains.items()}
    return [
        f"eip155:{chain_id}:{address}"
        for address in sorted(addresses)
        for chain_id in sorted(chains)
    ]


async def hold_addresses(
    stack: AsyncExitStack, settings: Settings, db: Database, *, addresses: Iterable[str]
) -> None:
    """Holds these `taken_addresses` until `stack` is closed.

    Raises AlreadyRunning where another gateway of this machine has one of them.
    """
    try:
        descriptor = _open_lock_file()
    except OSError as error:
        log.warning("not known whether other gateways take the same payments", error=str(error))
        return
    stack.callback(os.close, descriptor)
    books = _number(await identity(db), _BOOKS_BYTES) if settings.gateway_name else None
    for name in addresses:
        if not _hold(descriptor, _number(name, _PLACE_BYTES) * _PLACE_SIZE, books):
            raise AlreadyRunning(
                f"Another gateway on this machine takes payments to {name}, or sends from it, and "
                "has books of its own: both would credit the same payments. Stop that one, or give "
                "this one a pay_to and a relayer_key_file of its own."
            )


def _hold(descriptor: int, place: int, books: int | None) -> bool:
    """Locks a place for a gateway alone, or for all with these books; returns whether it may."""
    if books is None:
        return _lock(descriptor, fcntl.LOCK_EX, begin=place, size=_PLACE_SIZE)
    own, end = place + books, place + _PLACE_SIZE
    return (
        _lock(descriptor, fcntl.LOCK_SH, begin=own, size=1)
        and not _is_locked(descriptor, begin=place, end=own)
        and not _is_locked(descriptor, begin=own + 1, end=end)
    )


def _lock(descriptor: int, kind: int, *, begin: int, size: int) -> bool:
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, size, begin)
    except (BlockingIOError, PermissionError):  # lockf(3) may say either
        return False
    return True


def _is_locked(descriptor: int, *, begin: int, end: int) -> bool:
    """Returns whether another process has a lock between these places."""
    if begin == end:
        return False
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, begin, end - begin, 0)
    (kind, *_) = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


def _number(name: str, size_bytes: int) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=size_bytes).digest(), "big")


def _open_lock_file() -> int:
    """Opens the file that all gateways of this user lock. Raises OSError."""
    if os.geteuid() == 0:
        path = ROOTS_LOCK_FILE
        path.parent.mkdir(mode=0o755, exist_ok=True)
    else:
        path = Path(tempfile.gettempdir(), f"moorage-{os.geteuid()}.lock")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{path} is another user's")
    return descriptor
