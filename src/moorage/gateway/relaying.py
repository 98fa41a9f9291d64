"""The relayer's key, and a relayer on each chain that makes use of it."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from moorage.chains.rpc import RpcClient
from moorage.chains.signing import SigningKey
from moorage.clock import Clock
from moorage.errors import ConfigurationInvalid
from moorage.payments.relay.relayer import GWEI, Limits, Relayer
from moorage.settings import Settings
from moorage.storage.database import Database

_LONGEST_KEY_FILE = 256  # bytes: a key, 0x and a line's end take 67


def relayer_key(settings: Settings) -> SigningKey | None:
    """The key in `relayer_key_file`; None when there is none to be used.

    Raises ConfigurationInvalid as `key_in`.
    """
    if not settings.relayer_key_file:
        return None
    return key_in(Path(settings.relayer_key_file), option="relayer_key_file")


def key_in(path: Path, *, option: str) -> SigningKey:
    """The key in a file that `option` names.

    Raises ConfigurationInvalid for a file that others may read, or that holds no key. What it
    holds is never part of the message.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_LONGEST_KEY_FILE).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigurationInvalid(f"{option}: {path} cannot be read.") from problem
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(
            f"{option}: others may read {path}; `chmod 600 {path}`, and better take a fresh key."
        )
    try:
        return SigningKey(text)
    except ValueError:
        raise ConfigurationInvalid(
            f"{option}: {path} must hold a private key, 64 hex digits."
        ) from None


def open_relayers(
    settings: Settings,
    *,
    db: Database,
    clients: Mapping[str, RpcClient],
    clock: Clock,
) -> dict[str, Relayer]:
    """One relayer a chain, by its name; none without a key. Raises ConfigurationInvalid."""
    key = relayer_key(settings)
    if key is None:
        return {}
    limits = Limits(
        gas=settings.relayer_max_gas,
        fee_wei=settings.relayer_max_fee_gwei * GWEI,
        reserve_wei=settings.relayer_reserve_gwei * GWEI,
        reverted_wei=settings.relayer_reverted_gwei * GWEI,
    )
    return {
        name: Relayer(db=db, client=client, key=key, limits=limits, clock=clock)
        for name, client in clients.items()
    }
