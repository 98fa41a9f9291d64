"""`moorage operator engine` and `bases`: projects by engine, moves, images that builds need."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from moorage.clock import SystemClock
from moorage.engines.docker.kind import KIND as DOCKER
from moorage.engines.images.base_images import BaseImages
from moorage.engines.images.image import parse_reference
from moorage.engines.images.recipe import images_of
from moorage.engines.images.registry import Credentials, Registry, RegistryFailed, read_credentials
from moorage.engines.sandbox.kind import KIND as SANDBOX
from moorage.engines.table import engine_kind
from moorage.errors import ConfigurationInvalid, InvalidField
from moorage.gateway.engine_choice import kinds
from moorage.hosting.work.moving import queue_move
from moorage.operate.books import OpenBooks, open_books
from moorage.planning.plan import Plan, Stack
from moorage.records.project import Project, ProjectStatus
from moorage.settings import Settings
from moorage.storage.apps import deployments, projects
from moorage.storage.apps.deployments import Placed
from moorage.storage.database import Database
from moorage.storage.money import accounts


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """An image that builds of projects that serve begin with, or take programs from."""

    program: str
    image: str  # as the next build asks for it
    projects: int
    is_pinned: bool
    digest: str | None = None  # that it has now; None if its registry does not say
    why: str = ""  # it does not


async def run_bases(settings: Settings) -> list[Base]:
    """Returns the images, those of most projects first. Raises ConfigurationInvalid."""
    if engine_kind(settings.isolation) is SANDBOX:
        raise ConfigurationInvalid("The sandbox builds with this machine's programs, on no image.")
    bases = BaseImages(images=settings.base_images)
    async with open_books(settings) as books:
        plans = [
            msgspec.json.decode(each, type=Plan)
            for each in await deployments.serving_plans(books.db)
        ]
    registry = Registry(_credentials(settings))
    try:
        return [await _now(registry, each) for each in used(plans, bases)]
    finally:
        await registry.close()


def used(plans: Iterable[Plan], bases: BaseImages) -> list[Base]:
    """Returns the images of plans, those of most first; a Dockerfile names its own."""
    counts = Counter(
        image
        for plan in plans
        if plan.stack is not Stack.DOCKERFILE
        for image in images_of(plan, bases).items()
    )
    return [
        Base(
            program=program,
            image=image,
            projects=projects,
            is_pinned=bool(parse_reference(image).digest),
        )
        for (program, image), projects in sorted(
            counts.items(), key=lambda found: (-found[1], found[0])
        )
    ]


def pins(found: Iterable[Base], settings: Settings) -> Mapping[str, str]:
    """Returns `base_images` with the digests of now: of each program the image used most.

    What is set and not used stays.
    """
    pinned: dict[str, str] = {}
    for each in found:
        if each.digest is not None and each.program not in pinned:
            name = each.image.partition("@")[0]
            pinned[each.program] = f"{name}@{each.digest}"
    return {**settings.base_images, **pinned}


async def _now(registry: Registry, base: Base) -> Base:
    """Returns it with the digest that its registry has now: of the tag, where it has one."""
    named = parse_reference(base.image)
    try:
        digest = await registry.digest(replace(named, digest="") if named.tag else named)
    except RegistryFailed as error:
        return msgspec.structs.replace(base, why=str(error))
    if digest is None:
        return msgspec.structs.replace(base, why="its registry has no such image")
    return msgspec.structs.replace(base, digest=digest)


def _credentials(settings: Settings) -> Credentials:
    """Returns those that builds use: Docker's own, or those for the operator's registry."""
    named = settings.kubernetes_credential("registry.json")
    if engine_kind(settings.isolation) is DOCKER:
        own = Path.home() / ".docker" / "config.json"
        return read_credentials(own if own.exists() else None)
    return read_credentials(Path(named) if named else None)


async def placed(books: OpenBooks) -> list[Placed]:
    """Returns the projects that serve, and the engine that each is on."""
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
        return "it is suspended: `moorage operator resume` first"
    if project.paused_at_ms is not None:
        return "its owner has paused it"
    if project.no_space_since_ms is not None:
        return "it waits for room on the disk"
    return ""
