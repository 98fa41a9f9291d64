"""`moorage retire`: the end of a gateway. Who is owed what is said first, and the books stay."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.gateway.state.data_directory import remove_all_but_books
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd, decimal_text
from moorage.operate.acts import note_act
from moorage.operate.books import operator_name
from moorage.operate.export import COLUMNS, ledger_rows, spreadsheet_text
from moorage.operate.stopping import Machine, open_machine
from moorage.records.deployment import DeploymentStatus, JobKind
from moorage.settings import Settings
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database
from moorage.storage.money import payments, purses, settlements
from moorage.storage.money.accounts import purse_of
from moorage.storage.operation import overview
from moorage.storage.several import cluster
from moorage.threads import in_thread


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
    for purse in await purses.every(db):  # what a purse owes is nobody's
        owes = await metering.owes(db, purse_of(purse.project_id))
        credit[purse.wallet] += max(0, purse.balance - owes) if not purse.shared else 0
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
        await engine.remove(deployment_id)
    if engine.capabilities.volumes:
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
