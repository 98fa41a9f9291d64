"""The data directory: closed to everybody else, and for one kind of gateway."""

import stat
import uuid
from pathlib import Path

from moorage.errors import ConfigurationInvalid
from moorage.storage.purpose import Purpose, purpose_of, set_purpose
from moorage.whole_file import create_file

DATABASE = "moorage.db"
_DIRECTORIES = ("sources", "spool", "apps", "proxy", "nonces")
_GATEWAY_ID = "gateway.id"
_DEV_WALLETS = "wallets.json"  # `moorage dev` has always kept them there


def open_data_directory(data_dir: Path, purpose: Purpose) -> None:
    """Have a directory and a database in it that are for this purpose and for their owner alone.

    Raises ConfigurationInvalid for a directory that others may enter, or that is for the other.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if problem := open_to_others(data_dir):
        raise ConfigurationInvalid(f"data_dir: {problem}; `{closing_command(data_dir)}` mends it.")
    refuse_other(data_dir, purpose)
    set_purpose(data_dir / DATABASE, purpose)
    for name in _DIRECTORIES:
        (data_dir / name).mkdir(mode=0o700, exist_ok=True)


def gateway_id(data_dir: Path) -> str:
    """What tells the gateway of this directory from others on its database; made once."""
    path = data_dir / _GATEWAY_ID
    if not path.exists():
        create_file(path, uuid.uuid4().hex.encode())
    return path.read_text()


def open_to_others(data_dir: Path) -> str:
    """Who may look into an existing directory beside its owner; "" for nobody."""
    if not data_dir.exists():
        return ""
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    if not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return ""
    return f"{data_dir} is open to other users of this machine (mode {mode:04o})"


def closing_command(data_dir: Path) -> str:
    """What closes a directory that is open."""
    return f"chmod 700 {data_dir}"


def refuse_other(data_dir: Path, purpose: Purpose) -> None:
    """Raise ConfigurationInvalid for what the other kind of gateway has kept there.

    A database from before they were told apart is of `moorage dev` where its wallets lie beside it.
    """
    database = data_dir / DATABASE
    if not database.exists():
        return
    found = purpose_of(database)
    if found is None:
        found = Purpose.DEV if (data_dir / _DEV_WALLETS).exists() else Purpose.SERVE
    if found is purpose:
        return
    if found is Purpose.DEV:
        raise ConfigurationInvalid(
            f"data_dir: {data_dir} is one of `moorage dev`: its credits were paid on local chains, "
            "where anybody can mint. Name another directory."
        )
    raise ConfigurationInvalid(
        f"data_dir: {data_dir} is one of `moorage serve`, with real money in its books. "
        "Name another directory for `moorage dev`."
    )
