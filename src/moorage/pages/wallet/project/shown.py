"""A project's first page: its address and state, what is under way, and what can be done to it."""

from starlette.responses import Response

from moorage.money import MICRO_USD_PER_USD, MicroUsd
from moorage.pages.wallet.view import View
from moorage.wire.deployments import DeploymentList, DeploymentProgress
from moorage.wire.projects import ProjectShown

_DEPLOYMENTS_SHOWN = 5


async def project_of(view: View) -> ProjectShown:
    """Returns the project that the page's address names. Raises ApiRefused."""
    return await view.api.get(ProjectShown, "projects", view.project_id)


async def show_project(view: View) -> Response:
    """`GET /wallet/projects/{project_id}`."""
    project = await project_of(view)
    newest = await view.api.get(
        DeploymentList, "projects", project.id, "deployments", limit=_DEPLOYMENTS_SHOWN
    )
    progress = None
    if newest.deployments:
        latest = newest.deployments[0].id
        progress = await view.api.get(DeploymentProgress, "deploy", project.id, latest, "status")
    return view.page(
        "wallet/project/shown.html",
        project=project,
        deployments=newest.deployments,
        progress=progress,
        burns=project.burn_per_hour_usd > 0,
        an_hour=MicroUsd(round(project.price_per_hour_usd * MICRO_USD_PER_USD)),
    )
