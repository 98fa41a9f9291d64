"""Uploads that wallets name by their digest, which every gateway finds.

Where gateways on several machines share a content store, an upload lies there as well, under its
wallet, and is brought to the gateway that is asked for it. The store is bounded as each gateway's
own disk is: of a wallet the oldest goes first, and beyond the total nothing more is taken.
"""

import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import partial
from typing import BinaryIO

from moorage.clock import Clock
from moorage.content.store import ContentStore, Item
from moorage.errors import UploadNotFound
from moorage.uploads.room import Arriving, RoomLimits, Uploader
from moorage.uploads.stored import KEPT_MS, Stored, StoredUploads, no_room, taken_bytes

_PREFIX = "uploads"
_SKEW_MS = 600_000  # by which the store's clock and a gateway's may differ


class SharedUploads:
    """Those of this gateway, and those in the content store if there is one."""

    def __init__(
        self, own: StoredUploads, store: ContentStore | None, *, limits: RoomLimits, clock: Clock
    ) -> None:
        self._own = own
        self._store = store
        self._limits = limits
        self._clock = clock

    async def put(
        self,
        stream: AsyncIterator[bytes],
        *,
        wallet: str,
        sha256: str,
        content_length: int | None,
        uploader: Uploader,
        arriving: Arriving,
    ) -> Stored:
        """As `StoredUploads.put`. Raises ContentUnavailable as well."""
        stored = await self._own.put(
            stream,
            wallet=wallet,
            sha256=sha256,
            content_length=content_length,
            uploader=uploader,
            arriving=arriving,
        )
        if self._store is not None:
            key = _key(wallet, sha256, has_paid=uploader.has_paid)
            with suppress(FileNotFoundError):  # newer ones of the wallet needed the room meanwhile
                await self._store.put(key, self._own.path(wallet, sha256))
                await self._bound(self._store, key, has_paid=uploader.has_paid)
        return stored

    async def open(
        self, wallet: str, uploader: Uploader, arriving: Arriving, sha256: str
    ) -> BinaryIO:
        """Opens an upload of this wallet to read it; brings it here if it was stored elsewhere.

        Raises UploadNotFound, ContentUnavailable, and what `StoredUploads.bring` raises.
        """
        try:
            return self._own.open(wallet, sha256)
        except UploadNotFound:
            if self._store is None:
                raise
            await self._bring(self._store, wallet, sha256, uploader, arriving)
        return self._own.open(wallet, sha256)

    def purge(self) -> None:
        """Removes what has expired here."""
        self._own.purge()

    async def purge_store(self) -> None:
        """Removes what has expired in the content store. Raises ContentUnavailable."""
        if self._store is None:
            return
        oldest_ms = self._clock.now_ms() - KEPT_MS - _SKEW_MS
        for item in await self._store.items(_PREFIX):
            if item.changed_at_ms < oldest_ms:
                await self._store.delete(item.key)

    async def _bring(
        self,
        store: ContentStore,
        wallet: str,
        sha256: str,
        uploader: Uploader,
        arriving: Arriving,
    ) -> None:
        """Brings an upload here if the store has it."""
        for has_paid in (True, False):
            key = _key(wallet, sha256, has_paid=has_paid)
            found = [it for it in await store.items(key.rpartition("/")[0]) if it.key == key]
            for item in found:
                with suppress(FileNotFoundError):  # it expired meanwhile
                    return await self._own.bring(
                        partial(store.get, key),
                        wallet=wallet,
                        stored=Stored(sha256, item.size, item.changed_at_ms + KEPT_MS),
                        uploader=uploader,
                        arriving=arriving,
                    )
        return None

    async def _bound(self, store: ContentStore, key: str, *, has_paid: bool) -> None:
        """Removes a wallet's oldest uploads beyond its share; what was just put, beyond the total.

        It is looked at after the put, so that puts at other gateways in the same moment count.
        """
        limits = self._limits
        of_one = limits.wallet_bytes if has_paid else limits.stranger_bytes
        of_all = limits.paid_bytes if has_paid else limits.strangers_bytes
        found = await store.items(_class(has_paid=has_paid))
        prefix = f"{key.rpartition('/')[0]}/"
        own = sorted(
            (it for it in found if it.key.startswith(prefix) and it.key != key),
            key=lambda it: it.changed_at_ms,
        )
        newest = [it for it in found if it.key == key]
        while own and _bytes([*own, *newest]) > of_one:
            oldest = own.pop(0)
            found.remove(oldest)
            await store.delete(oldest.key)
        if _bytes(found) > of_all:
            await store.delete(key)
            raise no_room()


def _bytes(items: Iterable[Item]) -> int:
    return sum(taken_bytes(item.size) for item in items)


def _class(*, has_paid: bool) -> str:
    return f"{_PREFIX}/{'paid' if has_paid else 'strangers'}"


def _key(wallet: str, sha256: str, *, has_paid: bool) -> str:
    owner = hashlib.sha256(wallet.encode()).hexdigest()[:32]
    return f"{_class(has_paid=has_paid)}/{owner}/{sha256.lower()}"
