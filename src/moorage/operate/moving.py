"""Moves the books of a stopped gateway from their file to a PostgreSQL server."""

import itertools
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec

from moorage.errors import ConfigurationInvalid
from moorage.operate.stopping import not_running
from moorage.settings import Settings
from moorage.storage import copying
from moorage.storage.copying import Content
from moorage.storage.database import Database
from moorage.storage.migrate import is_newest, migrate
from moorage.storage.money import audit
from moorage.storage.opening import DATABASE, MOVED, Purpose, open_database, purpose_of, set_purpose
from moorage.threads import in_thread


class Moved(msgspec.Struct, frozen=True):
    """What was moved, and where the file is now."""

    rows: dict[str, int]
    balances_micro_usd: int
    file: str


async def move_books(settings: Settings) -> Moved:
    """Copies `moorage.db` of the data directory into `database_url`, and compares the two.

    The file is kept under another name. When it was interrupted it can be run again. Raises
    ConfigurationInvalid, AlreadyRunning, DatabaseUnavailable.
    """
    file = Path(settings.data_dir) / DATABASE
    url = settings.database_url
    await in_thread(_require_books, file, url)
    with ExitStack() as stack:
        stack.enter_context(not_running(Path(settings.data_dir)))
        purpose = await in_thread(purpose_of, file)
        await in_thread(migrate, url)
        source = stack.enter_context(closing(open_database(file)))
        target = stack.enter_context(closing(open_database(url)))
        found, balances = await _copy(source, target)
    if purpose is not None:
        await in_thread(set_purpose, url, purpose)
    moved = file.rename(_free(file.with_name(MOVED)))
    rows = {name: content.rows for name, content in found.items()}
    return Moved(rows=rows, balances_micro_usd=balances, file=str(moved))


async def _copy(source: Database, target: Database) -> tuple[dict[str, Content], int]:
    """Copies within one transaction, which ends well only where both databases are the same.

    The file is read before it begins, as a server ends a transaction that waits too long.
    """
    async with source.snapshot() as rows:
        wanted, ours = await copying.contents(rows), await audit.books(rows)
        async with target.transaction(durable=True) as tx:
            there = await copying.contents(tx)
            if there != wanted:
                if any(content.rows for content in there.values()):
                    raise ConfigurationInvalid(
                        "database_url: that database has rows already. Name an empty one."
                    )
                await copying.copy(rows, tx, to_server=True)
                _compare(wanted, await copying.contents(tx))
            theirs = await audit.books(tx)
            if (ours.accounts, ours.balances) != (theirs.accounts, theirs.balances):
                raise ConfigurationInvalid("The sums of the two ledgers differ; nothing was moved.")
            return wanted, sum(theirs.balances.values())


def _free(path: Path) -> Path:
    """Returns the path, or another beside it: an earlier file of books is kept."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain((path,), numbered) if not each.exists())


def _compare(wanted: dict[str, Content], found: dict[str, Content]) -> None:
    wrong = [name for name, content in wanted.items() if found[name] != content]
    if wrong:
        raise ConfigurationInvalid(
            f"The copy differs from the file in {', '.join(wrong)}; nothing was moved."
        )


def _require_books(file: Path, url: str) -> None:
    if not url:
        raise ConfigurationInvalid("Name the server's database first: set database_url.")
    if not is_newest(file):
        raise ConfigurationInvalid(
            f"{file} is missing, or older than this version: start the gateway once without "
            "database_url, and stop it."
        )
    purpose, there = purpose_of(file), purpose_of(url)
    if there not in (None, purpose or Purpose.SERVE):
        raise ConfigurationInvalid("database_url: that database is of another kind of gateway.")
    from moorage.storage.postgres import require_closed  # noqa: PLC0415  (its driver)

    require_closed(url)
