"""`moorage engine list` and `move`, directly in the gateway's database."""

from moorage.clock import SystemClock
from moorage.deploy.work.moving import queue_move
from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.gateway.platform.isolation import kinds
from moorage.operate.books import open_books
from moorage.records.project import Project, ProjectStatus
from moorage.settings import Settings
from moorage.storage.apps import deployments, projects
from moorage.storage.apps.deployments import Placed
from moorage.storage.database import Database
from moorage.storage.money import accounts


async def run_list(settings: Settings) -> list[Placed]:
    """Returns the projects that serve, and the engine that each is on."""
    async with open_books(settings) as books:
        return await deployments.placed(books.db)


async def run_move(settings: Settings, name: str, to: str) -> list[tuple[str, str]]:
    """Queues the moves of a project, or with "" of all that can be moved; a gateway makes them.

    Returns the name of each, and why it is not moved now, or "". Raises ConfigurationInvalid unless
    the settings say that projects move to the engine `to`; InvalidField.
    """
    own, *leaving = kinds(settings)
    if not leaving or to != own.name:
        raise ConfigurationInvalid(
            f"Projects move to the engine of `isolation` from that of `moving_from`: set isolation "
            f'= "{to}" and moving_from to what they are on, and start the gateway again.'
        )
    async with open_books(settings) as books:
        found = [each for each in await deployments.placed(books.db) if name in ("", each.name)]
        if name and not found:
            raise InvalidField(name, "no project that serves has this name")
        left = [each for each in found if name or each.engine != to]
        return [(each.name, await move_project(books.db, each, to)) for each in left]


async def move_project(db: Database, placed: Placed, to: str) -> str:
    """Queues one move; returns why it can't be, or ""."""
    async with db.transaction(durable=True) as tx:
        project = await projects.by_name(tx, placed.name)
        if project is None or project.serving_deployment_id is None:
            return "it serves no longer"
        await accounts.lock(tx, project.wallet)
        serving = await deployments.by_id(tx, project.serving_deployment_id)
        if serving is None or serving.engine == to:
            return f"it is on {to} already"
        wallet = await accounts.wallet_row(tx, project.wallet)
        if (why := _refusal(project, wallet.blocked_reason)) or await deployments.under_way_of(
            tx, project.id
        ):
            return why or "a deployment of it is under way"
        await queue_move(tx, project, serving, to, now_ms=SystemClock().now_ms())
    return ""


def _refusal(project: Project, wallet_blocked: str | None) -> str:
    """Returns why a project's app may not be started, or ""."""
    if project.status is ProjectStatus.DELETING:
        return "it is being deleted"
    if project.blocked_reason or wallet_blocked:
        return "it is suspended: `moorage resume` first"
    if project.paused_at_ms is not None:
        return "its owner has paused it"
    if project.no_space_since_ms is not None:
        return "it waits for room on the disk"
    return ""
