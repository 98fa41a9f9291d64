"""The operator's key that seals secrets: read from its file, or made at the first start."""

import os
import re
import secrets
import stat
from pathlib import Path

import structlog

from moorage.errors import ConfigurationInvalid
from moorage.events.signature import SECRET_PREFIX
from moorage.settings import Settings
from moorage.storage import events
from moorage.storage.apps import certificates, configuration
from moorage.storage.database import Database
from moorage.storage.vault import KEY_BYTES, MARK_LENGTH, Vault
from moorage.whole_file import create_file

log = structlog.get_logger()

KEY_FILE = "secrets.key"
_KEY = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_FILE = 4096  # bytes: sixty keys, one a line


async def open_vault(settings: Settings, db: Database) -> Vault:
    """Returns the vault, which opens every secret and seals with the key file's first key.

    Raises ConfigurationInvalid when a key is missing: no app is run without its variables.
    """
    marks = await _marks(db)
    path = Path(settings.secrets_key_file or Path(settings.data_dir) / KEY_FILE)
    if not (settings.secrets_key_file or marks):
        create_file(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")
    vault = Vault(keys_in(path))
    missing = [mark.partition(".")[2] for mark in sorted(marks) if not vault.knows(mark)]
    if missing:
        raise ConfigurationInvalid(
            f"{path} is not the key that the variables of this database were sealed with "
            f"(missing: {', '.join(missing)}). Put that key back: without it no app can be "
            "started as its deployer configured it. See docs/operate/backup.md."
        )
    return vault


async def missing_keys(db: Database, path: Path) -> list[str]:
    """Returns the ids of the keys that sealed what is in a database and are not in a file.

    Raises ConfigurationInvalid for a file that can't be used.
    """
    marks = sorted(await _marks(db))
    if not marks:
        return []
    vault = Vault(keys_in(path))
    return [mark.partition(".")[2] for mark in marks if not vault.knows(mark)]


async def _marks(db: Database) -> set[str]:
    """Returns which keys sealed what is stored."""
    of_webhooks = await events.secret_marks(db, length=MARK_LENGTH)
    return {
        *await configuration.marks(db, length=MARK_LENGTH),
        *(mark for mark in of_webhooks if not mark.startswith(SECRET_PREFIX)),
        *await certificates.key_marks(db, length=MARK_LENGTH),
    }


async def seal_anew(vault: Vault, db: Database) -> None:
    """Seals all stored secrets with the vault's first key, unless it sealed them all.

    A gateway that runs and has not that key can't open them any more.
    """
    of_webhooks = await events.secret_marks(db, length=MARK_LENGTH)
    if all(mark == vault.mark for mark in (*await _marks(db), *of_webhooks)):
        return

    def variables(text: str, project_id: str) -> str:
        return vault.seal(vault.open(text, project_id), project_id)

    def secret(text: str, wallet: str) -> str:
        plain = text if text.startswith(SECRET_PREFIX) else vault.open_secret(text, wallet)
        return vault.seal_secret(plain, wallet)

    def key(text: str, owner: str) -> str:
        return vault.seal_key(vault.open_key(text, owner), owner)

    async with db.transaction(durable=True) as tx:
        rows = await configuration.reseal(tx, mark=vault.mark, anew=variables)
        rows += await events.reseal_secrets(tx, mark=vault.mark, anew=secret)
        rows += await certificates.reseal_keys(tx, mark=vault.mark, anew=key)
    log.info("secrets sealed with the newest key", rows=rows)


def keys_in(path: Path) -> list[bytes]:
    """Returns the keys in a file, one a line, newest first. Raises ConfigurationInvalid."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = file.read(_LONGEST_FILE).decode("ascii").split()
    except (OSError, UnicodeDecodeError):
        raise ConfigurationInvalid(
            f"secrets_key_file: {path} cannot be read. It holds the key that variables are sealed "
            "with: put it back from your backup. See docs/operate/backup.md."
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
