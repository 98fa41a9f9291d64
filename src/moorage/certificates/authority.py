"""What signs certificates, as the rest of the room knows it, and the keys that it is known by."""

from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import NamedTuple, Protocol

from moorage.storage.apps import certificates
from moorage.storage.database import Database
from moorage.storage.vault import Vault


class Fault(StrEnum):
    """What an order failed by."""

    NAME = "name"  # the authority can't or won't confirm this name
    LIMIT = "limit"  # it has given this account or this name enough for now
    AUTHORITY = "authority"  # it is away, or answers what it should not


class OrderFailed(Exception):
    """An order that brought no certificate; `reason` is a sentence for people."""

    def __init__(self, fault: Fault, reason: str, *, retry_after_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.fault, self.reason, self.retry_after_seconds = fault, reason, retry_after_seconds


class Proof(NamedTuple):
    """What shows an authority who controls a name (RFC 8555, 8.3 and 8.4)."""

    name: str  # without `*.`
    token: str  # of HTTP-01; "" for DNS-01
    value: str  # the body of the answer, or the text of the TXT record


class Proofs(Protocol):
    """Where proofs are put while an authority asks for them."""

    def placed(self, proof: Proof) -> AbstractAsyncContextManager[None]:
        """Has a proof in its place. Raises OrderFailed when that can't be done."""
        ...


class Authority(Protocol):
    """A certificate authority."""

    directory: str
    """The URL of its directory; "" is the gateway's own authority."""

    is_limited: bool
    """Whether it refuses who orders much."""

    async def certify(self, name: str, key: str, proofs: Proofs) -> str:
        """Returns the chain of a new certificate, PEM, for a private key. Raises OrderFailed."""
        ...


class Account(NamedTuple):
    """What a gateway is known by at an authority."""

    key: str  # PEM
    account: str  # its URL; of the gateway's own authority the root certificate, PEM


class Accounts:
    """The accounts in the rows, which all gateways share; their keys are sealed."""

    def __init__(self, db: Database, vault: Vault) -> None:
        self._db, self._vault = db, vault

    async def of(self, directory: str) -> Account | None:
        """Returns the account at an authority, or None."""
        row = await certificates.authority(self._db, directory)
        return None if row is None else Account(self._vault.open_key(row[0], directory), row[1])

    async def store(self, directory: str, made: Account) -> Account:
        """Stores a new account; returns it, or the one that another gateway stored before."""
        sealed = self._vault.seal_key(made.key, directory)
        async with self._db.transaction(durable=True) as tx:
            await certificates.add_authority(tx, directory, sealed_key=sealed, account=made.account)
        return await self.of(directory) or made

    async def forget(self, directory: str) -> None:
        """Removes an account that its authority does not know any more."""
        async with self._db.transaction(durable=True) as tx:
            await certificates.forget_authority(tx, directory)
