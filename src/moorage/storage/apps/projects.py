"""Queries over projects: their states, what suspends them, and lists of them."""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ColumnElement,
    Text,
    and_,
    bindparam,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
    union_all,
    update,
)

from moorage.errors import ProjectNotFound
from moorage.records.deployment import UNDER_WAY
from moorage.records.project import SHARING_STATUSES, Kind, Project, ProjectStatus
from moorage.storage.apps import names
from moorage.storage.database import (
    Database,
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
    is_listed,
    listed,
    pattern_of,
)
from moorage.storage.schema import deployments, meters, projects, purses, wallets

_this = projects.c.id == bindparam("project_id")
_active = projects.c.status == ProjectStatus.ACTIVE.value
_not_deleting = projects.c.status.not_in(
    [ProjectStatus.DELETING.value, ProjectStatus.DELETED.value]
)


def _set(*where: ColumnElement[bool], **values: object) -> Statement:
    """Returns the statement that sets columns of one project, where all the conditions hold."""
    return Statement(update(projects).where(_this, *where).values(**values))


_DESCRIBE = _set(
    display_name=func.coalesce(bindparam("new_display_name"), projects.c.display_name),
    description=func.coalesce(bindparam("new_description"), projects.c.description),
)
_CONFIGURE = _set(variables=bindparam("new_variables"), health_path=bindparam("new_health_path"))
_SET_SLEEP_AFTER = _set(sleep_after_seconds=bindparam("seconds"))
_GIVE_VOLUME = _set(~projects.c.volume, volume=True, volume_after=projects.c.serving_deployment_id)
_GIVE_EMPTY_VOLUME = _set(volume=True, volume_after=null(), volume_missing=True)
_CONFIGURE_DEPLOYMENT = Statement(
    update(deployments)
    .where(*given(deployments, id="deployment_id"))
    .values(
        variables=bindparam("new_variables"),
        health_path=bindparam("new_health_path"),
        size=func.coalesce(bindparam("new_size"), deployments.c.size),
    )
)
_FORGET = (
    Statement(update(projects).where(*given(projects, id="of_project")).values(variables="")),
    Statement(
        update(deployments)
        .where(*given(deployments, project_id="of_project"))
        .values(variables="", log_tail="")  # logs may tell them
    ),
)


async def describe(
    tx: Transaction, project_id: str, *, display_name: str | None, description: str | None
) -> None:
    """Changes a project's display name and description; None leaves one unchanged."""
    await tx.execute(
        _DESCRIBE, project_id=project_id, new_display_name=display_name, new_description=description
    )


async def configure(tx: Transaction, project_id: str, *, variables: str, health_path: str) -> None:
    """Sets the variables and health path of the project's next deployment."""
    await tx.execute(
        _CONFIGURE, project_id=project_id, new_variables=variables, new_health_path=health_path
    )


async def set_sleep_after(tx: Transaction, project_id: str, seconds: int | None) -> None:
    """Sets how long the project's app idles before it sleeps; None: for ever."""
    await tx.execute(_SET_SLEEP_AFTER, project_id=project_id, seconds=seconds)


async def give_volume(tx: Transaction, project_id: str, *, is_empty: bool = False) -> None:
    """Gives the project a volume, if it has none; the version that serves does not see it.

    Unless it `is_empty`, it begins with what that version has written.
    """
    await tx.execute(_GIVE_EMPTY_VOLUME if is_empty else _GIVE_VOLUME, project_id=project_id)


async def configure_deployment(
    tx: Transaction,
    deployment_id: str,
    *,
    variables: str,
    health_path: str,
    size: str | None = None,
) -> None:
    """Sets the variables and health path of a deployment that has not been started yet.

    And its size, unless that is None.
    """
    await tx.execute(
        _CONFIGURE_DEPLOYMENT,
        deployment_id=deployment_id,
        new_variables=variables,
        new_health_path=health_path,
        new_size=size,
    )


async def forget_variables(tx: Transaction, project_id: str) -> None:
    """Removes the variables of a project and of all its deployments, and what they last wrote."""
    for statement in _FORGET:
        await tx.execute(statement, of_project=project_id)


_living = projects.c.deleted_at_ms.is_(None)
_SET_OF_WALLET = Statement(
    update(wallets)
    .where(*given(wallets, address="wallet"))
    .values(blocked_reason=bindparam("new_reason"))
)
_BLOCK = _set(blocked_reason=bindparam("new_reason"))
_suspended = projects.c.status == ProjectStatus.SUSPENDED.value
# It may still lack credits; the time for which such a project is kept begins now.
_UNBLOCK_SERVED = _set(
    _suspended,
    projects.c.serving_deployment_id.is_not(None),
    suspended_at_ms=select(func.max(meters.c.billed_ms)).scalar_subquery(),
)
_UNBLOCK_UNSERVED = _set(
    _suspended,
    projects.c.serving_deployment_id.is_(None),
    status=ProjectStatus.FAILED.value,
    suspended_at_ms=null(),
)
_ALL = Statement(
    union_all(
        select(wallets.c.address, literal("").label("name"), wallets.c.blocked_reason).where(
            wallets.c.blocked_reason.is_not(None)
        ),
        select(projects.c.wallet, projects.c.unique_name, projects.c.blocked_reason).where(
            projects.c.blocked_reason.is_not(None), _living
        ),
    )
)


_NOT_ENFORCED = Statement(
    select(projects.c.id).where(
        projects.c.blocked_reason.is_not(None),
        _living,
        projects.c.status != ProjectStatus.DELETING.value,
        or_(
            projects.c.status != ProjectStatus.SUSPENDED.value,
            exists().where(
                deployments.c.project_id == projects.c.id,
                deployments.c.status.in_([status.value for status in UNDER_WAY]),
            ),
        ),
    )
)


class Block(NamedTuple):
    """A suspended project, or, with an empty `unique_name`, a suspended wallet."""

    wallet: str
    unique_name: str
    reason: str


async def set_of_wallet(tx: Transaction, wallet: str, reason: str | None) -> None:
    """Suspends a wallet for this reason, or resumes it with None. Its row must exist."""
    await tx.execute(_SET_OF_WALLET, wallet=wallet, new_reason=reason)


async def block_project(tx: Transaction, project_id: str, reason: str) -> None:
    """Records that the operator suspends a project; the gateway then stops it."""
    await tx.execute(_BLOCK, project_id=project_id, new_reason=reason)


async def unblock_project(tx: Transaction, project_id: str) -> None:
    """Records that the operator no longer suspends it; now only its credits decide."""
    await tx.execute(_BLOCK, project_id=project_id, new_reason=None)
    await tx.execute(_UNBLOCK_SERVED, project_id=project_id)
    await tx.execute(_UNBLOCK_UNSERVED, project_id=project_id)


async def not_enforced(db: Database) -> list[str]:
    """Returns the projects to be suspended that still run or are being deployed."""
    return [row[0] for row in await db.all(_NOT_ENFORCED)]


async def all_blocks(db: Database) -> list[Block]:
    """Returns everything that the operator has suspended."""
    return await db.records(Block, _ALL)


_HOLD = _set(
    _active,
    projects.c.serving_deployment_id == bindparam("serving"),
    status=ProjectStatus.SUSPENDED.value,
    suspended_at_ms=func.coalesce(projects.c.suspended_at_ms, bindparam("at_ms")),
    asleep_since_ms=null(),
    no_space_since_ms=bindparam("since_ms"),
)
_HELD = Statement(
    select(projects.c.id, projects.c.serving_deployment_id)
    .where(projects.c.no_space_since_ms.is_not(None), projects.c.deleted_at_ms.is_(None))
    .order_by(projects.c.no_space_since_ms, projects.c.id)
)
_VOLUME_LOST = _set(~projects.c.volume_missing, volume_missing=true())
_VOLUME_MADE = _set(projects.c.volume_missing, volume_missing=false())
_RELEASE = _set(no_space_since_ms=null())


async def suspend_for_space(
    tx: Transaction, project_id: str, *, serving: str, at_ms: int, since_ms: int
) -> bool:
    """Suspends a running project; `at_ms` is billed time, `since_ms` the clock's.

    Returns False when it does not run, or another deployment serves.
    """
    touched = await tx.execute(
        _HOLD, project_id=project_id, serving=serving, at_ms=at_ms, since_ms=since_ms
    )
    return touched == 1


async def suspended_for_space(db: Database) -> dict[str, str]:
    """Returns serving deployments by project, for projects that wait for disk space.

    Those that have waited the longest come first.
    """
    return {str(row[0]): str(row[1] or "") for row in await db.all(_HELD)}


async def set_volume_lost(tx: Transaction, project_id: str) -> bool:
    """Records that a project's volume is gone; returns False if that is known."""
    return await tx.execute(_VOLUME_LOST, project_id=project_id) == 1


async def set_volume_made(tx: Transaction, project_id: str) -> None:
    """Records that an app of a project runs with its volume."""
    await tx.execute(_VOLUME_MADE, project_id=project_id)


async def release_for_space(tx: Transaction, project_id: str) -> None:
    """Records that a project no longer waits for disk space; it stays suspended."""
    await tx.execute(_RELEASE, project_id=project_id)


_PROJECT = columns_of(projects, Project)

_BY_ID = Statement(select(*_PROJECT).where(*given(projects, "id"), _living))
_BY_NAME = Statement(select(*_PROJECT).where(*given(projects, "unique_name"), _living))
_IS_DELETED = Statement(
    select(projects.c.id).where(*given(projects, "id"), projects.c.deleted_at_ms.is_not(None))
)
_OF_WALLET = Statement(
    select(*_PROJECT)
    .where(*given(projects, "wallet"), _living)
    .order_by(projects.c.created_at_ms, projects.c.id)
)
_asleep = _active & projects.c.asleep_since_ms.is_not(None)
_AWAKE = Statement(select(*_PROJECT).where(_living, ~_asleep))
_SLEEPING = Statement(
    select(projects.c.serving_deployment_id, projects.c.id).where(_living, _asleep)
)
_of_project = purses.c.project_id == projects.c.id
_shares_wallet = func.coalesce(purses.c.shared, true())
_SHARING = Statement(
    select(func.count())
    .select_from(projects)
    .outerjoin(purses, _of_project)
    .where(
        *given(projects, "wallet"),
        _shares_wallet,
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
    _SUSPENDED.outerjoin(purses, _of_project).where(
        projects.c.wallet == bindparam("wallet"),
        _shares_wallet,
        projects.c.serving_deployment_id.is_not(None),
        projects.c.paused_at_ms.is_(None),  # only its owner ends this
    )
)
_SUSPENDED_ALONE = Statement(
    _SUSPENDED.where(
        _this,
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
_INSERT_PROJECT = insert_of(projects, Project)
_SET_PROJECT_STATUS = _set(
    _not_deleting,
    status=bindparam("new_status"),
    suspended_at_ms=null(),
    asleep_since_ms=null(),
    down_since_ms=null(),
    no_space_since_ms=null(),
)
_SUSPEND = _set(
    _not_deleting,
    status=ProjectStatus.SUSPENDED.value,
    suspended_at_ms=func.coalesce(projects.c.suspended_at_ms, bindparam("at_ms")),
    asleep_since_ms=null(),
    down_since_ms=null(),
)
_SET_PAUSED = _set(paused_at_ms=bindparam("at_ms"))
_LOSE = _set(_active, projects.c.lost_since_ms.is_(None), lost_since_ms=bindparam("at_ms"))
_REGAIN = _set(projects.c.lost_since_ms == bindparam("since_ms"), lost_since_ms=null())
_LOST_AND_OVER = Statement(
    select(*_PROJECT).where(
        projects.c.lost_since_ms.is_not(None),
        or_(
            projects.c.status != ProjectStatus.ACTIVE.value,
            projects.c.down_since_ms.is_(None),
        ),
    )
)
_FALL_ASLEEP = Statement(
    update(projects)
    .where(
        _this,
        _active,
        *given(projects, serving_deployment_id="serving"),
        projects.c.asleep_since_ms.is_(None),
        ~exists().where(
            deployments.c.project_id == projects.c.id,
            deployments.c.status.in_([status.value for status in UNDER_WAY]),
        ),
    )
    .values(asleep_since_ms=bindparam("at_ms"), down_since_ms=null())
)
_SLEEP_ON = _set(asleep_since_ms=bindparam("since_ms"))
_WAKE = _set(asleep_since_ms=null())
_SET_SERVING = _set(
    _not_deleting,
    status=ProjectStatus.ACTIVE.value,
    serving_deployment_id=bindparam("deployment_id"),
    asleep_since_ms=null(),
    down_since_ms=null(),
    no_space_since_ms=null(),
    volume_missing=false(),
    kind=bindparam("new_kind"),
)
_UNCERTIFIED = Statement(
    select(*_PROJECT).where(_living, projects.c.uncertified_since_ms.is_not(None))
)
_SERVED = Statement(select(*_PROJECT).where(_living, projects.c.serving_deployment_id.is_not(None)))
_SIZES = Statement(select(projects.c.size).where(_living).distinct())
_SET_UNCERTIFIED = _set(uncertified_since_ms=bindparam("since_ms"))
_SET_DELETED = Statement(
    update(projects)
    .where(_this, _living)
    .values(
        status=ProjectStatus.DELETED.value,
        serving_deployment_id=null(),
        deleted_at_ms=bindparam("at_ms"),
    )
)


async def by_id(source: Source, project_id: str) -> Project | None:
    """A project that is not deleted."""
    return await source.record(Project, _BY_ID, id=project_id)


async def living(source: Source, of: Project) -> Project:
    """Returns a project as it is now.

    Raises ProjectNotFound if it is deleted by now, or another wallet's.
    """
    current = await by_id(source, of.id)
    if current is None or current.wallet != of.wallet or current.status is ProjectStatus.DELETING:
        raise ProjectNotFound
    return current


async def by_name(source: Source, unique_name: str) -> Project | None:
    """The project that has this name."""
    return await source.record(Project, _BY_NAME, unique_name=unique_name)


async def is_deleted(db: Database, project_id: str) -> bool:
    """Whether this project existed and was deleted."""
    return await db.one(_IS_DELETED, id=project_id) is not None


async def of_wallet(source: Source, wallet: str) -> list[Project]:
    """The wallet's projects, oldest first."""
    return await source.records(Project, _OF_WALLET, wallet=wallet)


async def awake(source: Source) -> list[Project]:
    """Every project that is neither deleted nor asleep."""
    return await source.records(Project, _AWAKE)


async def sleeping(source: Source) -> dict[str, str]:
    """Returns the sleeping projects, by their serving deployment."""
    return {str(row[0]): str(row[1]) for row in await source.all(_SLEEPING)}


async def suspended_of_wallet(source: Source, wallet: str) -> list[Project]:
    """Returns the projects that a wallet's credits would resume, the longest suspended first."""
    return await source.records(Project, _SUSPENDED_OF_WALLET, wallet=wallet)


async def suspended_alone(source: Source, project_id: str) -> list[Project]:
    """Returns a project if credits of its own would resume it."""
    return await source.records(Project, _SUSPENDED_ALONE, project_id=project_id)


async def suspended_until(db: Database, *, until_ms: int) -> list[Project]:
    """Returns projects out of credits, or paused, since `until_ms`, in billed time, or longer."""
    return await db.records(Project, _SUSPENDED_UNTIL, until_ms=until_ms)


async def failed_until(db: Database, *, until_ms: int) -> list[Project]:
    """Returns projects that never served and whose last deployment failed by `until_ms`."""
    return await db.records(Project, _FAILED_UNTIL, until_ms=until_ms)


async def sharing_credits(source: Source, wallet: str) -> int:
    """Returns how many projects share the wallet's credits: the contract's `active_projects`."""
    return await source.number(_SHARING, wallet=wallet)


async def add(tx: Transaction, project: Project) -> None:
    """Stores a new project. Raises UniqueViolation when the name is taken."""
    await names.take(
        tx, wallet=project.wallet, unique_name=project.unique_name, now_ms=project.created_at_ms
    )
    await tx.execute(_INSERT_PROJECT, **msgspec.structs.asdict(project))


async def set_status(tx: Transaction, project_id: str, status: ProjectStatus) -> bool:
    """Changes a project's status; returns False when it is being deleted."""
    return await tx.execute(_SET_PROJECT_STATUS, project_id=project_id, new_status=status) == 1


async def suspend(tx: Transaction, project_id: str, *, at_ms: int) -> None:
    """Suspends a project at this billed time, unless it is suspended or being deleted."""
    await tx.execute(_SUSPEND, project_id=project_id, at_ms=at_ms)


async def set_paused(tx: Transaction, project_id: str, *, at_ms: int | None) -> None:
    """Notes since when its owner has a project paused; None: no longer."""
    await tx.execute(_SET_PAUSED, project_id=project_id, at_ms=at_ms)


async def fall_asleep(tx: Transaction, project_id: str, *, serving: str, at_ms: int) -> bool:
    """Marks an active project as asleep.

    Returns False when it is asleep already, another deployment serves, or one is under way.
    """
    return await tx.execute(_FALL_ASLEEP, project_id=project_id, serving=serving, at_ms=at_ms) == 1


async def sleep_on(tx: Transaction, project_id: str, *, since_ms: int) -> None:
    """Marks a project as asleep that was: a suspension was taken back."""
    await tx.execute(_SLEEP_ON, project_id=project_id, since_ms=since_ms)


async def wake(tx: Transaction, project_id: str) -> None:
    """Marks a project as awake, whether or not it was asleep."""
    await tx.execute(_WAKE, project_id=project_id)


async def set_serving(
    tx: Transaction, project_id: str, deployment_id: str, *, kind: Kind = Kind.WEB
) -> bool:
    """Makes a deployment the serving one; returns False when the project is being deleted."""
    touched = await tx.execute(
        _SET_SERVING, project_id=project_id, deployment_id=deployment_id, new_kind=kind
    )
    return touched == 1


async def served(source: Source) -> list[Project]:
    """Returns the projects that serve or have served, also asleep or suspended."""
    return await source.records(Project, _SERVED)


async def sizes(source: Source) -> set[str]:
    """Returns the sizes that projects have."""
    return {str(row[0]) for row in await source.all(_SIZES)}


async def uncertified(source: Source) -> list[Project]:
    """Returns the projects that are served over plain HTTP, as they have no certificate."""
    return await source.records(Project, _UNCERTIFIED)


async def set_uncertified(tx: Transaction, project_id: str, *, since_ms: int | None) -> None:
    """Notes since when a project has no certificate; None: it has one."""
    await tx.execute(_SET_UNCERTIFIED, project_id=project_id, since_ms=since_ms)


async def set_deleted(tx: Transaction, project_id: str, *, at_ms: int) -> bool:
    """Marks a project as deleted and frees its name; returns False when it was deleted before."""
    if await tx.execute(_SET_DELETED, project_id=project_id, at_ms=at_ms) != 1:
        return False
    await names.free(tx, project_id)
    return True


"""How many ids one query takes."""


class ProjectQuery(NamedTuple):
    """Which projects of a wallet are listed; by itself all of them."""

    wallet: str
    text: str = ""  # a part of the name or the title
    status: str = ""
    ids: tuple[str, ...] = ()  # these alone, MAX_IDS at most; of none all


class Place(NamedTuple):
    """A project's place in the list, which is sorted by this."""

    created_at_ms: int
    id: str


NEWEST = Place(2**62, "")
"""The place that all others come before."""


def _holds(column: ColumnElement[str]) -> ColumnElement[bool]:
    """Returns whether a text is in a column; both folded by the database."""
    pattern = func.lower(bindparam("pattern", type_=Text))
    return func.lower(column).like(pattern, escape="\\")


_wanted = (
    projects.c.wallet == bindparam("wallet"),
    projects.c.deleted_at_ms.is_(None),
    or_(bindparam("status") == "", projects.c.status == bindparam("status")),
    or_(
        bindparam("pattern", type_=Text) == "%%",
        _holds(projects.c.unique_name),
        _holds(projects.c.display_name),
    ),
)
_has_id = is_listed(projects.c.id)
_comes_before = or_(
    projects.c.created_at_ms < bindparam("before_ms"),
    and_(*given(projects, created_at_ms="before_ms"), projects.c.id < bindparam("before_id")),
)


def _page(*narrowed: ColumnElement[bool]) -> Statement:
    return Statement(
        select(*columns_of(projects, Project))
        .where(*_wanted, *narrowed, _comes_before)
        .order_by(projects.c.created_at_ms.desc(), projects.c.id.desc())
        .limit(bindparam("limit"))
    )


def _count(*narrowed: ColumnElement[bool]) -> Statement:
    return Statement(select(func.count()).select_from(projects).where(*_wanted, *narrowed))


_PAGE, _PAGE_OF_IDS = _page(), _page(_has_id)
_COUNT, _COUNT_OF_IDS = _count(), _count(_has_id)


async def project_page(
    source: Source, query: ProjectQuery, *, before: Place = NEWEST, limit: int
) -> list[Project]:
    """Returns the newest `limit` of the projects that come before a place, oldest first."""
    found = await source.records(
        Project,
        _PAGE_OF_IDS if query.ids else _PAGE,
        before_ms=before.created_at_ms,
        before_id=before.id,
        limit=limit,
        **_values(query),
    )
    return found[::-1]


async def count_projects(source: Source, query: ProjectQuery) -> int:
    """Returns how many projects a query finds on all pages."""
    return await source.number(_COUNT_OF_IDS if query.ids else _COUNT, **_values(query))


def _values(query: ProjectQuery) -> dict[str, Any]:
    ids = listed(query.ids) if query.ids else {}
    return {
        "wallet": query.wallet,
        "status": query.status,
        "pattern": pattern_of(query.text),
        **ids,
    }


async def lose(tx: Transaction, project_id: str, *, at_ms: int) -> None:
    """Records since when an app is down by the machine's fault, unless that is recorded."""
    await tx.execute(_LOSE, project_id=project_id, at_ms=at_ms)


async def regain(tx: Transaction, project_id: str, *, since_ms: int) -> bool:
    """Records that it is not any more; returns False if that is recorded."""
    return await tx.execute(_REGAIN, project_id=project_id, since_ms=since_ms) == 1


async def lost_and_over(source: Source) -> list[Project]:
    """Returns projects that were lost, and are suspended, deleted or not down by now."""
    return await source.records(Project, _LOST_AND_OVER)
