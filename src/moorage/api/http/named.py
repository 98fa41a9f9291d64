"""Projects and deployments as paths name them: by id, a project's name, or `latest`."""

from moorage.errors import DeploymentNotFound, ProjectNotFound, WrongWallet
from moorage.records.deployment import DeploymentView
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database
from moorage.uploads.request import NAME_PATTERN

LATEST = "latest"
_GONE = (ProjectStatus.DELETING, ProjectStatus.DELETED)


async def named_project(db: Database, named: str, *, wallet: str) -> Project:
    """Returns the wallet's project of this id or name.

    Raises ProjectNotFound, for another wallet's name too: names tell nobody whose they are; and
    WrongWallet for another wallet's id.
    """
    found = await projects.by_id(db, named)
    if found is None:
        found = await projects.by_name(db, named.lower())
        if found is None or found.wallet != wallet:
            raise ProjectNotFound
    if found.wallet != wallet:
        raise WrongWallet
    return found


async def named_deployment(db: Database, named: str, *, project: Project) -> str:
    """Returns the id that `named` is, or stands for. Raises DeploymentNotFound."""
    if named != LATEST:
        return named
    newest = await deployments.release_page(db, project_id=project.id, before=None, limit=1)
    if not newest:
        raise DeploymentNotFound
    return newest[0].id


async def viewed_deployment(
    db: Database, *, project: str, deployment: str, wallet: str
) -> DeploymentView:
    """Returns the wallet's deployment, with one read where both are ids.

    Raises DeploymentNotFound, ProjectNotFound and WrongWallet.
    """
    if deployment == LATEST or NAME_PATTERN.fullmatch(project.lower()):
        owned = await named_project(db, project, wallet=wallet)
        deployment = await named_deployment(db, deployment, project=owned)
        project = owned.id
    found = await deployments.view(db, deployment)
    if found is None or found.project_id != project:
        raise DeploymentNotFound
    if found.project_status in _GONE:
        raise ProjectNotFound
    if found.wallet != wallet:
        raise WrongWallet
    return found
