"""The data directory: private to its owner, and for one kind of gateway."""

import contextlib
import shutil
import stat
import uuid
from pathlib import Path

from moorage.errors import ConfigurationInvalid
from moorage.storage.opening import DATABASE, MOVED, Purpose, purpose_of, refusal, set_purpose
from moorage.whole_file import create_file

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
        raise ConfigurationInvalid(f"data_dir: {problem}; `{closing_command(data_dir)}` mends it.")
    _refuse_other(data_dir, purpose)
    if url:
        _refuse_two(data_dir, url, purpose)
    else:
        _refuse_moved(data_dir)
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


def _refuse_moved(data_dir: Path) -> None:
    """Raises ConfigurationInvalid where a server has the books, and the settings don't name it."""
    if (data_dir / MOVED).exists() and not (data_dir / DATABASE).exists():
        raise ConfigurationInvalid(
            "the books of this gateway were moved to a PostgreSQL server: set database_url."
        )


def _refuse_two(data_dir: Path, url: str, purpose: Purpose) -> None:
    """Raises ConfigurationInvalid where a file has books too, and for a server's of another use.

    Also for one that others may connect to.
    """
    if (data_dir / DATABASE).exists():
        raise ConfigurationInvalid(
            f"database_url is set, but the books of this gateway are in {data_dir / DATABASE}: "
            "move them by `moorage operator migrate-database`, or leave database_url empty."
        )
    found = purpose_of(url)
    if found not in (None, purpose):
        raise ConfigurationInvalid(f"database_url: {refusal(found)}")
    from moorage.storage import server  # noqa: PLC0415  (its driver, 60 ms)

    server.require_closed(url)


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
