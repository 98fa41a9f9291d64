"""A real database for unit tests, migrated once and copied for each, and rows to put into it."""

import itertools
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.chains.chain import KNOWN_CHAINS
from moorage.ledger import ledger
from moorage.ledger.ledger import Transfer
from moorage.money import AtomicUnits, MicroUsd
from moorage.planning.plan import Plan, Stack
from moorage.records.access import StoredDelegation
from moorage.records.deployment import Deployment, DeploymentStatus, JobKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import migrate as migration
from moorage.storage.apps import deployments, jobs, projects
from moorage.storage.database import Database
from moorage.storage.migrate import migrate
from support.books.database_option import ON_SERVER
from support.books.yielding import YieldingDatabase
from support.gateway.clock import START_MS, MovableClock

PAY_TO = "0x" + "7e" * 20
ALICE, BOB, CAROL = ("0x" + letter * 40 for letter in "abc")
GATEWAY, OTHER_GATEWAY = "a gateway", "another gateway"
ARBITRUM = KNOWN_CHAINS["arbitrum"]
USDC, USDT = ARBITRUM.tokens
PLAN = Plan(
    stack=Stack.NODE,
    directory="",
    install=None,
    build=None,
    start="exec node index.js",
    port=3000,
    build_env={},
    run_env={},
    because=(),
)

LATER_REVISION = f"""
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "{migration.NEWEST_REVISION}"

def upgrade() -> None:
    op.add_column("wallets", sa.Column("later", sa.Text(), nullable=True))
    op.create_table("in_the_way", sa.Column("one", sa.Integer()))
"""

UNLIMITED = MemoryRateLimiter(clock=MovableClock(), limit=1_000_000)

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with the newest schema and no rows, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "empty.db"
    migrate(path)
    return path


@pytest.fixture
def later_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The revision of a release after this one, which adds a column and a table."""
    scripts = shutil.copytree(migration.SCRIPTS, tmp_path / "scripts")
    (scripts / "versions" / "later.py").write_text(LATER_REVISION)
    monkeypatch.setattr(migration, "SCRIPTS", scripts)
    monkeypatch.setattr(migration, "REVISIONS", (*migration.REVISIONS, "later"))
    monkeypatch.setattr(migration, "NEWEST_REVISION", "later")
    return "later"


@pytest.fixture
def db_path(migrated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(migrated, tmp_path / "moorage.db"))


@pytest.fixture
def db(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A file, with the faults of `FaultyDatabase`; a server's with `--database postgresql`."""
    if request.config.getoption("--database") == ON_SERVER:
        yield request.getfixturevalue("server_db")
        return
    database = YieldingDatabase(request.getfixturevalue("db_path"))
    yield database
    database.close()


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


def fresh_hash() -> str:
    """A transaction's hash that no other test uses."""
    return f"0x{next(_numbers):064x}"


def transfer(payer: str = ALICE, amount: int = 500_000, **changed: Any) -> Transfer:
    """A verified transfer of USDC on Arbitrum, in a transaction of its own."""
    made = Transfer(
        chain_id=ARBITRUM.chain_id,
        tx_hash=fresh_hash(),
        log_index=0,
        token=USDC.name,
        token_address=USDC.key,
        payer=payer,
        amount=AtomicUnits(amount),
        decimals=USDC.decimals,
        block_number=7,
        block_hash="0x" + "b1" * 32,
        recipient=PAY_TO,
    )
    return msgspec.structs.replace(made, **changed)


def delegation(
    *, limit_usd_month: int = 2, project: str = "", scopes: str = "read deploy", named: str = "d1"
) -> StoredDelegation:
    """By which Carol may act for Alice for as long as any test lasts."""
    return StoredDelegation(
        id=named,
        owner=ALICE,
        delegate=CAROL,
        host="gateway.example",
        project=project,
        scopes=scopes,
        limit_usd_month=limit_usd_month,
        not_after=2**33,
        epoch=0,
        signature="",
        created_at_ms=0,
    )


async def fund(db: Database, wallet: str, amount: int) -> None:
    """Give a wallet credits, as a payment would; micro-USD."""
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [transfer(wallet, amount)], now_ms=START_MS)


async def add_project(
    db: Database,
    wallet: str = ALICE,
    name: str = "hello",
    status: ProjectStatus = ProjectStatus.ACTIVE,
    **changed: Any,
) -> Project:
    """Store a project that serves nothing yet."""
    project = Project(
        id=str(uuid.uuid4()),
        wallet=wallet,
        unique_name=name,
        display_name="Hello",
        description="",
        status=status,
        monthly_price_micro_usd=MicroUsd(500_000),
        serving_deployment_id=None,
        created_at_ms=START_MS,
    )
    project = msgspec.structs.replace(project, **changed)
    async with db.transaction(durable=False) as tx:
        await projects.add(tx, project)
    return project


async def add_deployment(
    db: Database,
    project: Project,
    status: DeploymentStatus = DeploymentStatus.QUEUED,
    *,
    queued: bool = False,
    serving: bool = False,
    **changed: Any,
) -> Deployment:
    """Store a deployment; with `queued` its job too, with `serving` as the one that serves."""
    deployment = Deployment(
        id=str(uuid.uuid4()),
        project_id=project.id,
        status=status,
        request_digest="digest",
        plan=msgspec.json.encode(PLAN).decode(),
        note="",
        reason=None,
        reason_code=None,
        log_tail="",
        created_at_ms=START_MS,
    )
    deployment = msgspec.structs.replace(deployment, **changed)
    async with db.transaction(durable=False) as tx:
        await deployments.add(tx, deployment)
        if serving:
            await projects.set_serving(tx, project.id, deployment.id)
            await projects.set_status(tx, project.id, project.status)
        if queued:
            await jobs.add(
                tx,
                job_id=str(uuid.uuid4()),
                kind=JobKind.DEPLOY,
                subject_id=deployment.id,
                wallet=project.wallet,
                builds=_builds(deployment),
                run_at_ms=START_MS,
            )
    return deployment


def _builds(deployment: Deployment) -> bool:
    plan = msgspec.json.decode(deployment.plan, type=Plan)
    return deployment.copy_of is None and bool(plan.install or plan.build)
