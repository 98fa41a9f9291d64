"""Random changes of size and sleep against a plain model: what is billed is states times prices."""

import random
from math import ceil

from sqlalchemy import bindparam, update

from moorage.ledger.metering import Metering, PurseChange
from moorage.ledger.running_costs import MONTH_MS
from moorage.money import MicroUsd
from moorage.operate.audit.rows import audit_books
from moorage.operate.audit.states import audit_states
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import projects
from moorage.storage.database import Database, Statement, Transaction
from moorage.storage.money import accounts
from moorage.storage.schema import projects as rows
from support.books.records_fixture import ALICE, ARBITRUM, BOB, add_project, fund
from support.gateway.clock import HOUR_MS, MovableClock

SIZES = [(250_000, 100_000), (500_000, 200_000), (2_000_001, 333_333)]  # a month awake, and asleep
SERVING = "the-deployment-of-{}"
RESIZE = Statement(
    update(rows)
    .where(rows.c.id == bindparam("project_id"))
    .values(monthly_price_micro_usd=bindparam("month"), asleep_price_micro_usd=bindparam("asleep"))
)


class Stretch:
    """How long a project is at one price."""

    def __init__(self) -> None:
        self.size, self.asleep, self.ms = SIZES[0], False, 0
        self.burned = 0  # in stretches that are over

    @property
    def total(self) -> int:
        """What it has burned: each stretch is rounded up to the micro-dollar."""
        return self.burned + ceil(self.size[self.asleep] * self.ms / MONTH_MS)

    def change(self, *, size: tuple[int, int] | None = None, asleep: bool | None = None) -> None:
        before = self.size[self.asleep], self.asleep
        total = self.total
        self.size = self.size if size is None else size
        self.asleep = self.asleep if asleep is None else asleep
        if (self.size[self.asleep], self.asleep) != before:
            self.burned, self.ms = total, 0


async def opened(db: Database, metering: Metering, wallet: str, name: str) -> Project:
    """A project that serves and is billed."""
    month, asleep = map(MicroUsd, SIZES[0])
    project = await add_project(
        db,
        wallet,
        name,
        serving_deployment_id=SERVING.format(name),
        monthly_price_micro_usd=month,
        asleep_price_micro_usd=asleep,
        sleep_after_seconds=60,
    )
    async with db.transaction(durable=True) as tx:
        await metering.begin(tx, project.id)
    return project


async def change_at_random(
    tx: Transaction, draw: random.Random, metering: Metering, project_id: str, state: Stretch
) -> None:
    """Puts it to sleep, wakes it, or gives it another size, as the switch does."""
    project = await projects.by_id(tx, project_id)
    assert project is not None
    serving = project.serving_deployment_id or ""
    match draw.randrange(3):
        case 0:
            fell = await metering.fall_asleep(tx, project, serving=serving)
            assert fell is not state.asleep  # again it does not
            state.change(asleep=True)
        case 1:
            assert await metering.wake(tx, project)
            state.change(asleep=False)
        case 2:
            size = draw.choice(SIZES)
            month, asleep = size
            await tx.execute(RESIZE, project_id=project_id, month=month, asleep=asleep)
            await projects.set_serving(tx, project_id, serving)
            assert await metering.follow(tx, project)
            state.change(size=size, asleep=False)


async def test_ten_thousand_changes_of_size_and_sleep_burn_the_sum_of_states_times_prices(
    db: Database, clock: MovableClock
) -> None:
    """Over crashes of the gateway and of the machine: the time that nobody saw is free."""
    draw = random.Random(27)
    boot_id = "0"
    metering = Metering(db=db, clock=clock, boot_id=boot_id)
    paid = 10_000_000_000
    await fund(db, ALICE, paid)
    states: dict[str, Stretch] = {}
    for name in ("first", "second", "third", "fourth"):
        states[(await opened(db, metering, ALICE, name)).id] = Stretch()

    def pass_time(milliseconds: int, *, billed: bool = True) -> None:
        clock.advance(milliseconds)
        for state in states.values():
            state.ms += milliseconds if billed else 0

    for round_ in range(100):
        async with db.transaction(durable=True) as tx:
            for _ in range(100):
                pass_time(draw.choice([0, 1, 999, 60_000, 1_234_567]))
                project_id = draw.choice([*states])
                await change_at_random(tx, draw, metering, project_id, states[project_id])
        pass_time(draw.randrange(3 * HOUR_MS))
        assert await metering.tick() == []
        away_ms = draw.randrange(HOUR_MS)
        crash = draw.choice(["none", "gateway", "apps", "machine"])
        if crash == "machine":
            clock.reboot(away_ms)
            boot_id = str(round_)
        elif crash != "none":
            pass_time(away_ms, billed=crash == "gateway")
        if crash != "none":
            metering = Metering(db=db, clock=clock, boot_id=boot_id)
            ran = map(SERVING.format, ("first", "second", "third", "fourth"))
            await metering.resume([*ran] if crash == "gateway" else [])
    async with db.transaction(durable=True) as tx:
        await metering.settle(tx, ALICE)
    burned = paid - await accounts.balance(db, ALICE)
    assert burned == sum(state.total for state in states.values())
    await expect_sound(db, clock)


async def test_state_and_billing_agree_whatever_runs_out_and_comes_back(
    db: Database, clock: MovableClock
) -> None:
    """With few credits, a limit, top-ups, resumptions: nobody owes, and the audit finds nothing."""
    draw = random.Random(28)
    metering = Metering(db=db, clock=clock)
    await fund(db, BOB, 2_000)
    mine = [(await opened(db, metering, BOB, name)).id for name in ("first", "second", "third")]
    seen = set()
    for _ in range(400):
        clock.advance(draw.choice([1_000, 600_000, HOUR_MS, 5 * HOUR_MS]))
        project_id, act = draw.choice(mine), draw.randrange(6)
        if act == 5:
            await fund(db, BOB, draw.randrange(1, 1_500))
        async with db.transaction(durable=True) as tx:
            project = await projects.by_id(tx, project_id)
            assert project is not None
            is_active = project.status is ProjectStatus.ACTIVE
            if act == 0 and is_active:
                serving = project.serving_deployment_id or ""
                await metering.fall_asleep(tx, project, serving=serving)
            elif act == 1 and is_active:
                await metering.wake(tx, project)
            elif act == 2 and not is_active and await metering.may_resume(tx, project):
                await metering.begin_or_suspend(tx, project)
            elif act == 3:
                limit = draw.choice([None, MicroUsd(5_000), MicroUsd(50_000)])
                await metering.change_purse(tx, project, PurseChange(limit=limit))
        if act == 4:
            await metering.tick()
        found = [await projects.by_id(db, each) for each in mine]
        seen |= {(each.status, each.asleep_since_ms is not None) for each in found if each}
        assert await accounts.balance(db, BOB) >= 0
        await expect_sound(db, clock)
    active = ProjectStatus.ACTIVE
    assert seen == {(active, False), (active, True), (ProjectStatus.SUSPENDED, False)}


async def expect_sound(db: Database, clock: MovableClock) -> None:
    async with db.snapshot() as snapshot:
        found = await audit_states(snapshot, now_ms=clock.now_ms())
        found += (await audit_books(snapshot, [ARBITRUM]))[1]
    assert found == []
