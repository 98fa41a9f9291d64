"""Queries over projects."""

from sqlalchemy import bindparam, exists, func, insert, null, or_, select, update

from moorage.records.deployment import (
    UNDER_WAY,
)
from moorage.records.project import SHARING_STATUSES, Project, ProjectStatus
from moorage.storage.apps.addresses import names
from moorage.storage.database import Database, Row, Source, Statement, Transaction
from moorage.storage.money.purses import unshared
from moorage.storage.schema import deployments, projects, purses

_PROJECT = [projects.c[name] for name in Project.__struct_fields__]
_living = projects.c.deleted_at_ms.is_(None)

_BY_ID = Statement(select(*_PROJECT).where(projects.c.id == bindparam("id"), _living))
_BY_NAME = Statement(
    select(*_PROJECT).where(projects.c.unique_name == bindparam("unique_name"), _living)
)
_IS_DELETED = Statement(
    select(projects.c.id).where(
        projects.c.id == bindparam("id"), projects.c.deleted_at_ms.is_not(None)
    )
)
_OF_WALLET = Statement(
    select(*_PROJECT)
    .where(projects.c.wallet == bindparam("wallet"), _living)
    .order_by(projects.c.created_at_ms, projects.c.id)
)
_asleep = (projects.c.status == ProjectStatus.ACTIVE.value) & projects.c.asleep_since_ms.is_not(
    None
)
_AWAKE = Statement(select(*_PROJECT).where(_living, ~_asleep))
_SLEEPING = Statement(
    select(projects.c.serving_deployment_id, projects.c.id).where(_living, _asleep)
)
_SHARING = Statement(
    select(func.count())
    .select_from(projects)
    .outerjoin(purses, unshared(projects.c.id))
    .where(
        projects.c.wallet == bindparam("wallet"),
        purses.c.project_id.is_(None),
        projects.c.status.in_([status.value for status in SHARING_STATUSES]),
    )
)
_SUSPENDED = (
    select(*_PROJECT)
    .where(
        _living,
        projects.c.status == ProjectStatus.SUSPENDED.value,
        projects.c.blocked_reason.is_(None),  # only the operator ends this
        projects.c.no_space_since_ms.is_(None),  # only free disk space ends this
    )
    .order_by(projects.c.suspended_at_ms, projects.c.id)
)
_SUSPENDED_OF_WALLET = Statement(
    _SUSPENDED.outerjoin(purses, unshared(projects.c.id)).where(
        projects.c.wallet == bindparam("wallet"),
        purses.c.project_id.is_(None),
        projects.c.serving_deployment_id.is_not(None),
        projects.c.paused_at_ms.is_(None),  # only its owner ends this
    )
)
_SUSPENDED_ALONE = Statement(
    _SUSPENDED.where(
        projects.c.id == bindparam("project_id"),
        projects.c.serving_deployment_id.is_not(None),
        projects.c.paused_at_ms.is_(None),
    )
)
_SUSPENDED_UNTIL = Statement(_SUSPENDED.where(projects.c.suspended_at_ms <= bindparam("until_ms")))
_FAILED_UNTIL = Statement(
    select(*_PROJECT)
    .where(
        _living,
        projects.c.status == ProjectStatus.FAILED.value,
        projects.c.serving_deployment_id.is_(None),
        ~exists().where(
            deployments.c.project_id == projects.c.id,
            or_(
                deployments.c.ended_at_ms.is_(None),
                deployments.c.ended_at_ms > bindparam("until_ms"),
            ),
        ),
    )
    .order_by(projects.c.created_at_ms, projects.c.id)
)
_INSERT_PROJECT = Statement(
    insert(projects).values({name: bindparam(name) for name in Project.__struct_fields__})
)
_SET_PROJECT_STATUS = Statement(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.status.not_in([ProjectStatus.DELETING.value, ProjectStatus.DELETED.value]),
    )
    .values(
        status=bindparam("new_status"),
        suspended_at_ms=null(),
        asleep_since_ms=null(),
        down_since_ms=null(),
        no_space_since_ms=null(),
    )
)
_SUSPEND = Statement(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.status.not_in([ProjectStatus.DELETING.value, ProjectStatus.DELETED.value]),
    )
    .values(
        status=ProjectStatus.SUSPENDED.value,
        suspended_at_ms=func.coalesce(projects.c.suspended_at_ms, bindparam("at_ms")),
        asleep_since_ms=null(),
        down_since_ms=null(),
    )
)
_SET_PAUSED = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(paused_at_ms=bindparam("at_ms"))
)
_PAUSED_AND_RESUMED = Statement(
    select(*_PROJECT).where(
        _living,
        projects.c.paused_at_ms.is_not(None),
        projects.c.status.not_in([ProjectStatus.SUSPENDED.value, ProjectStatus.DELETING.value]),
    )
)
_FALL_ASLEEP = Statement(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.status == ProjectStatus.ACTIVE.value,
        projects.c.serving_deployment_id == bindparam("serving"),
        projects.c.asleep_since_ms.is_(None),
        ~exists().where(
            deployments.c.project_id == projects.c.id,
            deployments.c.status.in_([status.value for status in UNDER_WAY]),
        ),
    )
    .values(asleep_since_ms=bindparam("at_ms"), down_since_ms=null())
)
_WAKE = Statement(
    update(projects).where(projects.c.id == bindparam("project_id")).values(asleep_since_ms=null())
)
_SET_SERVING = Statement(
    update(projects)
    .where(
        projects.c.id == bindparam("project_id"),
        projects.c.status.not_in([ProjectStatus.DELETING.value, ProjectStatus.DELETED.value]),
    )
    .values(
        status=ProjectStatus.ACTIVE.value,
        serving_deployment_id=bindparam("deployment_id"),
        asleep_since_ms=null(),
        down_since_ms=null(),
        no_space_since_ms=null(),
    )
)
_UNCERTIFIED = Statement(
    select(*_PROJECT).where(_living, projects.c.uncertified_since_ms.is_not(None))
)
_SERVED = Statement(select(*_PROJECT).where(_living, projects.c.serving_deployment_id.is_not(None)))
_SET_UNCERTIFIED = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(uncertified_since_ms=bindparam("since_ms"))
)
_SET_DELETED = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"), _living)
    .values(
        status=ProjectStatus.DELETED.value,
        serving_deployment_id=null(),
        deleted_at_ms=bindparam("at_ms"),
    )
)


async def by_id(source: Source, project_id: str) -> Project | None:
    """A project that is not deleted."""
    return _project(await source.one(_BY_ID, id=project_id))


async def by_name(source: Source, unique_name: str) -> Project | None:
    """The project that has this name."""
    return _project(await source.one(_BY_NAME, unique_name=unique_name))


async def is_deleted(db: Database, project_id: str) -> bool:
    """Whether this project existed and was deleted."""
    return await db.one(_IS_DELETED, id=project_id) is not None


async def of_wallet(source: Source, wallet: str) -> list[Project]:
    """The wallet's projects, oldest first."""
    return [of_row(row) for row in await source.all(_OF_WALLET, wallet=wallet)]


async def awake(source: Source) -> list[Project]:
    """Every project that is neither deleted nor asleep."""
    return [of_row(row) for row in await source.all(_AWAKE)]


async def sleeping(source: Source) -> dict[str, str]:
    """Returns the sleeping projects, by their serving deployment."""
    return {str(row[0]): str(row[1]) for row in await source.all(_SLEEPING)}


async def suspended_of_wallet(source: Source, wallet: str) -> list[Project]:
    """Returns the projects that a wallet's credits would resume, the longest suspended first."""
    return [of_row(row) for row in await source.all(_SUSPENDED_OF_WALLET, wallet=wallet)]


async def suspended_alone(source: Source, project_id: str) -> list[Project]:
    """Returns a project if credits of its own would resume it."""
    return [of_row(row) for row in await source.all(_SUSPENDED_ALONE, project_id=project_id)]


async def suspended_until(db: Database, *, until_ms: int) -> list[Project]:
    """Returns projects out of credits, or paused, since `until_ms`, in billed time, or longer."""
    return [of_row(row) for row in await db.all(_SUSPENDED_UNTIL, until_ms=until_ms)]


async def failed_until(db: Database, *, until_ms: int) -> list[Project]:
    """Returns projects that never served and whose last deployment failed by `until_ms`."""
    return [of_row(row) for row in await db.all(_FAILED_UNTIL, until_ms=until_ms)]


async def sharing_credits(source: Source, wallet: str) -> int:
    """Returns how many projects share the wallet's credits: the contract's `active_projects`."""
    row = await source.one(_SHARING, wallet=wallet)
    return int(row[0]) if row else 0


async def add(tx: Transaction, project: Project) -> None:
    """Stores a new project. Raises UniqueViolation when the name is taken."""
    await names.take(
        tx,
        wallet=project.wallet,
        unique_name=project.unique_name,
        now_ms=project.created_at_ms,
    )
    await tx.execute(_INSERT_PROJECT, **_fields(project))


async def set_status(tx: Transaction, project_id: str, status: ProjectStatus) -> bool:
    """Changes a project's status; returns False when it is being deleted."""
    return await tx.execute(_SET_PROJECT_STATUS, project_id=project_id, new_status=status) == 1


async def suspend(tx: Transaction, project_id: str, *, at_ms: int) -> None:
    """Suspends a project at this billed time, unless it is suspended or being deleted."""
    await tx.execute(_SUSPEND, project_id=project_id, at_ms=at_ms)


async def set_paused(tx: Transaction, project_id: str, *, at_ms: int | None) -> None:
    """Notes since when its owner has a project paused; None: no longer."""
    await tx.execute(_SET_PAUSED, project_id=project_id, at_ms=at_ms)


async def paused_and_resumed(source: Source) -> list[Project]:
    """Returns paused projects that were resumed all the same, by a gateway of before pauses."""
    return [of_row(row) for row in await source.all(_PAUSED_AND_RESUMED)]


async def fall_asleep(tx: Transaction, project_id: str, *, serving: str, at_ms: int) -> bool:
    """Marks an active project as asleep.

    Returns False when it is asleep already, another deployment serves, or one is under way.
    """
    return await tx.execute(_FALL_ASLEEP, project_id=project_id, serving=serving, at_ms=at_ms) == 1


async def wake(tx: Transaction, project_id: str) -> None:
    """Marks a project as awake, whether or not it was asleep."""
    await tx.execute(_WAKE, project_id=project_id)


async def set_serving(tx: Transaction, project_id: str, deployment_id: str) -> bool:
    """Makes a deployment the serving one; returns False when the project is being deleted."""
    return await tx.execute(_SET_SERVING, project_id=project_id, deployment_id=deployment_id) == 1


async def served(source: Source) -> list[Project]:
    """Returns the projects that serve or have served, also asleep or suspended."""
    return [of_row(row) for row in await source.all(_SERVED)]


async def uncertified(source: Source) -> list[Project]:
    """Returns the projects that are served over plain HTTP, as they have no certificate."""
    return [of_row(row) for row in await source.all(_UNCERTIFIED)]


async def set_uncertified(tx: Transaction, project_id: str, *, since_ms: int | None) -> None:
    """Notes since when a project has no certificate; None: it has one."""
    await tx.execute(_SET_UNCERTIFIED, project_id=project_id, since_ms=since_ms)


async def set_deleted(tx: Transaction, project_id: str, *, at_ms: int) -> bool:
    """Marks a project as deleted and frees its name; returns False when it was deleted before."""
    if await tx.execute(_SET_DELETED, project_id=project_id, at_ms=at_ms) != 1:
        return False
    await names.free(tx, project_id)
    return True


def _fields(record: Project) -> dict[str, int | str | None]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def _project(row: Row | None) -> Project | None:
    return of_row(row) if row else None


def of_row(row: Row) -> Project:
    """Returns the project whose columns a row holds, in the order of its fields."""
    fields = dict(zip(Project.__struct_fields__, row, strict=True))
    return Project(
        **fields | {"status": ProjectStatus(fields["status"]), "volume": bool(fields["volume"])}
    )
