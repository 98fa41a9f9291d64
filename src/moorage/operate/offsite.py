"""Sends encrypted backups of a gateway off-site, opens them, and proves that they restore."""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
from pyrage.x25519 import Recipient

from moorage.backup.archive import Manifest, unpack
from moorage.backup.encryption import identities_in, new_identity, recipient_of
from moorage.backup.offsite import FOLDER, Folder, Stored, folder_of, unpack_encrypted
from moorage.content.store import ContentStore, open_content, why_unavailable
from moorage.errors import (
    BackupFailed,
    BackupInvalid,
    ConfigurationInvalid,
    ContentUnavailable,
    InvalidField,
    MoorageError,
)
from moorage.gateway.configuration import former_chains
from moorage.gateway.data_directory import KEY_FILE, gateway_id
from moorage.money import MicroUsd
from moorage.operate.audit.rows import Finding, audit_books
from moorage.operate.audit.states import audit_states
from moorage.operate.backup import (
    STAGING,
    Saved,
    Unpack,
    key_problem,
    note,
    prepare,
    scratch_directory,
    staged,
)
from moorage.operate.books import require_newest
from moorage.settings import Settings
from moorage.storage.migrate import migrate
from moorage.storage.opening import DATABASE, open_database
from moorage.storage.operation import configuration
from moorage.storage.operation.audit_log import Upkeep

_STORE = re.compile(r"s3://\w|file:///\w")
_ADDRESS = re.compile(rf"((?:s3|file)://.+)/({FOLDER})(?:/([^/]+)|/?)")


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is off-site."""

    address: str
    stored: Stored
    saved: Saved
    pruned: int  # older ones that were deleted


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup turned out to be once it was restored."""

    saved: Saved
    wallets: int
    balances: MicroUsd
    payments: int
    heights: dict[str, int]  # the last block that was searched for payments, by chain
    findings: list[Finding]  # of an audit without the chains

    @property
    def problem(self) -> str:
        """Why it is not good; "" if it is."""
        if self.findings:
            return f"the audit found {len(self.findings)} rows that are wrong"
        return self.saved.key_problem


def send(settings: Settings, to: str, *, with_key: bool) -> Sent:
    """Makes a backup and stores it encrypted at `to`, then prunes; `with_key` as for `back_up`.

    Nothing of it but the copies of disks and database is on this machine's disk. Raises as
    `back_up`, and BackupFailed where the store cannot be reached.
    """
    with _recorded(settings, Upkeep.OFFSITE):
        folder = _folder(settings, to)
        sent = _send(settings, to, folder, [_recipient(settings)], with_key=with_key)
        return _pruned(settings, folder, sent)


def drill(settings: Settings, *, with_key: bool) -> Proof:
    """Sends a backup, fetches it again, restores it beside the gateway's data and audits that.

    This machine cannot read what it sends, and so this one backup is encrypted to a second key as
    well, which is made for it and nowhere kept. Raises as `send`, and BackupInvalid.
    """
    with _recorded(settings, Upkeep.DRILL):
        to, own = settings.backup_to, new_identity()
        if not to:
            raise ConfigurationInvalid("backup_to is not set: there is nothing to try.")
        folder = _folder(settings, to)
        both = [_recipient(settings), own.to_public()]
        sent = _send(settings, to, folder, both, with_key=with_key)
        _require_room(settings, sent.saved.disk_bytes)
        with scratch_directory(Path(settings.data_dir), STAGING) as directory:
            with _reaching(sent.address):
                manifest = asyncio.run(folder.get(sent.stored.name, directory, [own]))
            proof = _proof(directory, manifest)
        asyncio.run(note(settings, Upkeep.DRILL, problem=proof.problem))
        return proof


def prove(unpack: Unpack) -> Proof:
    """Restores a backup into a temporary directory and audits it. Raises as `unpack`."""
    with scratch_directory(Path(tempfile.gettempdir()), "moorage-drill-") as directory:
        return _proof(directory, unpack(directory))


def saved_at(address: str, *, identity: Path | None, credentials_file: str) -> Unpack:
    """Returns what unpacks the backup at an address or in a file.

    In a store, the address of a gateway's folder is its newest. Raises InvalidField, BackupFailed.
    """
    store_url = address.partition("://")[0] in ("s3", "file")
    if not store_url and not address.endswith(".age"):
        return partial(unpack, Path(address))
    if identity is None:
        raise InvalidField("--identity", "name the file with the private key, AGE-SECRET-KEY-1…")
    identities = identities_in(identity)

    def from_file(directory: Path) -> Manifest:
        path = Path(address)
        try:
            with path.open("rb") as source:
                return unpack_encrypted(
                    source, name=path.name, directory=directory, identities=identities
                )
        except OSError as error:
            raise BackupFailed(f"{path} cannot be read: {error.strerror}.") from error

    if not store_url:
        return from_file
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise InvalidField("ADDRESS", "must end with the gateway's folder, moorage-…, or a file")
    folder = Folder(store=_store(found[1], credentials_file), name=found[2])

    def from_store(directory: Path) -> Manifest:
        with _reaching(address):
            return asyncio.run(folder.get(found[3] or "", directory, identities))

    return from_store


def _send(
    settings: Settings, to: str, folder: Folder, recipients: list[Recipient], *, with_key: bool
) -> Sent:
    with staged(settings, with_key=with_key) as (directory, saved), _reaching(to):
        stored = asyncio.run(folder.put(directory, saved.manifest, *recipients))
    done = note(settings, Upkeep.OFFSITE, problem=saved.key_problem, size_bytes=stored.size)
    asyncio.run(done)
    address = f"{to.rstrip('/')}/{folder.name}/{stored.name}"
    return Sent(address=address, stored=stored, saved=saved, pruned=0)


def _require_room(settings: Settings, needed: int) -> None:
    """Raises BackupFailed rather than take the room for whose sake the gateway would end apps."""
    free = shutil.disk_usage(settings.data_dir).free - settings.disk_reserve_mib * 1024 * 1024
    if free < needed:
        raise BackupFailed(
            f"restoring it here takes {needed:,} bytes, and {max(free, 0):,} are free above "
            "disk_reserve_mib: run a drill with your key on another machine"
        )


def _pruned(settings: Settings, folder: Folder, sent: Sent) -> Sent:
    days = settings.backup_keep_days
    if not days:
        return sent
    try:
        count = asyncio.run(folder.prune(sent.stored, keep_days=days))
    except (BackupFailed, ContentUnavailable) as error:
        raise BackupFailed(
            f"{sent.address} is stored, but old ones could not be deleted: {why_unavailable(error)}"
        ) from error
    return msgspec.structs.replace(sent, pruned=count)


def _folder(settings: Settings, to: str) -> Folder:
    name = folder_of(gateway_id(Path(settings.data_dir)))
    return Folder(store=_store(to, settings.backup_credentials_file), name=name)


def _store(address: str, credentials_file: str) -> ContentStore:
    store = open_content(address, credentials_file) if _STORE.match(address) else None
    if store is None:
        raise InvalidField("--to", "must be s3://bucket/prefix or file:///directory")
    return store


def _recipient(settings: Settings) -> Recipient:
    if not settings.backup_recipient:
        raise ConfigurationInvalid(
            "backup_recipient is not set: `moorage operator backup --new-key` makes a key."
        )
    return recipient_of(settings.backup_recipient)


@contextmanager
def naming(address: str) -> Iterator[None]:
    """Has what is said of a backup that is no good begin with its address. Raises BackupInvalid."""
    try:
        yield
    except BackupInvalid as error:
        raise BackupInvalid(f"{address}: {error.message}") from error


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    try:
        yield
    except ContentUnavailable as error:
        raise BackupFailed(f"{address} cannot be reached: {why_unavailable(error)}") from error


@contextmanager
def _recorded(settings: Settings, kind: Upkeep) -> Iterator[None]:
    """Records why what is done within fails, for the gateway's metrics.

    Raises ConfigurationInvalid if there is no database, or one older than this version's.
    """
    require_newest(settings)  # nothing is made where no gateway is
    try:
        yield
    except MoorageError as error:
        with suppress(MoorageError):
            asyncio.run(note(settings, kind, problem=error.message))
        raise


def _proof(directory: Path, manifest: Manifest) -> Proof:
    """Makes a data directory of what was unpacked, and audits its books."""
    prepare(directory)
    migrate(directory / DATABASE)
    key = directory / KEY_FILE
    problem = key_problem(directory / DATABASE, key) if manifest.secrets_key else ""
    return asyncio.run(_audited(directory, Saved(manifest=manifest, key_problem=problem)))


async def _audited(directory: Path, saved: Saved) -> Proof:
    db = open_database(directory / DATABASE)
    try:
        made_ms = round(datetime.fromisoformat(saved.manifest.created_at).timestamp() * 1000)
        async with db.snapshot() as snapshot:
            chains = former_chains(await configuration.history(snapshot), now=())
            books, findings = await audit_books(snapshot, chains)
            findings += await audit_states(snapshot, now_ms=made_ms)
    except (ValueError, OverflowError) as error:
        raise BackupInvalid("Its manifest gives no time.") from error
    finally:
        db.close()
    names = {chain.chain_id: chain.name for chain in chains}
    heights: dict[str, int] = {}
    for each in books.cursors:
        name = names.get(each.chain_id, str(each.chain_id))
        heights[name] = max(each.block_number, heights.get(name, 0))
    return Proof(
        saved=saved,
        wallets=len(books.balances),
        balances=MicroUsd(sum(books.balances.values())),
        payments=len(books.payments),
        heights=heights,
        findings=findings,
    )
