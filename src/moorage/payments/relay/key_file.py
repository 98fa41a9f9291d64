"""Reads a private key of the gateway from its file."""

import os
import stat
from pathlib import Path

from moorage.chains.signing import SigningKey
from moorage.errors import ConfigurationInvalid

_MAX_KEY_FILE_BYTES = 256  # a key, 0x and a line end take 67


def key_in(path: Path, *, option: str) -> SigningKey:
    """Returns the key in a file that the setting `option` names.

    Raises ConfigurationInvalid for a file that others may read, or that contains no key. The file's
    content is never part of the message.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_MAX_KEY_FILE_BYTES).decode("ascii").strip()
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
