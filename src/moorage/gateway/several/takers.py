"""Keeps two gateways of one machine from taking the same payments, or sending from the same key.

Each would credit what the other credited: a restored gateway beside the one that it was saved from,
or a second one with the same `pay_to`. Those that share a database take each payment once, and may
run side by side. What others on a machine have in common with them is an address on a chain, so
each locks a byte for it, at a place of its own, in one file.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from hashlib import blake2b
from pathlib import Path

import structlog

from moorage.chains.address import parse_address
from moorage.errors import AlreadyRunning
from moorage.payments.relay.key_file import key_in
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.money.chains import recipients

log = structlog.get_logger()

ROOTS_LOCK_FILE = Path("/run/moorage/addresses.lock")
"""Of all gateways with root; engines make their places beside it, which apps' users pass to."""

_PLACE_BYTES = 7  # so that a place is far below 2**63, where a lock ends


async def hold_addresses(
    stack: AsyncExitStack, settings: Settings, db: Database, *, pay_to: str
) -> None:
    """Holds every address that this gateway watches or sends from, until `stack` is closed.

    Raises AlreadyRunning where another gateway of this machine has one of them;
    ConfigurationInvalid for a relayer key that can't be read.
    """
    addresses = {*await recipients.watched(db), parse_address(pay_to)}
    if settings.relayer_key_file:
        relayer = key_in(Path(settings.relayer_key_file), option="relayer_key_file")
        addresses.add(parse_address(relayer.address))
    chains = {item.chain(name).chain_id for name, item in settings.chains.items()}
    try:
        descriptor = _open_lock_file()
    except OSError as error:
        log.warning("not known whether other gateways take the same payments", error=str(error))
        return
    stack.callback(os.close, descriptor)
    kind = fcntl.LOCK_SH if settings.gateway_name else fcntl.LOCK_EX
    for name in _names(chains, addresses):
        place = int.from_bytes(blake2b(name.encode(), digest_size=_PLACE_BYTES).digest(), "big")
        try:
            fcntl.lockf(descriptor, kind | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError) as error:  # lockf(3) may say either
            raise AlreadyRunning(
                f"Another gateway on this machine takes payments to {name}, or sends from it, and "
                "has books of its own: both would credit the same payments. Stop that one, or give "
                "this one a pay_to and a relayer_key_file of its own."
            ) from error


def _names(chains: Iterable[int], addresses: Iterable[str]) -> Iterator[str]:
    """Yields what addresses are called on each chain (CAIP-10)."""
    for address in sorted(addresses):
        yield from (f"eip155:{chain_id}:{address}" for chain_id in sorted(chains))


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
