"""Made-up customers: wallets with credits, and projects that run or sleep, in a gateway's books."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from moorage.money import MicroUsd
from moorage.planning.plan import Plan, Stack
from moorage.records.deployment import Deployment, DeploymentStatus
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts, billing

CREDITS = MicroUsd(1_000_000_000_000)
MONTH = MicroUsd(500_000)
_AT_ONCE = 5_000  # projects a transaction
_PLAN = msgspec.json.encode(
    Plan(
        stack=Stack.NODE,
        directory="",
        install=None,
        build=None,
        start="node index.js",
        port=3000,
        build_env={},
        run_env={},
        because=(),
    )
).decode()


@dataclass(frozen=True, kw_only=True)
class Customers:
    """How many there are, and how many of their apps sleep; the others run, and are billed.

    With `suspended` the others were stopped instead, when their credits were used up. `billed_ms`
    is when the first one's billing began; the others' began one after the other within
    `spread_ms`. Without `wallets` these are made up, too.
    """

    projects: int
    projects_of_wallet: int = 10
    wallets: Sequence[str] = ()
    asleep: int = 0
    suspended: bool = False
    billed_ms: int
    spread_ms: int = 0

    def wallet_of(self, number: int) -> str:
        """Whose a project is."""
        wallet = number // self.projects_of_wallet
        return self.wallets[wallet] if self.wallets else f"0x{wallet + 1:040x}"


async def fill(db: Database, made_up: Customers) -> list[str]:
    """Puts them into the books; returns the ids of the deployments that serve."""
    apps = list(_apps(made_up))
    for first in range(0, len(apps), _AT_ONCE):
        async with db.transaction(durable=False) as tx:
            for number, (project, deployment) in enumerate(apps[first : first + _AT_ONCE], first):
                await _add(tx, made_up, number, project, deployment)
    return [deployment.id for _, deployment in apps]


async def _add(
    tx: Transaction, made_up: Customers, number: int, project: Project, deployment: Deployment
) -> None:
    if number % made_up.projects_of_wallet == 0:
        await accounts.ensure_wallet(tx, project.wallet, now_ms=made_up.billed_ms)
        if not made_up.suspended:
            await accounts.change_balance(tx, project.wallet, CREDITS)
    await projects.add(tx, project)
    await deployments.add(tx, deployment)
    if project.status is ProjectStatus.ACTIVE and project.asleep_since_ms is None:
        await billing.open_interval(
            tx,
            interval_id=str(uuid.uuid4()),
            project_id=project.id,
            at_ms=made_up.billed_ms + number * made_up.spread_ms // made_up.projects,
        )


def _apps(made_up: Customers) -> Iterator[tuple[Project, Deployment]]:
    for number in range(made_up.projects):
        project_id, deployment_id = str(uuid.uuid4()), str(uuid.uuid4())
        sleeps = number < made_up.asleep
        is_suspended = made_up.suspended and not sleeps
        yield (
            Project(
                id=project_id,
                wallet=made_up.wallet_of(number),
                unique_name=f"made-up-{number}",
                display_name="Made up",
                description="",
                status=ProjectStatus.SUSPENDED if is_suspended else ProjectStatus.ACTIVE,
                monthly_price_micro_usd=MONTH,
                serving_deployment_id=deployment_id,
                created_at_ms=made_up.billed_ms,
                suspended_at_ms=made_up.billed_ms if is_suspended else None,
                asleep_since_ms=made_up.billed_ms if sleeps else None,
            ),
            Deployment(
                id=deployment_id,
                project_id=project_id,
                status=DeploymentStatus.READY,
                request_digest="",
                plan=_PLAN,
                note="",
                reason=None,
                reason_code=None,
                log_tail="",
                created_at_ms=made_up.billed_ms,
            ),
        )
