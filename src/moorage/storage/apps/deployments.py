"""Queries over deployments: their states, their files, the engine they are on, their restarts."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import (
    BindParameter,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from moorage.errors import DeploymentNotFound, FailureCause
from moorage.records.deployment import (
    TRANSITIONS,
    UNDER_WAY,
    Deployment,
    DeploymentStatus,
    DeploymentView,
    ReleaseStep,
    Summary,
)
from moorage.records.project import ProjectStatus
from moorage.storage.database import (
    Database,
    Source,
    Statement,
    Transaction,
    columns_of,
    given,
    insert_of,
    record_of,
)
from moorage.storage.schema import deployments, projects, restarts

_END_OF_TIME_MS = 2**63 - 1

_over = deployments.c.is_kept & deployments.c.status.in_(
    [DeploymentStatus.SUPERSEDED.value, DeploymentStatus.FAILED.value]
)
_KEPT = Statement(select(deployments.c.id, deployments.c.status).where(_over))
_ended_at_ms = func.coalesce(deployments.c.superseded_at_ms, deployments.c.ended_at_ms)
_given_up = deployments.c.reason_code.in_(
    [FailureCause.SUPERSEDED.value, FailureCause.CANCELLED.value]
)
"""Ended by the owner: counted apart, so that these do not displace the logs of failures."""
_RANKED = (
    select(
        deployments.c.id,
        func.row_number()
        .over(
            partition_by=(deployments.c.project_id, deployments.c.status, _given_up),
            order_by=(_ended_at_ms.desc(), deployments.c.created_at_ms.desc(), deployments.c.id),
        )
        .label("rank"),
    )
    .where(_over)
    .subquery()
)
_SURPLUS = Statement(select(_RANKED.c.id).where(_RANKED.c.rank > bindparam("keep")))
_copies = deployments.alias()
_COLLECT = Statement(
    update(deployments)
    .where(
        *given(deployments, id="deployment_id"),
        _over,
        ~exists().where(
            _copies.c.copy_of == deployments.c.id,
            _copies.c.status.in_([status.value for status in UNDER_WAY]),
        ),
    )
    .values(is_kept=False, log_tail="", variables="")
)
_LATEST = Statement(
    select(deployments.c.id)
    .where(
        *given(deployments, "project_id"),
        deployments.c.status == DeploymentStatus.SUPERSEDED.value,
        deployments.c.is_kept,
    )
    .order_by(_ended_at_ms.desc(), deployments.c.created_at_ms.desc(), deployments.c.id)
    .limit(1)
)
_SUMMARY = columns_of(deployments, Summary)
_PLACE = Statement(
    select(deployments.c.created_at_ms).where(*given(deployments, "id", "project_id"))
)
_ONE = Statement(
    select(*_SUMMARY, deployments.c.superseded_at_ms).where(*given(deployments, "id", "project_id"))
)
_PAGE = Statement(
    select(*_SUMMARY)
    .where(
        *given(deployments, "project_id"),
        (deployments.c.created_at_ms < bindparam("before_ms"))
        | (
            (deployments.c.created_at_ms == bindparam("before_ms"))
            & (deployments.c.id < bindparam("before_id"))
        ),
    )
    .order_by(deployments.c.created_at_ms.desc(), deployments.c.id.desc())
    .limit(bindparam("limit"))
)


async def kept_releases(source: Source) -> dict[str, DeploymentStatus]:
    """Returns every kept deployment that is superseded or failed."""
    return {row[0]: DeploymentStatus(row[1]) for row in await source.all(_KEPT)}


async def surplus_releases(db: Database, *, keep: int) -> list[str]:
    """Returns kept ones beyond each project's latest `keep` superseded, failed and given up."""
    return [row[0] for row in await db.all(_SURPLUS, keep=keep)]


async def collect_releases(tx: Transaction, deployment_id: str) -> bool:
    """Marks a deployment as not kept; returns False when it is not over, or is being copied."""
    return await tx.execute(_COLLECT, deployment_id=deployment_id) == 1


async def latest_release(tx: Transaction, project_id: str) -> str | None:
    """Returns the kept release of a project that was replaced last."""
    return await tx.value(_LATEST, project_id=project_id)


async def release_page(
    db: Database, *, project_id: str, before: str | None, limit: int
) -> list[Summary] | None:
    """Returns at most `limit` of a project's deployments older than `before`, newest first.

    Without `before`, it begins with the newest. Returns None when `before` does not exist.
    """
    before_ms = _END_OF_TIME_MS
    if before is not None:
        place = await db.one(_PLACE, id=before, project_id=project_id)
        if place is None:
            return None
        before_ms = place[0]
    return await db.records(
        Summary,
        _PAGE,
        project_id=project_id,
        before_ms=before_ms,
        before_id=before or "",
        limit=limit,
    )


async def release(
    db: Database, deployment_id: str, *, project_id: str
) -> tuple[Summary, int | None]:
    """Returns a deployment of a project, and when a later one replaced it.

    Raises DeploymentNotFound.
    """
    row = await db.one(_ONE, id=deployment_id, project_id=project_id)
    if row is None:
        raise DeploymentNotFound
    return record_of(Summary, row[:-1]), row[-1]


_serving = deployments.alias("serving")
_later = deployments.alias("later")
_living = projects.c.deleted_at_ms.is_(None)

_NOTE = Statement(
    update(deployments)
    .where(*given(deployments, id="deployment_id"))
    .values(engine=bindparam("on"))
)
_SERVING = Statement(
    select(projects.c.unique_name, projects.c.wallet, _serving.c.engine)
    .join_from(projects, _serving, _serving.c.id == projects.c.serving_deployment_id)
    .where(_living)
    .order_by(projects.c.unique_name)
)
_PLANS = Statement(
    select(_serving.c.plan)
    .join_from(projects, _serving, _serving.c.id == projects.c.serving_deployment_id)
    .where(_living)
)
# What was begun on another engine than the one that serves, oldest first.
_BEGUN = Statement(
    select(projects.c.unique_name, _later.c.status, _later.c.reason)
    .join_from(projects, _serving, _serving.c.id == projects.c.serving_deployment_id)
    .join(_later, _later.c.project_id == projects.c.id)
    .where(
        _living,
        _later.c.engine.not_in(["", _serving.c.engine]),
        _later.c.created_at_ms > _serving.c.created_at_ms,
    )
    .order_by(_later.c.created_at_ms, _later.c.id)
)


class Placed(NamedTuple):
    """A project that serves, and the engine that its app is on."""

    name: str
    wallet: str
    engine: str  # "" if it is not noted yet
    move: DeploymentStatus | None = None  # where its latest move stands, if there was one
    reason: str = ""  # why that failed


async def placed(db: Database) -> list[Placed]:
    """Returns every project that serves, by name."""
    begun = {row[0]: row for row in await db.all(_BEGUN)}
    found = []
    for name, wallet, engine in await db.all(_SERVING):
        _, status, reason = begun.get(name, ("", None, None))
        move = None if status is None else DeploymentStatus(status)
        found.append(Placed(name, wallet, engine, move, reason or ""))
    return found


async def serving_plans(db: Database) -> list[str]:
    """Returns the plan of each project that serves, as its row holds it."""
    return [row[0] for row in await db.all(_PLANS)]


async def note_engine(tx: Transaction, deployment_ids: Collection[str], engine: str) -> None:
    """Notes the engine that has these deployments."""
    for deployment_id in deployment_ids:
        await tx.execute(_NOTE, deployment_id=deployment_id, on=engine)


_IN_USE = Statement(
    select(deployments.c.plan)
    .where(
        or_(
            and_(deployments.c.is_kept, deployments.c.status != DeploymentStatus.FAILED),
            deployments.c.status.in_([s.value for s in UNDER_WAY]),
        )
    )
    .distinct()
)


class _Plan(msgspec.Struct):
    """The part of a `planning.plan.Plan` that is read here."""

    toolchains: dict[str, str] = {}


async def toolchains_in_use(db: Database) -> set[tuple[str, str]]:
    """Returns program and version of each toolchain that a deployment uses, or may use again."""
    found: set[tuple[str, str]] = set()
    for (plan,) in await db.all(_IN_USE):
        found.update(msgspec.json.decode(plan, type=_Plan).toolchains.items())
    return found


_FORGET = Statement(
    delete(restarts).where(
        or_(
            restarts.c.deployment_id == bindparam("of_deployment"),
            restarts.c.last_ms < bindparam("before_ms"),
        )
    )
)
_KEEP = Statement(
    insert(restarts).values(
        deployment_id=bindparam("deployment_id"),
        last_ms=bindparam("last_ms"),
        history=bindparam("history"),
    )
)
_RESTARTS_SINCE = Statement(
    select(restarts.c.deployment_id, restarts.c.history).where(
        restarts.c.last_ms >= bindparam("since_ms")
    )
)

_SET_DOWN = Statement(
    update(projects)
    .where(
        *given(projects, id="project_id", serving_deployment_id="serving"),
        projects.c.status == ProjectStatus.ACTIVE.value,
        projects.c.asleep_since_ms.is_(None),
    )
    .values(down_since_ms=bindparam("since_ms"))
)
_OF = Statement(select(restarts.c.history).where(*given(restarts, "deployment_id")))


async def restarts_of(source: Source, deployment_id: str) -> str | None:
    """Returns the restart history of a deployment, if it was restarted recently."""
    return await source.value(_OF, deployment_id=deployment_id)


async def store_restarts(
    tx: Transaction, deployment_id: str, *, last_ms: int, history: str, before_ms: int
) -> None:
    """Stores a restart history; removes those whose last restart was before `before_ms`."""
    await tx.execute(_FORGET, of_deployment=deployment_id, before_ms=before_ms)
    await tx.execute(_KEEP, deployment_id=deployment_id, last_ms=last_ms, history=history)


async def restarted_since(db: Database, since_ms: int) -> Sequence[tuple[str, str]]:
    """Returns deployment and history of apps restarted at `since_ms` or later."""
    return [(row[0], row[1]) for row in await db.all(_RESTARTS_SINCE, since_ms=since_ms)]


async def set_down(tx: Transaction, project_id: str, *, serving: str, since_ms: int | None) -> None:
    """Records since when this app should run and does not; None if it runs."""
    await tx.execute(_SET_DOWN, project_id=project_id, serving=serving, since_ms=since_ms)


_DEPLOYMENT = columns_of(deployments, Deployment)

_INSERT = insert_of(deployments, Deployment)
_BY_ID = Statement(select(*_DEPLOYMENT).where(*given(deployments, "id")))
_VIEW = Statement(
    select(
        deployments.c.id,
        deployments.c.project_id,
        deployments.c.status,
        deployments.c.note,
        deployments.c.reason,
        deployments.c.reason_code,
        deployments.c.log_tail,
        deployments.c.advice,
        projects.c.wallet,
        projects.c.unique_name,
        projects.c.status,
        projects.c.serving_deployment_id,
        projects.c.blocked_reason,
        projects.c.no_space_since_ms,
        projects.c.paused_at_ms,
        projects.c.down_since_ms,
        projects.c.monthly_price_micro_usd,
        deployments.c.is_kept,
        deployments.c.findings,
        projects.c.volume,
        projects.c.volume_after,
        projects.c.kind,
        deployments.c.release_step,
    )
    .join_from(deployments, projects)
    .where(*given(deployments, "id"))
)
_REPLAN = Statement(
    update(deployments)
    .where(*given(deployments, id="deployment_id"))
    .values(plan=bindparam("new_plan"))
)
_RELEASE = Statement(
    update(deployments)
    .where(deployments.c.id == bindparam("deployment_id"))
    .values(release_step=bindparam("new_step"))
)
_INSTALLED = Statement(
    select(deployments.c.plan)
    .where(
        *given(deployments, "project_id"),
        deployments.c.copy_of.is_(None),
        or_(
            deployments.c.status.in_(
                [DeploymentStatus.READY.value, DeploymentStatus.SUPERSEDED.value]
            ),
            deployments.c.reason_code.in_(
                [
                    FailureCause.BUILD_FAILED.value,
                    FailureCause.CRASHED.value,
                    FailureCause.PORT_NOT_BOUND.value,
                    FailureCause.UNHEALTHY.value,
                ]
            ),
        ),
    )
    .order_by(deployments.c.created_at_ms.desc())
    .limit(1)
)
_OF_PROJECT = Statement(
    select(*_DEPLOYMENT)
    .where(*given(deployments, "project_id"))
    .order_by(deployments.c.created_at_ms.desc(), deployments.c.id)
)
_under_way = select(*_DEPLOYMENT).where(
    deployments.c.status.in_([status.value for status in UNDER_WAY])
)
_UNDER_WAY = Statement(_under_way)
_UNDER_WAY_OF = Statement(_under_way.where(*given(deployments, "project_id")))
_FAILED_SINCE = Statement(
    select(deployments.c.id)
    .where(
        deployments.c.status == DeploymentStatus.FAILED.value,
        deployments.c.ended_at_ms >= bindparam("since_ms"),
    )
    .order_by(deployments.c.id)
)
_STARTING_OF = Statement(
    select(deployments.c.id)
    .where(
        *given(deployments, "project_id"), deployments.c.status == DeploymentStatus.DEPLOYING.value
    )
    .limit(1)
)
_SINCE: dict[DeploymentStatus, dict[str, BindParameter[int]]] = {
    DeploymentStatus.SUPERSEDED: {"superseded_at_ms": bindparam("at_ms")}
}
_MOVE: dict[DeploymentStatus, Statement] = {
    target: Statement(
        update(deployments)
        .where(
            *given(deployments, id="deployment_id"),
            deployments.c.status.in_(
                [origin.value for origin, targets in TRANSITIONS.items() if target in targets]
            ),
        )
        .values(
            status=target.value,
            note=func.coalesce(bindparam("new_note"), deployments.c.note),
            reason=bindparam("new_reason"),
            reason_code=bindparam("new_reason_code"),
            advice=func.coalesce(bindparam("new_advice"), deployments.c.advice),
            log_tail=func.coalesce(bindparam("new_log_tail"), deployments.c.log_tail),
            ended_at_ms=func.coalesce(deployments.c.ended_at_ms, bindparam("at_ms")),
            **_SINCE.get(target, {}),
        )
    )
    for target in DeploymentStatus
    if target is not DeploymentStatus.QUEUED
}


async def add(tx: Transaction, deployment: Deployment) -> None:
    """Stores a new deployment."""
    await tx.execute(_INSERT, **msgspec.structs.asdict(deployment))


async def by_id(source: Source, deployment_id: str) -> Deployment | None:
    """One deployment."""
    return await source.record(Deployment, _BY_ID, id=deployment_id)


async def view(db: Database, deployment_id: str) -> DeploymentView | None:
    """Returns a deployment with its project, deleted or not, in one read, as clients poll it."""
    return await db.record(DeploymentView, _VIEW, id=deployment_id)


async def of_project(source: Source, project_id: str) -> Sequence[Deployment]:
    """A project's deployments, newest first."""
    return await source.records(Deployment, _OF_PROJECT, project_id=project_id)


async def under_way(source: Source) -> Sequence[Deployment]:
    """Returns every deployment that is neither ready nor over."""
    return await source.records(Deployment, _UNDER_WAY)


async def under_way_of(source: Source, project_id: str) -> list[Deployment]:
    """Returns a project's deployments that are neither ready nor over: at most one."""
    return await source.records(Deployment, _UNDER_WAY_OF, project_id=project_id)


async def failed_since(db: Database, since_ms: int) -> list[str]:
    """Returns the ids of deployments that failed, or were ended, since then."""
    return [row[0] for row in await db.all(_FAILED_SINCE, since_ms=since_ms)]


async def is_starting(db: Database, project_id: str) -> bool:
    """Whether a deployment of this project is built and about to serve its address."""
    return await db.one(_STARTING_OF, project_id=project_id) is not None


async def move(
    tx: Transaction,
    deployment_id: str,
    status: DeploymentStatus,
    *,
    note: str | None = None,
    reason: str | None = None,
    reason_code: str | None = None,
    advice: str | None = None,
    log_tail: str | None = None,
    at_ms: int | None = None,
) -> bool:
    """Changes a deployment's status if the transition is legal; returns whether it did."""
    touched = await tx.execute(
        _MOVE[status],
        deployment_id=deployment_id,
        new_note=note,
        new_reason=reason,
        new_reason_code=reason_code,
        new_advice=advice,
        new_log_tail=log_tail,
        at_ms=at_ms,
    )
    return touched == 1


async def installed_plan(source: Source, project_id: str) -> str | None:
    """Returns the plan, as JSON, of the project's latest upload whose install succeeded."""
    row = await source.one(_INSTALLED, project_id=project_id)
    return row[0] if row else None


async def replan(tx: Transaction, deployment_id: str, plan: str) -> None:
    """Replaces the plan of a deployment that is being built."""
    await tx.execute(_REPLAN, deployment_id=deployment_id, new_plan=plan)


async def note_release(tx: Transaction, deployment_id: str, step: ReleaseStep) -> None:
    """Stores how far the release command of a deployment has come."""
    await tx.execute(_RELEASE, deployment_id=deployment_id, new_step=step)
