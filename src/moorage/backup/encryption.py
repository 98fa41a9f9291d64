"""Encrypts backups to a public key, so that the machine that made them cannot read them.

The format is age's (https://age-encryption.org/v1, X25519), which `age` itself reads and writes.
"""

import os
import re
import stat
from pathlib import Path
from typing import IO

import pyrage
from pyrage.x25519 import Identity, Recipient

from moorage.content.store import Reader, Writer
from moorage.errors import BackupFailed, BackupInvalid, InvalidField

_HEADER_BYTES = 16 * 1024  # of a hundred recipients
_HEADER_END = re.compile(rb"\n--- [A-Za-z0-9+/]{43}\n")
_SHARED = stat.S_IRWXG | stat.S_IRWXO


def new_identity() -> Identity:
    """Returns a new private key; as text it is what a file for `identities_in` contains."""
    return Identity.generate()


def recipient_of(text: str) -> Recipient:
    """Returns the public key that `age1…` spells. Raises InvalidField."""
    try:
        return Recipient.from_str(text)
    except pyrage.RecipientError:
        raise InvalidField("backup_recipient", "must be an X25519 recipient, age1…") from None


def identities_in(file: Path) -> list[Identity]:
    """Returns the private keys in a file of `age-keygen`'s form: one a line, `#` is a comment.

    Raises BackupFailed, also where others may read the file.
    """
    try:
        with file.open() as keys:
            is_shared = os.fstat(keys.fileno()).st_mode & _SHARED
            lines = [line.strip() for line in keys]
        found = [Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except OSError as error:
        raise BackupFailed(f"{file} cannot be read: {error.strerror}.") from error
    except (pyrage.IdentityError, UnicodeDecodeError):
        found = []
    if not found:
        raise BackupFailed(f"{file} must have an identity on each line, AGE-SECRET-KEY-1….")
    if is_shared:
        raise BackupFailed(f"others may read {file}; `chmod 600 {file}`.")
    return found


def encrypt(source: IO[bytes], target: Writer, *recipients: Recipient) -> None:
    """Writes what `source` has, for whoever has the private key of any recipient.

    Raises OSError, whatever `target` raised.
    """
    try:
        pyrage.encrypt_io(source, target, recipients)
    except pyrage.EncryptError as error:
        raise OSError(str(error)) from error


def decrypt(source: Reader, target: Writer, identities: list[Identity]) -> None:
    """Writes what was encrypted. It is genuine as a whole only when this returns.

    Raises BackupInvalid if no identity opens it, or it was changed or cut short.
    """
    try:
        pyrage.decrypt_io(_Whole(source), target, identities)
    except pyrage.DecryptError as error:
        raise BackupInvalid(f"It cannot be decrypted: {error}.") from error
    except OSError as error:
        raise BackupInvalid("It is damaged or cut short: what it says is not genuine.") from error


class _Whole:
    """Reads a stream with the whole of its header first.

    The library reads the header again from its begin with each piece that comes: one of 1 MiB,
    which whoever can write to the store may put there, would take it half a minute.
    """

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._head = b""
        while len(self._head) < _HEADER_BYTES and not _HEADER_END.search(self._head):
            piece = source.read(_HEADER_BYTES - len(self._head))
            if not piece:
                break
            self._head += piece
        if len(self._head) == _HEADER_BYTES and not _HEADER_END.search(self._head):
            raise BackupInvalid("It does not begin with a header of age's.")

    def read(self, size: int, /) -> bytes:
        if not self._head:
            return self._source.read(size)
        piece, self._head = self._head[:size], self._head[size:]
        return piece
