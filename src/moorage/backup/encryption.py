"""Encrypts backups to a public key, so that the machine that made them cannot read them.

The format is age's (https://age-encryption.org/v1, X25519), which `age` itself reads and writes.
"""

from pathlib import Path
from typing import IO

import pyrage
from pyrage.x25519 import Identity, Recipient

from moorage.content.store import Reader, Writer
from moorage.errors import BackupFailed, BackupInvalid, InvalidField


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

    Raises BackupFailed.
    """
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
        found = [Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except OSError as error:
        raise BackupFailed(f"{file} cannot be read: {error.strerror}.") from error
    except (pyrage.IdentityError, UnicodeDecodeError):
        found = []
    if not found:
        raise BackupFailed(f"{file} must have an identity on each line, AGE-SECRET-KEY-1….")
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
        pyrage.decrypt_io(source, target, identities)
    except pyrage.DecryptError as error:
        raise BackupInvalid(f"It cannot be decrypted: {error}.") from error
    except OSError as error:
        raise BackupInvalid("It is damaged or cut short: what it says is not genuine.") from error
