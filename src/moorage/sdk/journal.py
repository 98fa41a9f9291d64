"""Records the payments that wallets signed, on disk before they are broadcast.

Each event is one JSON line with the whole payment; the last line of a hash is its state. A line is
on the disk (fsync) before its transaction is broadcast. So a line torn by a crash belongs to a
payment that was never made, and is ignored.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

from moorage.sdk.errors import ClientMisconfigured, JournalUnwritable

_LOCK_POLL_SECONDS = 0.02


class PaymentState(StrEnum):
    """What became of a signed payment."""

    SIGNED = "signed"  # may be broadcast, mined or credited: is resumed, never repeated
    DEPLOYED = "deployed"  # the gateway accepted it and deploys
    CREDITED = "credited"  # the gateway accepted it; its worth is in the wallet's credits
    REVERTED = "reverted"  # mined, but no token moved
    EXPIRED = "expired"  # an authorization that was never carried out, and can't be any more
    REPLACED = "replaced"  # can never be mined: another transaction used its account nonce


class PaymentKey(msgspec.Struct, frozen=True):
    """What a payment is for. `wallet` is lower-case, `gateway` normalised."""

    gateway: str
    wallet: str
    name: str


class Payment(msgspec.Struct, frozen=True):
    """A signed transfer and what it pays for. `amount` is in atomic units of the token.

    It is a transaction; or an authorization that the gateway settles, as a header has it, with its
    nonce and its end in Unix seconds, and without a transaction's hash.
    """

    gateway: str
    wallet: str
    name: str
    chain: str
    chain_id: int
    token: str
    decimals: int
    amount: int
    pay_to: str
    signed_at_ms: int
    nonce: int = 0
    tx_hash: str = ""
    raw_transaction: str = ""
    state: PaymentState = PaymentState.SIGNED
    project_id: str | None = None
    deployment_id: str | None = None
    authorization: str = ""
    authorization_nonce: str = ""
    valid_before: int = 0

    @property
    def reference(self) -> str:
        """The transaction's hash, or the authorization's nonce: no two payments have the same."""
        return self.tx_hash or self.authorization_nonce

    @property
    def key(self) -> PaymentKey:
        """What it pays for."""
        return PaymentKey(gateway=self.gateway, wallet=self.wallet, name=self.name)


class Journal:
    """The file `payments.jsonl` in a state directory; both are the user's alone (0600, 0700)."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "payments.jsonl"

    def payments(self, key: PaymentKey) -> list[Payment]:
        """Returns every payment for `key` in its last state, oldest first; none without a file.

        Raises ClientMisconfigured when a complete line can't be parsed: it may be a payment.
        """
        return [payment for payment in self._payments() if payment.key == key]

    def signed_since(self, at_ms: int) -> list[Payment]:
        """Returns every payment of this directory that was signed at or after a time.

        `at_ms` is Unix time in milliseconds. Raises ClientMisconfigured as `payments` does.
        """
        return [payment for payment in self._payments() if payment.signed_at_ms >= at_ms]

    def append(self, payment: Payment) -> None:
        """Appends a line and waits until it is on the disk. Raises JournalUnwritable."""
        handle = self._open(self.path)
        try:
            line = msgspec.json.encode(payment) + b"\n"
            _write_all(handle, b"\n" + line if _ends_torn(handle) else line)
            os.fsync(handle)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            os.close(handle)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Holds a lock on this directory, so that no other run takes the same account nonce."""
        handle = self._open(self.path.with_suffix(".lock"))
        try:
            while not _try_lock(handle):  # noqa: ASYNC110 - the lock is the system's
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(handle)

    def _payments(self) -> Iterable[Payment]:
        found: dict[tuple[PaymentKey, int, str], Payment] = {}
        for number, line in enumerate(self._lines(), start=1):
            if not line.endswith(b"}"):  # blank, or torn by a crash
                continue
            payment = self._read_line(line, number)
            found[payment.key, payment.chain_id, payment.reference] = payment
        return found.values()

    def _lines(self) -> list[bytes]:
        try:
            return self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _read_line(self, line: bytes, number: int) -> Payment:
        try:
            return msgspec.json.decode(line, type=Payment)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ClientMisconfigured(
                f"{self.path}:{number} can't be read ({error}); nothing is paid while it may "
                "hold a payment: fix the line or move the file away"
            ) from error

    def _open(self, path: Path) -> int:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> JournalUnwritable:
    return JournalUnwritable(
        f"payments can't be recorded in {path} ({error.strerror}), so none is made; "
        "choose another --state-dir"
    )


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _ends_torn(handle: int) -> bool:
    size = os.fstat(handle).st_size
    return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
