"""Queries over how projects are configured: their names, health paths and sealed variables."""

from collections.abc import Callable, Sequence

from sqlalchemy import bindparam, func, null, select, union, update

from moorage.storage.database import Database, Statement, Transaction, substring
from moorage.storage.schema import deployments, projects

_DESCRIBE = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(
        display_name=func.coalesce(bindparam("new_display_name"), projects.c.display_name),
        description=func.coalesce(bindparam("new_description"), projects.c.description),
    )
)
_CONFIGURE = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(variables=bindparam("new_variables"), health_path=bindparam("new_health_path"))
)
_GIVE_VOLUME = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"), ~projects.c.volume)
    .values(volume=True, volume_after=projects.c.serving_deployment_id)
)
_GIVE_EMPTY_VOLUME = Statement(
    update(projects)
    .where(projects.c.id == bindparam("project_id"))
    .values(volume=True, volume_after=null())
)
_CONFIGURE_DEPLOYMENT = Statement(
    update(deployments)
    .where(deployments.c.id == bindparam("deployment_id"))
    .values(variables=bindparam("new_variables"), health_path=bindparam("new_health_path"))
)
_FORGET = [
    Statement(update(table).where(column == bindparam("of_project")).values(variables=""))
    for table, column in ((projects, projects.c.id), (deployments, deployments.c.project_id))
]
_MARKS = Statement(
    union(
        *(
            select(substring(table.c.variables, 1, bindparam("length")))
            .where(table.c.variables != "")
            .distinct()
            for table in (projects, deployments)
        )
    )
)
_SEALED_OTHERWISE = {
    table.name: Statement(
        select(table.c.id, projects.c.id, table.c.variables)
        .select_from(table if table is projects else table.join(projects))
        .where(
            table.c.variables != "",
            substring(table.c.variables, 1, bindparam("length")) != bindparam("mark"),
        )
    )
    for table in (projects, deployments)
}
_RESEAL = {
    table.name: Statement(
        update(table)
        .where(table.c.id == bindparam("row_id"))
        .values(variables=bindparam("new_variables"))
    )
    for table in (projects, deployments)
}


async def describe(
    tx: Transaction, project_id: str, *, display_name: str | None, description: str | None
) -> None:
    """Changes a project's display name and description; None leaves one unchanged."""
    await tx.execute(
        _DESCRIBE,
        project_id=project_id,
        new_display_name=display_name,
        new_description=description,
    )


async def configure(tx: Transaction, project_id: str, *, variables: str, health_path: str) -> None:
    """Sets the variables and health path of the project's next deployment."""
    await tx.execute(
        _CONFIGURE, project_id=project_id, new_variables=variables, new_health_path=health_path
    )


async def give_volume(tx: Transaction, project_id: str, *, is_empty: bool = False) -> None:
    """Gives the project a volume, if it has none: what serves now runs on without it.

    It begins with what that has written, unless it `is_empty`.
    """
    await tx.execute(_GIVE_EMPTY_VOLUME if is_empty else _GIVE_VOLUME, project_id=project_id)


async def configure_deployment(
    tx: Transaction, deployment_id: str, *, variables: str, health_path: str
) -> None:
    """Sets the variables and health path of a deployment that has not been started yet."""
    await tx.execute(
        _CONFIGURE_DEPLOYMENT,
        deployment_id=deployment_id,
        new_variables=variables,
        new_health_path=health_path,
    )


async def forget(tx: Transaction, project_id: str) -> None:
    """Removes the variables of a project and of all its deployments."""
    for statement in _FORGET:
        await tx.execute(statement, of_project=project_id)


async def marks(db: Database, *, length: int) -> Sequence[str]:
    """Returns the distinct first `length` characters of all sealed variables."""
    return [row[0] for row in await db.all(_MARKS, length=length)]


async def reseal(tx: Transaction, *, mark: str, anew: Callable[[str, str], str]) -> int:
    """Replaces texts that do not begin with `mark` by `anew(text, project_id)`; counts them."""
    changed = 0
    for table, statement in _SEALED_OTHERWISE.items():
        for row_id, project_id, text in await tx.all(statement, mark=mark, length=len(mark)):
            await tx.execute(_RESEAL[table], row_id=row_id, new_variables=anew(text, project_id))
            changed += 1
    return changed
