"""The data directory: private to its owner, for one gateway, with the keys of its secrets."""

import contextlib
import os
import re
import secrets
import shutil
import stat
import uuid
from collections.abc import Mapping
from pathlib import Path

import msgspec
import structlog

from moorage.errors import ConfigurationInvalid
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.opening import DATABASE, MOVED, Purpose, purpose_of, refusal, set_purpose
from moorage.storage.vault import KEY_BYTES, Vault, marks, reseal_all
from moorage.whole_file import create_file

log = structlog.get_logger()

KEY_FILE = "secrets.key"
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_FILE = 4096  # bytes: sixty keys, one a line


async def open_vault(settings: Settings, db: Database) -> Vault:
    """Returns the vault, which opens every secret and seals with the key file's first key.

    Raises ConfigurationInvalid when a key is missing: no app is run without its variables.
    """
    found = await marks(db)
    path = Path(settings.secrets_key_file or Path(settings.data_dir) / KEY_FILE)
    if not (settings.secrets_key_file or found):
        create_file(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")
    vault = Vault(keys_in(path))
    missing = [mark.partition(".")[2] for mark in sorted(found) if not vault.knows(mark)]
    if missing:
        raise ConfigurationInvalid(
            f"{path} is not the key that the variables of this database were sealed with "
            f"(missing: {', '.join(missing)}). Put that key back: without it no app can be "
            "started as its deployer configured it. See docs/run/backup.md."
        )
    return vault


async def missing_keys(db: Database, path: Path) -> list[str]:
    """Returns the ids of the keys that sealed what is in a database and are not in a file.

    Raises ConfigurationInvalid for a file that can't be used.
    """
    found = sorted(await marks(db))
    if not found:
        return []
    vault = Vault(keys_in(path))
    return [mark.partition(".")[2] for mark in found if not vault.knows(mark)]


async def seal_with_newest(vault: Vault, db: Database) -> None:
    """Seals all stored secrets with the vault's first key, unless it sealed them all.

    A gateway that runs and has not that key can't open them any more.
    """
    if all(mark == vault.mark for mark in await marks(db)):
        return
    async with db.transaction(durable=True) as tx:
        count = await reseal_all(tx, vault)
    log.info("secrets sealed with the newest key", rows=count)


def keys_in(path: Path) -> list[bytes]:
    """Returns the keys in a file, one a line, newest first. Raises ConfigurationInvalid."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = file.read(_LONGEST_FILE).decode("ascii").split()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationInvalid(
            f"secrets_key_file: {path} cannot be read. It holds the key that variables are sealed "
            "with: put it back from your backup. See docs/run/backup.md."
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationInvalid(
            f"secrets_key_file: others may read {path}; `chmod 600 {path}`, and better take a "
            "fresh key."
        )
    if not lines or not all(_KEY.fullmatch(line) for line in lines):
        raise ConfigurationInvalid(
            f"secrets_key_file: {path} must hold keys of 64 hex digits, one a line."
        )
    return [bytes.fromhex(line) for line in lines]


DEV_FILE = "dev.json"
DEV_CHAINS = ("arbitrum", "base")


class DevChainFacts(msgspec.Struct, frozen=True):
    """What operators' commands need of a local chain."""

    rpc_url: str


class DevFile(msgspec.Struct, frozen=True):
    """What operators' commands need of the file."""

    operator: str  # where the operator's port answers
    chains: Mapping[str, DevChainFacts]


def read_dev_file(data_dir: Path) -> DevFile | None:
    """Reads the file; None while `moorage dev` does not run."""
    try:
        return msgspec.json.decode((data_dir / DEV_FILE).read_bytes(), type=DevFile)
    except FileNotFoundError:
        return None


NONCES = "nonces"
GATEWAYS = "gateways"  # what those that share the directory tell each other
SPOOL = "spool"  # of uploads under way; a named gateway's are in a directory of its own
_DIRECTORIES = ("sources", SPOOL, "apps", "proxy", "certificates", "exports", NONCES, GATEWAYS)
_GATEWAY_ID = "gateway.id"
_REST = (
    *_DIRECTORIES,
    *("toolchains", "toolchains.json", "npm", "ballast"),
    *(_GATEWAY_ID, "challenges.key"),
    "secrets.key",  # at last: without it nothing here can be opened again
)
_DEV_WALLETS = "wallets.json"  # every version of `moorage dev` keeps them there


def open_data_directory(data_dir: Path, purpose: Purpose, url: str = "") -> None:
    """Makes the directory, private to its owner, with a database marked for this purpose.

    With `url` the database is a server's, and not made here. Blocks. Raises ConfigurationInvalid
    for a directory that others may enter, and for a database of the other purpose.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if problem := open_to_others(data_dir):
        raise ConfigurationInvalid(f"data_dir: {problem}; `{closing_command(data_dir)}` fixes it.")
    _refuse_other(data_dir, purpose)
    if url:
        _refuse_two(data_dir, url, purpose)
    else:
        if (data_dir / MOVED).exists() and not (data_dir / DATABASE).exists():
            raise ConfigurationInvalid(
                "the books of this gateway were moved to a PostgreSQL server: set database_url."
            )
        set_purpose(data_dir / DATABASE, purpose)
    for name in _DIRECTORIES:
        (data_dir / name).mkdir(mode=0o700, exist_ok=True)


def gateway_id(data_dir: Path) -> str:
    """Returns the id of this directory's gateway among those on its database; made once."""
    path = data_dir / _GATEWAY_ID
    if not path.exists():
        create_file(path, uuid.uuid4().hex.encode())
    return path.read_text()


def remove_all_but_books(data_dir: Path) -> list[str]:
    """Removes what a gateway has kept there but its database; returns the names of what stays.

    Files that are not the gateway's stay as well. Blocks.
    """
    for name in _REST:
        _remove(data_dir / name)
    return sorted(path.name for path in data_dir.iterdir())


def open_to_others(data_dir: Path) -> str:
    """Says that an existing directory is open to other users; "" if it is not."""
    if not data_dir.exists():
        return ""
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return ""
    return f"{data_dir} is open to other users of this machine (mode {mode:04o})"


def closing_command(data_dir: Path) -> str:
    """Returns the command that closes the directory to other users."""
    return f"chmod 700 {data_dir}"


def _refuse_two(data_dir: Path, url: str, purpose: Purpose) -> None:
    """Raises ConfigurationInvalid for a server's database that may not be used.

    So it is if a file holds books too, if it has another purpose, or if others may connect to it.
    """
    if (data_dir / DATABASE).exists():
        raise ConfigurationInvalid(
            f"database_url is set, but the books of this gateway are in {data_dir / DATABASE}: "
            "move them by `moorage operator migrate-database`, or leave database_url empty."
        )
    found = purpose_of(url)
    if found not in (None, purpose):
        raise ConfigurationInvalid(f"database_url: {refusal(found)}")
    from moorage.storage import postgres  # noqa: PLC0415  (its driver, 60 ms)

    postgres.require_closed(url)


def _refuse_other(data_dir: Path, purpose: Purpose) -> None:
    """Raises ConfigurationInvalid for a database of the other kind of gateway.

    An old database without a mark belongs to `moorage dev` if dev's wallets lie beside it.
    """
    database = data_dir / DATABASE
    if not database.exists():
        return
    found = purpose_of(database)
    if found is None:
        found = Purpose.DEV if (data_dir / _DEV_WALLETS).exists() else Purpose.SERVE
    if found is not purpose:
        raise ConfigurationInvalid(f"data_dir: {database}: {refusal(found)}")


def _remove(path: Path) -> None:
    """Removes a file, or a directory with its content; of a mount point only the content."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    for inner in path.iterdir():  # of a link too: it may lead to another disk
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        else:
            inner.unlink()
    if path.is_symlink():
        path.unlink()
        return
    with contextlib.suppress(OSError):
        path.rmdir()
