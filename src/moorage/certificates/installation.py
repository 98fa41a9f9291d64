"""Keeps the proxy's certificates in step with the rows, and with the operator's own files."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import structlog

from moorage.certificates.pem import (
    Certificate,
    CertificateInvalid,
    digest,
    joined,
    read_certificate,
)
from moorage.clock import Clock, SteadyWall
from moorage.errors import ProxyFailed, VariablesUnreadable
from moorage.storage.apps import certificates
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from moorage.threads import in_thread

log = structlog.get_logger()

FOLLOW_SECONDS = 2.0
_DAY_MS = 86_400_000
_AGAIN_MS = 300_000  # what the proxy has is not read again before


class ProxyCertificates(Protocol):
    """The part of the proxy that this room uses. A name is a host, or `*.` and a domain."""

    def installed(self) -> Mapping[str, str]:
        """Returns the SHA-256, in hex, of what was installed for each name."""
        ...

    async def install(self, name: str, pem: bytes) -> None:
        """Serves a name with this chain and key, in place of any other. Raises ProxyFailed."""
        ...

    async def remove(self, name: str) -> None:
        """Serves a name over plain HTTP alone. Raises ProxyFailed."""
        ...


class WildcardFiles:
    """The operator's own certificate of `*.<base domain>`: two files, read when they change."""

    def __init__(self, name: str, *, certificate: Path, key: Path) -> None:
        self.name = name
        self._paths = (certificate, key)
        self._seen: tuple[object, ...] = ()
        self._held: Certificate | None = None

    @property
    def held(self) -> Certificate | None:
        """What was read last; None until `read` has read it once."""
        return self._held

    @property
    def not_after_ms(self) -> int:
        """When that ends; 0 without one."""
        return 0 if self._held is None else self._held.not_after_ms

    async def read(self) -> Certificate | None:
        """Reads the files if they have changed. Until both fit each other, the earlier one holds.

        Raises CertificateInvalid once for each change that can't be used.
        """
        seen = tuple(map(_stat, self._paths))
        if seen != self._seen:
            self._seen = seen
            read = await in_thread(read_certificate, *self._paths)
            if self.name not in read.names:
                raise CertificateInvalid(
                    f"{self._paths[0]} is for {', '.join(read.names)}, not for {self.name}"
                )
            self._held = read
        return self._held


def _stat(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_ino, found.st_size, found.st_mtime_ns


class Installation:
    """Installs what is valid and removes the rest, in the proxy of this gateway."""

    def __init__(
        self,
        *,
        db: Database,
        vault: Vault,
        proxy: ProxyCertificates,
        files: WildcardFiles | None,
        clock: Clock,
    ) -> None:
        self._db = db
        self._vault = vault
        self._proxy = proxy
        self._files = files
        self._wall = SteadyWall(clock)
        self._lock = asyncio.Lock()
        self._done: tuple[object, ...] = ()  # what the last comparison was made of
        self._until_ms = 0  # until the first of what was installed ends, or it is time

    async def follow(self) -> None:
        """Compares, if anything has changed. Raises DatabaseUnavailable and ProxyFailed."""
        async with self._lock:
            own = await self._own()
            mark = await certificates.mark(self._db)
            now_ms = self._wall.now_ms()
            state = mark, None if own is None else own.pem
            if now_ms < self._until_ms and self._done == state:
                return
            ends_ms = await self._compare(own, now_ms)
            self._done = state
            self._until_ms = min(ends_ms, now_ms + _AGAIN_MS)

    async def _own(self) -> Certificate | None:
        if self._files is None:
            return None
        try:
            return await self._files.read()
        except CertificateInvalid as error:
            log.warning("wildcard_certificate is not used", error=str(error))
            return self._files.held

    async def _compare(self, own: Certificate | None, now_ms: int) -> int:
        """Makes the proxy's set that of the rows and files; returns when the first of it ends."""
        valid = await certificates.valid(self._db, now_ms=now_ms)
        wanted = {name: pem_digest for name, pem_digest, _ in valid}
        ends = [end_ms for _, _, end_ms in valid]
        if own is not None and self._files is not None and now_ms < own.not_after_ms:
            wanted[self._files.name] = digest(own.pem)
            ends.append(own.not_after_ms)
        present = await in_thread(self._proxy.installed)  # it reads each from the disk
        for name in present.keys() - wanted.keys():
            await self._proxy.remove(name)
        refused: ProxyFailed | None = None
        for name, pem_digest in wanted.items():
            if present.get(name) == pem_digest:
                continue
            is_own = self._files is not None and name == self._files.name
            pem = own.pem if own is not None and is_own else await self._pem_of(name)
            try:
                if pem is not None:
                    await self._proxy.install(name, pem)
            except ProxyFailed as failure:  # the others are served all the same
                refused = failure
        if refused is not None:
            raise refused
        return min(ends, default=now_ms + _DAY_MS)

    async def _pem_of(self, name: str) -> bytes | None:
        """Returns chain and key of a row; None, and logs that, when the key can't be opened."""
        row = await certificates.issued(self._db, name)
        if row is None:
            return None
        try:
            return joined(row.chain, self._vault.open_key(row.sealed_key, name))
        except VariablesUnreadable as error:
            log.error("a certificate's key cannot be opened", name=name, error=error.message)
            return None
