"""A copy of the whole database at one moment, and which apps and volumes belong to it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import select

from moorage.errors import DatabaseUnavailable
from moorage.records.deployment import DeploymentStatus
from moorage.storage.database import Database, Statement
from moorage.storage.schema import deployments, projects

_living = projects.c.deleted_at_ms.is_(None)
_APPS = Statement(
    select(deployments.c.id)
    .join_from(deployments, projects)
    .where(
        _living,
        deployments.c.is_kept,
        deployments.c.status.in_([DeploymentStatus.READY.value, DeploymentStatus.SUPERSEDED.value]),
    )
    .order_by(deployments.c.created_at_ms, deployments.c.id)
)
_VOLUMES = Statement(
    select(projects.c.id).where(_living, projects.c.volume).order_by(projects.c.id)
)


def copy_database(source: Path, target: Path) -> None:
    """Copies a database that others may be writing to, without blocking them.

    Raises DatabaseUnavailable.
    """
    try:
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as reading,
            closing(sqlite3.connect(target)) as writing,
        ):
            reading.backup(writing)  # all pages at once: one read transaction
    except sqlite3.Error as error:
        raise DatabaseUnavailable(f"{source} cannot be copied: {error}.") from error


async def apps(db: Database) -> Sequence[str]:
    """Returns the deployments that serve or can be served again."""
    return [row[0] for row in await db.all(_APPS)]


async def volumes(db: Database) -> Sequence[str]:
    """Returns the projects that have a volume."""
    return [row[0] for row in await db.all(_VOLUMES)]
