"""Uploads that wallets store once and then name by their SHA-256, each for an hour.

Only the wallet that stored an upload finds it. They lie in the spool directory, which a start of
the gateway sweeps: after it they are to be stored again.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import msgspec

from moorage.clock import Clock
from moorage.errors import (
    BodyTooLarge,
    InvalidField,
    InvalidRequest,
    NoCapacity,
    TooManyUploads,
    UploadNotFound,
)
from moorage.threads import in_thread
from moorage.uploads.room import (
    PREFIX,
    Allowance,
    Arriving,
    RoomLimits,
    SpoolFile,
    SpoolRoom,
    Uploader,
)

_GATHERED = 16 * 1024  # smaller chunks are joined, so that no byte is scanned often
_PIECE = 16 * 1024  # bytes that are processed before other requests get their turn

Take = Callable[[bytes], None]


async def read_body(
    stream: AsyncIterator[bytes], take: Take, *, content_length: int | None, max_bytes: int
) -> None:
    """Passes the body that `stream` yields to `take`, piece by piece.

    `content_length` is what the client declared, if it did. Raises BodyTooLarge, before anything is
    read if too many bytes are declared; InvalidRequest when more or fewer than `content_length`
    bytes arrive; what `stream` and `take` raise.
    """
    _check_declared(content_length, max_bytes)
    received = 0
    chunks: list[bytes] = []
    gathered = 0
    async for chunk in stream:
        received += len(chunk)
        _check_received(received, content_length, max_bytes)
        chunks.append(chunk)
        gathered += len(chunk)
        if gathered >= _GATHERED:
            await in_pieces(b"".join(chunks), take)
            chunks.clear()
            gathered = 0
    if content_length is not None and received < content_length:
        raise InvalidRequest(
            f"The body ended after {received} of the {content_length} bytes of its "
            "Content-Length. Send it again."
        )
    if gathered:
        take(b"".join(chunks))


async def in_pieces(data: bytes, take: Take) -> None:
    """Passes `data` to `take` in pieces, and lets other requests run after each."""
    for start in range(0, len(data), _PIECE):
        take(data[start : start + _PIECE])
        await asyncio.sleep(0)


def _check_declared(content_length: int | None, max_bytes: int) -> None:
    if content_length is None:
        return
    if content_length < 0:
        raise InvalidRequest("Content-Length must not be negative.")
    if content_length > max_bytes:
        raise _too_large(max_bytes)


def _check_received(received: int, content_length: int | None, max_bytes: int) -> None:
    if received > max_bytes:
        raise _too_large(max_bytes)
    if content_length is not None and received > content_length:
        raise InvalidRequest(
            f"The body is longer than the {content_length} bytes of its Content-Length."
        )


def _too_large(max_bytes: int) -> BodyTooLarge:
    error = BodyTooLarge(
        f"The request body is too large: this gateway accepts at most {max_bytes} bytes."
    )
    error.of_upload = True
    return error


KEPT_MS = 3_600_000
_MIB = 1024 * 1024
_STEP_BYTES = _MIB  # room is taken in steps of this, so that it limits the count as well
_RETRY_SECONDS = 600
_SEND_INLINE = (
    "There is no room to store this upload: uploads are kept for an hour. Send it in the body of "
    "the deploy or quote itself, as files or zip, or store it later."
)

_NOT_STORED = (
    "no upload of this wallet is stored here under it: uploads are kept for an hour, unless newer "
    "ones of the wallet need the room or the gateway restarts"
)

STORED_LIMITS = RoomLimits(
    strangers_bytes=1024 * _MIB,
    stranger_bytes=128 * _MIB,
    paid_bytes=4096 * _MIB,
    wallet_bytes=256 * _MIB,
)


class Stored(msgspec.Struct, frozen=True):
    """An upload that is stored until `expires_at_ms`, exclusive."""

    sha256: str
    size: int
    expires_at_ms: int


class _Kept(msgspec.Struct, frozen=True):
    stored: Stored
    path: Path
    allowance: Allowance


def no_room() -> TooManyUploads:
    """Returns the error of an upload for which there is no room."""
    return TooManyUploads(_RETRY_SECONDS, _SEND_INLINE)


def taken_bytes(size: int) -> int:
    """Returns how much room an upload of this size takes."""
    return (size // _STEP_BYTES + 1) * _STEP_BYTES


class _Arrived:
    """The `Arriving` of a body that is stored: it cannot be displaced."""

    is_over = True
    seconds_left = 0.0

    def displace(self) -> None:
        """Does nothing."""


class _Incoming:
    """An upload that is being received."""

    def __init__(
        self, file: SpoolFile, allowance: Allowance, *, make_room: Callable[[], bool]
    ) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._allowance = allowance
        self._make_room = make_room

    def take(self, piece: bytes) -> None:
        """Writes the next bytes. Raises TooManyUploads, NoCapacity, OSError."""
        _take_room(self._allowance, self._file.size + len(piece), make_room=self._make_room)
        self.digest.update(piece)
        self._file.append(piece)

    def kept(self, path: Path, *, until_ms: int) -> _Kept:
        """Ends it: the file is kept at `path`."""
        self._allowance.arriving = _Arrived()
        stored = Stored(self.digest.hexdigest(), self._file.size, until_ms)
        return _Kept(stored, self._file.detach().replace(path), self._allowance)

    def discard(self) -> None:
        """Removes what was received."""
        self._file.close()
        self._allowance.close()


def _take_room(allowance: Allowance, size: int, *, make_room: Callable[[], bool]) -> None:
    """Takes room for an upload of this size. Raises TooManyUploads, NoCapacity."""
    while allowance.taken_bytes < taken_bytes(size):
        try:
            allowance.take(_STEP_BYTES)
        except TooManyUploads:
            if not make_room():
                raise no_room() from None
        except NoCapacity:
            raise NoCapacity(_SEND_INLINE) from None


@dataclass(eq=False)
class StoredUploads:
    """The stored uploads of all wallets, in `directory`.

    Their bytes are limited by `room`: by wallet for those that paid, else by client address. A
    wallet's own oldest gives way to its newest; nobody's gives way to another wallet's.
    """

    directory: Path
    _: KW_ONLY
    room: SpoolRoom
    max_bytes: int
    clock: Clock
    others: Path | None = None

    def __post_init__(self) -> None:
        self._kept: dict[tuple[str, str], _Kept] = {}  # by wallet and digest, oldest first

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
        """Stores the body that `stream` yields for an hour, or for another hour.

        Raises InvalidField when its digest is another, TooManyUploads and NoCapacity when there is
        no room, and what `read_body` raises. Nothing is left on disk then.
        """
        self.purge()
        incoming = _Incoming(
            SpoolFile(self.directory),
            self.room.allowance(uploader, arriving),
            make_room=lambda: self._drop_oldest(wallet),
        )
        try:
            incoming.take(b"")  # an empty one takes room as well
            await read_body(
                stream, incoming.take, content_length=content_length, max_bytes=self.max_bytes
            )
            found = incoming.digest.hexdigest()
            if found != sha256:
                raise InvalidField("sha256", f"is not the digest of the body, which is {found}")
        except BaseException:
            incoming.discard()
            raise
        self._drop((wallet, sha256))
        path = self.path(wallet, sha256)
        kept = incoming.kept(path, until_ms=self.clock.now_ms() + KEPT_MS)
        self._kept[wallet, sha256] = kept
        return kept.stored

    async def bring(
        self,
        get: Callable[[Path], Awaitable[None]],
        *,
        wallet: str,
        stored: Stored,
        uploader: Uploader,
        arriving: Arriving,
    ) -> None:
        """Keeps an upload that was stored elsewhere, until it expires; `get` writes it to a file.

        Raises UploadNotFound when it has another digest, TooManyUploads and NoCapacity when there
        is no room, and what `get` raises. Nothing is left on disk then.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        allowance = self.room.allowance(uploader, arriving)
        try:
            _take_room(allowance, stored.size, make_room=lambda: self._drop_oldest(wallet))
            with TemporaryDirectory(prefix=PREFIX, dir=self.directory) as draft:
                file = Path(draft) / "upload"
                await get(file)
                if await in_thread(_digest_of, file) != stored.sha256:
                    raise _not_found()
                self._drop((wallet, stored.sha256))
                path = file.replace(self.path(wallet, stored.sha256))
        except BaseException:
            allowance.close()
            raise
        allowance.arriving = _Arrived()
        self._kept[wallet, stored.sha256] = _Kept(stored, path, allowance)

    def path(self, wallet: str, sha256: str) -> Path:
        """Returns where an upload of a wallet lies, if it is here."""
        return self.directory / _name_of(wallet, sha256)

    def open(self, wallet: str, sha256: str) -> BinaryIO:
        """Opens an upload of this wallet to read it. Raises UploadNotFound."""
        self.purge()
        kept = self._kept.get((wallet, sha256))
        name = _name_of(wallet, sha256)
        paths = [kept.path] if kept else self.others.glob(f"*/{name}") if self.others else ()
        for path in paths:
            with suppress(FileNotFoundError):  # another gateway removed it
                return path.open("rb")  # once open, it is read whole, even if it is removed
        raise _not_found()

    def purge(self) -> None:
        """Removes what has expired."""
        now_ms = self.clock.now_ms()
        for key, kept in list(self._kept.items()):
            if kept.stored.expires_at_ms <= now_ms:
                self._drop(key)

    def _drop_oldest(self, wallet: str) -> bool:
        """Removes the oldest upload of a wallet; returns False when it has none."""
        for key in self._kept:
            if key[0] == wallet:
                self._drop(key)
                return True
        return False

    def _drop(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            kept.path.unlink(missing_ok=True)
            kept.allowance.close()


def _not_found() -> UploadNotFound:
    return UploadNotFound("upload.sha256", _NOT_STORED)


def _digest_of(file: Path) -> str:
    with file.open("rb") as reading:
        return hashlib.file_digest(reading, "sha256").hexdigest()


def _name_of(wallet: str, sha256: str) -> str:
    """Returns the name of a wallet's upload's file, the same in each gateway."""
    return f"{PREFIX}{hashlib.sha256(f'{wallet}:{sha256}'.encode()).hexdigest()}"
