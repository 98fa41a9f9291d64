"""The vault encrypts variables, webhooks' secrets and private keys with the operator's key.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits. The project's id, or the webhook's
wallet, is authenticated too, so that a sealed text can be opened for its owner only. A sealed text
is `v1.<key>.<base64url>`; `<key>` names the key, so that a wrong key is noticed before it is used.
"""

import binascii
import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

import msgspec
from sqlalchemy import bindparam, select, union, update

from moorage.errors import VariablesUnreadable
from moorage.imports import hidden
from moorage.records.project import Variables
from moorage.storage.database import Database, Statement, Transaction, substring
from moorage.storage.schema import authorities, certificates, deployments, projects, webhooks

# It takes cffi where that is installed, with a parser of C, some 1.5 MiB; else ctypes.
with hidden("cffi"):
    from Crypto.Cipher import AES

KEY_BYTES = 32
MARK_LENGTH = 11
"""The length of a mark: the beginning of a sealed text, which names version and key."""

_VERSION = "v1"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_OF_WEBHOOK, _OF_KEY = "webhook:", "key:"


class Vault:
    """Seals with the first of its keys, and opens with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_mark(key): key for key in keys}
        self.mark = _mark(keys[0])
        """The mark of texts that are sealed now."""

    def knows(self, mark: str) -> bool:
        """Whether there is a key for texts with this mark."""
        return mark in self._keys

    def seal(self, variables: Variables, project_id: str) -> str:
        """Returns the variables as sealed text; "" for none."""
        if not (variables.build or variables.run):
            return ""
        return self._seal(msgspec.json.encode(variables), project_id)

    def open(self, text: str, project_id: str) -> Variables:
        """Returns the variables that were sealed for this project.

        Raises VariablesUnreadable when the text was changed, or no key fits.
        """
        if not text:
            return Variables()
        return msgspec.json.decode(self._open(text, project_id), type=Variables)

    def seal_secret(self, secret: str, wallet: str) -> str:
        """Returns the secret of a wallet's webhook as sealed text."""
        return self._seal(secret.encode(), f"{_OF_WEBHOOK}{wallet}")

    def open_secret(self, text: str, wallet: str) -> str:
        """Returns the secret that was sealed for this wallet's webhook. Raises as `open` does."""
        return self._open(text, f"{_OF_WEBHOOK}{wallet}").decode()

    def seal_key(self, key: str, owner: str) -> str:
        """Returns a private key as sealed text; `owner` is a certificate's name, or a directory."""
        return self._seal(key.encode(), f"{_OF_KEY}{owner}")

    def open_key(self, text: str, owner: str) -> str:
        """Returns the private key that was sealed for this owner. Raises as `open` does."""
        return self._open(text, f"{_OF_KEY}{owner}").decode()

    def reseal(self, text: str, bound_to: str) -> str:
        """Returns a sealed text, sealed again with the first key. Raises as `open` does."""
        return self._seal(self._open(text, bound_to), bound_to)

    def _seal(self, plain: bytes, owner: str) -> str:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = AES.new(self._keys[self.mark], AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
        cipher.update(_bound_to(owner))
        sealed, tag = cipher.encrypt_and_digest(plain)
        return f"{self.mark}.{urlsafe_b64encode(nonce + tag + sealed).decode()}"

    def _open(self, text: str, owner: str) -> bytes:
        key = self._keys.get(text[:MARK_LENGTH])
        if key is None:
            raise VariablesUnreadable
        try:
            content = urlsafe_b64decode(text[MARK_LENGTH + 1 :])
            nonce, rest = content[:_NONCE_BYTES], content[_NONCE_BYTES:]
            tag, sealed = rest[:_TAG_BYTES], rest[_TAG_BYTES:]
            cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=_TAG_BYTES)
            cipher.update(_bound_to(owner))
            return cipher.decrypt_and_verify(sealed, tag)
        except (ValueError, binascii.Error):
            raise VariablesUnreadable from None


def _bound_to(owner: str) -> bytes:
    """Returns what is authenticated besides the text, so that only this owner's can be opened."""
    return f"{_VERSION}:{owner}".encode()


def _mark(key: bytes) -> str:
    """Returns the version and 32 bits of a hash, which identify the key without revealing it."""
    return f"{_VERSION}.{hashlib.sha256(b'moorage: the name of a key: ' + key).hexdigest()[:8]}"


_SEALED = (  # each column, what names its rows, whom its texts are sealed for
    (projects.c.variables, projects.c.id, projects.c.id, ""),
    (deployments.c.variables, deployments.c.id, deployments.c.project_id, ""),
    (webhooks.c.secret, webhooks.c.wallet, webhooks.c.wallet, _OF_WEBHOOK),
    (certificates.c.sealed_key, certificates.c.host, certificates.c.host, _OF_KEY),
    (authorities.c.sealed_key, authorities.c.directory, authorities.c.directory, _OF_KEY),
)
_MARKS = Statement(
    union(
        *(
            select(substring(text, 1, MARK_LENGTH)).where(text != "").distinct()
            for text, *_ in _SEALED
        )
    )
)
_RESEALING = [
    (
        Statement(
            select(key, owner, text).where(
                text != "", substring(text, 1, MARK_LENGTH) != bindparam("mark")
            )
        ),
        Statement(
            update(text.table)
            .where(key == bindparam("of_key"))
            .values({text.name: bindparam("new_text")})
        ),
        prefix,
    )
    for text, key, owner, prefix in _SEALED
]


async def marks(db: Database) -> set[str]:
    """Returns the marks of all that is sealed in a database."""
    return set(await db.values(_MARKS))


async def reseal_all(tx: Transaction, vault: Vault) -> int:
    """Seals with the vault's first key what other keys have sealed; returns how many texts."""
    count = 0
    for otherwise, store, prefix in _RESEALING:
        for key, owner, text in await tx.all(otherwise, mark=vault.mark):
            resealed = vault.reseal(text, f"{prefix}{owner}")
            await tx.execute(store, of_key=key, new_text=resealed)
            count += 1
    return count
