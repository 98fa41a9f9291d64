"""The key that signs receipts of payments, which all gateways on a database share."""

import secrets
from typing import NamedTuple

import msgspec
import structlog

from moorage.chains.signing import SigningKey
from moorage.clock import Clock
from moorage.storage.database import Database
from moorage.storage.several import cluster
from moorage.storage.vault import Vault

log = structlog.get_logger()

_NAME = "receipts"


class ReceiptKey(NamedTuple):
    """A key, stored sealed; of an earlier one the address alone."""

    address: str
    since_ms: int
    sealed: str


class ReceiptSigner:
    """Signs with the newest key. Earlier addresses stay known, so that their receipts stay valid.

    When the vault has another first key, the next start makes another key for receipts: others may
    have read the old ones.
    """

    def __init__(self, db: Database, vault: Vault, clock: Clock) -> None:
        self._db, self._vault, self._clock = db, vault, clock

    async def open(self) -> None:
        """Makes a key, unless there is one that the vault's first key sealed."""
        stored = await cluster.agree(self._db, _NAME, _text([self._fresh()]))
        keys = _keys(stored)
        if keys[0].sealed.startswith(self._vault.mark):
            return
        earlier = [each._replace(sealed="") for each in keys]
        fresh = _text([self._fresh(), *earlier])
        if await cluster.replace_expected(self._db, _NAME, fresh, expected=stored):
            log.info("receipts have a new key, as the secrets do")

    async def keys(self) -> list[ReceiptKey]:
        """Returns every key that there was, the newest first."""
        return _keys(await cluster.agreed(self._db, _NAME))

    async def sign(self, digest: bytes) -> tuple[str, str]:
        """Signs 32 bytes; returns the signer's address and r, s and v in hex."""
        newest = (await self.keys())[0]
        key = SigningKey(self._vault.open_key(newest.sealed, _NAME))
        signature = key.sign_digest(digest)
        return key.address, f"0x{signature[:64].hex()}{signature[64] + 27:02x}"

    def _fresh(self) -> ReceiptKey:
        text = secrets.token_hex(32)
        sealed = self._vault.seal_key(text, _NAME)
        return ReceiptKey(SigningKey(text).address, self._clock.now_ms(), sealed)


def _text(keys: list[ReceiptKey]) -> str:
    return msgspec.json.encode(keys).decode()


def _keys(text: str) -> list[ReceiptKey]:
    return msgspec.json.decode(text, type=list[ReceiptKey])
