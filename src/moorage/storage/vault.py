"""The vault: variables and webhooks' secrets as they are stored, sealed with the operator's key.

AES-256-GCM (NIST SP 800-38D) with a random nonce of 96 bits; the project's id, or the webhook's
wallet, is authenticated as well, so that one's secrets open for no other. A sealed text is
`v1.<key>.<base64url>`, of which `<key>` tells the key that it was sealed with: a wrong one is
noticed before it is used.
"""

import binascii
import hashlib
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence

import msgspec
from Crypto.Cipher import AES

from moorage.errors import VariablesUnreadable
from moorage.records.variables import Variables

KEY_BYTES = 32
MARK_LENGTH = 11
"""How many characters of a sealed text tell version and key."""

_VERSION = "v1"
_NONCE_BYTES = 12
_TAG_BYTES = 16


class Vault:
    """Seals with the first of its keys, opens with any of them."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = {_mark(key): key for key in keys}
        self.mark = _mark(keys[0])
        """How what is sealed now begins."""

    def knows(self, mark: str) -> bool:
        """Whether there is a key for what begins like this."""
        return mark in self._keys

    def seal(self, variables: Variables, project_id: str) -> str:
        """The variables as they are stored; "" for none."""
        if not (variables.build or variables.run):
            return ""
        return self._seal(msgspec.json.encode(variables), project_id)

    def open(self, text: str, project_id: str) -> Variables:
        """The variables that were sealed for this project.

        Raises VariablesUnreadable when any of it was changed, or with another key.
        """
        if not text:
            return Variables()
        return msgspec.json.decode(self._open(text, project_id), type=Variables)

    def seal_secret(self, secret: str, wallet: str) -> str:
        """The secret of a wallet's webhook as it is stored."""
        return self._seal(secret.encode(), f"webhook:{wallet}")

    def open_secret(self, text: str, wallet: str) -> str:
        """The secret that was sealed for this wallet's webhook. Raises as `open`."""
        return self._open(text, f"webhook:{wallet}").decode()

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
    """What is authenticated beside the text, so that it opens for this owner alone."""
    return f"{_VERSION}:{owner}".encode()


def _mark(key: bytes) -> str:
    """Version, and 32 bits that tell keys apart and nothing about them."""
    return f"{_VERSION}.{hashlib.sha256(b'moorage: the name of a key: ' + key).hexdigest()[:8]}"
