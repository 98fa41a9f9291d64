"""Opens a gateway's books for the operator's commands, with what is set and what was done."""

import os
import pwd
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from moorage.address import parse_address
from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.chains.local.devchain import DevWallets, dev_wallets
from moorage.chains.rpc import RpcClient
from moorage.chains.signing import SigningKey
from moorage.clock import SystemClock
from moorage.errors import ConfigurationInvalid
from moorage.gateway.configuration import compare, in_force, receiving_address, serving_chains
from moorage.gateway.data_directory import DEV_CHAINS, read_dev_file
from moorage.settings import Settings, described, origins, recorded
from moorage.storage.database import Database, Transaction
from moorage.storage.migrate import is_newest
from moorage.storage.opening import open_database
from moorage.storage.operation import audit_log, configuration
from moorage.storage.operation.audit_log import Act
from moorage.storage.operation.configuration import ConfigurationChange
from moorage.threads import in_thread

_DEV_WALLETS = "wallets.json"
_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, kw_only=True)
class OpenBooks:
    """A gateway's database, and clients of the chains that can be read."""

    db: Database
    chains: Mapping[str, Chain]
    clients: Mapping[str, RpcClient]  # without local chains that do not run
    pay_to: str  # as `parse_address` spells it
    recipients: frozenset[str]  # `pay_to` and its former values, as `parse_address` spells them
    retired: frozenset[str]  # those of them to which payments are credited no more
    operator: str  # who uses them, as acts are recorded


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[OpenBooks]:
    """Opens the books. Settings without chains mean those of `moorage dev`.

    Raises ConfigurationInvalid if there is no database, or one older than this version's.
    """
    data_dir = Path(settings.data_dir)
    await in_thread(require_newest, settings)
    chains = serving_chains(settings) if settings.chains else _dev_chains(data_dir)
    pay_to = (
        receiving_address(settings) if settings.chains else _dev_wallets(data_dir).pay_to.address
    )
    async with AsyncExitStack() as stack:
        db = open_database(settings.database)
        stack.callback(db.close)
        clients = {
            name: RpcClient(chain, timeout_seconds=settings.rpc_timeout_seconds)
            for name, chain in chains.items()
            if chain.rpc_urls
        }
        for client in clients.values():
            stack.push_async_callback(client.close)
        yield await books_of(db, chains, clients, pay_to=pay_to, operator=operator_name())


async def with_books(
    settings: Settings,
    act: Callable[Concatenate[OpenBooks, _Given], Awaitable[_Answer]],
    *given: _Given.args,
    **named: _Given.kwargs,
) -> _Answer:
    """Returns what `act` returns, which is given the open books first. Raises as `open_books`."""
    async with open_books(settings) as books:
        return await act(books, *given, **named)


async def books_of(
    db: Database,
    chains: Mapping[str, Chain],
    clients: Mapping[str, RpcClient],
    *,
    pay_to: str,
    operator: str,
) -> OpenBooks:
    """Returns the books in an open database, which `operator` uses."""
    known = {each.value for each in await configuration.RECIPIENTS.every(db)}
    recipients_now = frozenset({parse_address(pay_to), *await configuration.RECIPIENTS.in_use(db)})
    return OpenBooks(
        db=db,
        chains=chains,
        clients=clients,
        pay_to=parse_address(pay_to),
        recipients=frozenset(recipients_now | known),
        retired=frozenset(known - recipients_now),
        operator=operator,
    )


def operator_name() -> str:
    """Returns the user who runs this command, and for whom: "root for ann" under sudo."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{user} for {behind}" if behind and behind != user else user


def require_newest(settings: Settings) -> None:
    """Raises ConfigurationInvalid if there is no database, or one older than this version's."""
    if not is_newest(settings.database):
        which = "The database of database_url" if settings.database_url else settings.database
        raise ConfigurationInvalid(
            f"{which} is missing, or older than this version: start the gateway once, "
            "or name its configuration with --config or its directory with --data-dir."
        )


def dev_key(settings: Settings) -> SigningKey:
    """Returns the key of the address that `moorage dev` is paid at.

    Raises ConfigurationInvalid for any other gateway: its operator keeps that key.
    """
    if settings.chains:
        raise ConfigurationInvalid("Name the file with the key that sends: --key-file.")
    return SigningKey(_dev_wallets(Path(settings.data_dir)).pay_to.private_key)


def _dev_chains(data_dir: Path) -> dict[str, Chain]:
    """Returns the local chains; they have a URL only while they run."""
    dev_file = read_dev_file(data_dir)
    running = dev_file.chains if dev_file else {}
    return {
        name: msgspec.structs.replace(
            KNOWN_CHAINS[name],
            rpc_urls=(running[name].rpc_url,) if name in running else (),
            watch_from_block=1,
        )
        for name in DEV_CHAINS
    }


def _dev_wallets(data_dir: Path) -> DevWallets:
    path = data_dir / _DEV_WALLETS
    if not path.exists():
        raise ConfigurationInvalid(f"{data_dir} is not of `moorage dev`: name --config.")
    return dev_wallets(path)


async def note_act(tx: Transaction, who: str, act: str, subject: str, *, reason: str = "") -> None:
    """Records that the operator `who` does `act` to `subject`, and why."""
    now_ms = SystemClock().now_ms()
    await audit_log.add(tx, Act(at_ms=now_ms, who=who, act=act, subject=subject, reason=reason))


async def acts(books: OpenBooks, *, since_ms: int) -> list[Act]:
    """Returns what was done from a time on, the oldest first."""
    return await audit_log.since(books.db, since_ms)


class EffectiveSetting(msgspec.Struct, frozen=True):
    """A setting, its value without secrets, and where it comes from."""

    setting: str
    value: Any
    origin: str  # "default", the file's path, or the name of a variable


def effective_settings(settings: Settings, *, file: Path | None) -> list[EffectiveSetting]:
    """Returns every setting; chains come last. Raises InvalidField."""
    given = origins(file=file, environ=os.environ)
    return [
        EffectiveSetting(name, value, given.get(name.partition(".")[0], "default"))
        for name, value in described(settings).items()
    ]


async def next_changes(books: OpenBooks, settings: Settings) -> list[ConfigurationChange]:
    """Returns what the next start with these settings would change."""
    before = await in_force(books.db, settings)
    return list(compare(before, recorded(settings), now_ms=SystemClock().now_ms()))


async def history(books: OpenBooks) -> list[ConfigurationChange]:
    """Returns what starts changed, the oldest first, without what the first one found."""
    found = await configuration.history(books.db)
    first_ms = min((each.at_ms for each in found), default=0)
    return [each for each in found if each.at_ms != first_ms]
