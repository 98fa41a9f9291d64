"""Takes over the certificates that the proxy of earlier versions had got, so that none is ordered.

It had them in `certificates/<authority>/<host>/<host>.crt`, each with its `.key` beside it.
"""

from collections.abc import Iterable
from pathlib import Path

import structlog

from moorage.certificates.orders import issued
from moorage.certificates.pem import Certificate, CertificateInvalid, read_certificate
from moorage.clock import Clock
from moorage.storage.apps import certificates
from moorage.storage.database import Database
from moorage.storage.vault import Vault
from moorage.threads import in_thread
from moorage.whole_file import replace_file

log = structlog.get_logger()

_INTERNAL = "local"  # the proxy's own authority, whose certificates lasted for hours


async def import_former(
    db: Database, vault: Vault, directories: Iterable[Path], *, done: Path, clock: Clock
) -> None:
    """Imports what is valid in the directories, unless the file `done` says that it was.

    A name that has a certificate in the rows keeps that. The files stay, for the way back. Raises
    DatabaseUnavailable.
    """
    if await in_thread(done.exists):
        return
    count = 0
    for directory in directories:
        for certificate in await in_thread(_certificates, directory):
            count += await _import(db, vault, certificate, now_ms=clock.now_ms())
    await in_thread(replace_file, done, b"")
    if count:
        log.info("certificates taken over from the earlier proxy", count=count)


async def _import(db: Database, vault: Vault, found: Certificate, *, now_ms: int) -> bool:
    (name,) = found.names
    if found.not_after_ms <= now_ms:
        return False
    row = issued(found, name, vault=vault, authority="")
    async with db.transaction(durable=True) as tx:
        return await certificates.import_one(tx, name, row, now_ms=now_ms)


def _certificates(directory: Path) -> list[Certificate]:
    """Returns the certificates of authorities elsewhere, for one name each. Blocks."""
    kept = []
    for file in sorted((directory / "certificates").glob("*/*/*.crt")):
        if file.parts[-3] == _INTERNAL:
            continue
        try:
            found = read_certificate(file, file.with_suffix(".key"))
        except CertificateInvalid as error:
            log.warning("a certificate is not taken over", error=str(error))
            continue
        if len(found.names) == 1:
            kept.append(found)
    return kept
