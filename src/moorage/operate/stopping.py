"""`moorage operator stop`, and what retires a gateway: ends what it left, or all it made."""

import asyncio
import contextlib
import csv
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from moorage.auth.nonces import LOCK
from moorage.clock import Clock, SystemClock, boot_id, iso_utc
from moorage.core import Core
from moorage.engines.engine import Engine, Keep
from moorage.errors import AlreadyRunning, InvalidField
from moorage.file_lock import FileLock
from moorage.gateway.assembly import open_core
from moorage.gateway.data_directory import NONCES, open_data_directory, remove_all_but_books
from moorage.gateway.engine_choice import has_several_proxies, make_engine, run_directory
from moorage.gateway.leadership import acquire, open_lease
from moorage.gateway.platform import APPS, PROXY, find_tool, instance_id, open_store, proxy_settings
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd, decimal_text
from moorage.operate.books import note_act, operator_name, require_newest
from moorage.operate.export import COLUMNS, ledger_rows, spreadsheet_text
from moorage.records.deployment import DeploymentStatus, JobKind
from moorage.routing.haproxy import HAProxy
from moorage.settings import Settings
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.apps.deployments import toolchains_in_use
from moorage.storage.database import Database
from moorage.storage.money import accounts, payments, settlements
from moorage.storage.money.accounts import purse_of
from moorage.storage.opening import Purpose, purpose_of
from moorage.storage.operation import overview
from moorage.storage.several import cluster
from moorage.threads import in_thread


class Stopped(msgspec.Struct, frozen=True):
    """What was ended."""

    apps: int


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a gateway that does not run has on its machine; no gateway starts meanwhile."""

    settings: Settings
    core: Core
    metering: Metering
    engine: Engine
    closing: AsyncExitStack  # closes the engine, unless `stop` has
    running: frozenset[str]  # the deployments whose apps ran when this was opened

    async def stop(self) -> None:
        """Ends the proxy, the apps, and what they share: filters, groups, mounts, sockets."""
        state_dir, run_dir = self.core.data_dir / "proxy", _run_dir(self.settings)
        served = proxy_settings(self.settings, state_dir, run_dir / PROXY, self.settings.public_url)
        await HAProxy(find_tool("haproxy"), served).stop()
        self.closing.pop_all()
        await self.engine.close(stop_apps=True)
        shutil.rmtree(run_dir / PROXY, ignore_errors=True)
        with contextlib.suppress(OSError):  # it holds what is not ours
            run_dir.rmdir()


async def run_stop(settings: Settings, *, reason: str) -> Stopped:
    """Stops everything of a gateway that does not run; nobody is billed until it is started again.

    Raises AlreadyRunning while one runs, as it would start its apps again; IsolationMissing.
    """
    async with open_machine(settings) as machine:
        await machine.stop()
        async with machine.core.db.transaction(durable=True) as tx:
            await note_act(tx, operator_name(), "stop", "the gateway", reason=reason)
        return Stopped(len(machine.running))


@asynccontextmanager
async def open_machine(settings: Settings) -> AsyncIterator[Machine]:
    """Opens what a gateway has on its machine, and bills up to now what runs there.

    Raises AlreadyRunning, IsolationMissing, ConfigurationInvalid.
    """
    clock, data_dir = SystemClock(), Path(settings.data_dir)
    await in_thread(require_newest, settings)
    purpose = await in_thread(purpose_of, settings.database) or Purpose.SERVE
    async with AsyncExitStack() as stack:
        stack.enter_context(not_running(data_dir))
        await in_thread(open_data_directory, data_dir, purpose, settings.database_url)
        if settings.database_url and not has_several_proxies(settings):
            await _lead(stack, settings, clock)
        core = await open_core(stack, settings, clock, purpose=purpose, speed=1.0)
        await _require_alone(settings, core)
        toolchains = await open_store(
            stack, settings, clock=clock, needed=partial(toolchains_in_use, core.db), sweeps=False
        )
        engine = make_engine(
            settings,
            instance_id=core.instance,
            run_dir=_run_dir(settings) / APPS,
            tools={name: find_tool(name) for name in ("caddy", "uv")},
            toolchains=toolchains.store,
            clock=clock,
        )
        await engine.open()
        running = await engine.running()
        # Where nothing runs, the next start needs none of what opening the engine has made.
        closing = await stack.enter_async_context(AsyncExitStack())
        closing.push_async_callback(engine.close, stop_apps=not running)
        metering = Metering(db=core.db, clock=clock, boot_id=boot_id(), gateway=core.leader)
        await metering.resume(running)
        yield Machine(
            settings=settings,
            core=core,
            metering=metering,
            engine=engine,
            closing=closing,
            running=frozenset(running),
        )


@contextmanager
def not_running(data_dir: Path) -> Iterator[None]:
    """Keeps a gateway from starting on this directory. Raises AlreadyRunning where one runs."""
    path = data_dir / NONCES / LOCK  # a running gateway holds it
    path.parent.mkdir(mode=0o700, exist_ok=True)
    lock = FileLock(path)
    try:
        if not lock.lock():
            raise AlreadyRunning
        yield
    finally:
        lock.close()


async def _lead(stack: AsyncExitStack, settings: Settings, clock: Clock) -> None:
    """Holds the leader's lease of a server's database. Raises AlreadyRunning."""
    lease = await open_lease(stack, settings, clock)
    await acquire(lease)
    stack.callback(asyncio.create_task(lease.until_lost(), name="leader's lease").cancel)


async def _require_alone(settings: Settings, core: Core) -> None:
    """Raises AlreadyRunning while a gateway of another machine may keep the same apps."""
    if not has_several_proxies(settings):
        return
    for other in await cluster.running(core.db, now_ms=core.clock.now_ms()):
        if other.id != core.leases.holder:
            raise AlreadyRunning(
                f"The gateway {other.name} on this database runs, or did a minute ago: stop it."
            )


def _run_dir(settings: Settings) -> Path:
    return run_directory(settings, instance_id(Path(settings.data_dir)))


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet still has at this gateway."""

    wallet: str
    credits_micro_usd: MicroUsd  # less what its apps have burned until now
    held_micro_usd: MicroUsd  # payments that screening holds
    projects: list[str]  # names


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to settle before a gateway ends."""

    owed: list[Owed]  # the largest sum first
    on_its_way: list[str]  # money that is neither here nor gone for good

    @property
    def is_nothing(self) -> bool:
        """Whether everybody has got what is theirs."""
        return not (self.owed or self.on_its_way)


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the gateway was retired, and what was left to settle."""

    is_retired: bool
    left: Left
    kept: list[str]  # what stays in the data directory


async def run_retire(
    settings: Settings, target: Path, *, reason: str, owing: bool = False
) -> Retired:
    """Exports the books into the new directory `target`, and removes all of the gateway but them.

    Does nothing while anybody is owed anything, unless `owing`. Raises AlreadyRunning while a
    gateway runs, IsolationMissing, InvalidField for a directory that cannot be made.
    """
    async with open_machine(settings) as machine:
        db, metering = machine.core.db, machine.metering
        left = await left_to_settle(db, metering)
        if not (left.is_nothing or owing):
            return Retired(is_retired=False, left=left, kept=[])
        _make_directory(target)
        await _end_billing(machine)
        left = await left_to_settle(db, metering)
        await _export(machine, left, target)
        await _remove_apps(machine)
        await _delete_projects(machine)
        await machine.stop()
        kept = await in_thread(remove_all_but_books, machine.core.data_dir)
        async with db.transaction(durable=True) as tx:  # last: until then it can be repeated
            await cluster.retire(tx, at=iso_utc(machine.core.clock.now_ms()))
            await note_act(tx, operator_name(), "retire", "the gateway", reason=reason)
        return Retired(is_retired=True, left=left, kept=kept)


async def left_to_settle(db: Database, metering: Metering) -> Left:
    """Returns what wallets still have at a gateway whose billed time goes on."""
    credit: defaultdict[str, int] = defaultdict(int)
    held: defaultdict[str, int] = defaultdict(int)
    names: defaultdict[str, list[str]] = defaultdict(list)
    for row in await overview.every_wallet(db):
        credit[row.address] = row.balance - await metering.owes(db, row.address)
    for purse in await accounts.every_purse(db):  # what a purse owes is nobody's
        owes = await metering.owes(db, purse_of(purse.project_id))
        credit[purse.wallet] += max(0, purse.balance - owes)
    for payment in await payments.held(db):
        held[payment.payer] += payment.credited_micro_usd
    for project in await overview.every_project(db):
        names[project.wallet].append(project.name)
    owed = [
        Owed(
            wallet=wallet,
            credits_micro_usd=MicroUsd(max(0, credit[wallet])),
            held_micro_usd=MicroUsd(held[wallet]),
            projects=sorted(names[wallet]),
        )
        for wallet in {*(w for w, amount in credit.items() if amount > 0), *held, *names}
    ]
    owed.sort(key=lambda each: (-each.credits_micro_usd - each.held_micro_usd, each.wallet))
    return Left(
        owed=owed, on_its_way=[each.what for each in await settlements.unsettled_by_token(db)]
    )


async def _end_billing(machine: Machine) -> None:
    """Charges for good what apps burned until now; what purses have left is their wallets'."""
    for project in await overview.every_project(machine.core.db):
        async with machine.core.db.transaction(durable=True) as tx:
            await machine.metering.close(tx, project.id)


async def _remove_apps(machine: Machine) -> None:
    engine = machine.engine
    for deployment_id in await engine.known():
        await engine.stop(deployment_id, keep=Keep.NOTHING)
    for volume_id in await engine.volumes():
        await engine.delete_volume(volume_id)


async def _delete_projects(machine: Machine) -> None:
    """Records of each project what became of its apps: the books say nothing that is not so."""
    db, now_ms = machine.core.db, machine.core.clock.now_ms()
    for project in await overview.every_project(db):
        async with db.transaction(durable=True) as tx:
            for deployment in await deployments.of_project(tx, project.id):
                await deployments.move(tx, deployment.id, DeploymentStatus.STOPPED)
                await jobs.revoke(tx, kind=JobKind.DEPLOY, subject_id=deployment.id)
            await projects.set_deleted(tx, project.id, at_ms=now_ms)


async def _export(machine: Machine, left: Left, target: Path) -> None:
    """Writes the whole ledger, and who is owed what, as tables."""
    db = machine.core.db
    entries = [row async for row in ledger_rows(db, since_ms=0, until_ms=2**62, wallet="")]
    await in_thread(_write, target / "ledger.csv", COLUMNS, entries)
    await in_thread(
        _write,
        target / "owed.csv",
        ("wallet", "credits_usd", "held_usd", "projects"),
        [
            (
                each.wallet,
                decimal_text(each.credits_micro_usd, decimals=6),
                decimal_text(each.held_micro_usd, decimals=6),
                spreadsheet_text(" ".join(each.projects)),
            )
            for each in left.owed
        ],
    )


def _make_directory(target: Path) -> None:
    try:
        target.mkdir(mode=0o700)
    except OSError as error:
        raise InvalidField("TARGET", f"{target} cannot be made: {error.strerror}") from error


def _write(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    with path.open("x", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
