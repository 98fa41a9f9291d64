"""What can be done to a project at a press of a button."""

from starlette.responses import Response

from moorage.pages.wallet.project.shown import project_of
from moorage.pages.wallet.view import View
from moorage.wire.credits import Credits
from moorage.wire.deploy import Deployed
from moorage.wire.deployments import Cancelled
from moorage.wire.projects import (
    ManageTokensRevoked,
    ProjectChanged,
    ProjectDeleted,
)


async def restart(view: View) -> Response:
    """`POST …/restart`: start the app anew."""
    begun = await view.api.change(
        ProjectChanged, "PATCH", "projects", view.project_id, body={"restart": True}
    )
    return _to_deployment(view, begun.deployment_id or "latest", "restarting")


async def pause(view: View) -> Response:
    """`POST …/pause`: stop the app, which burns nothing from then on."""
    return await _set_paused(view, paused=True)


async def resume(view: View) -> Response:
    """`POST …/resume`: start the app again that its owner stopped."""
    return await _set_paused(view, paused=False)


async def roll_back(view: View) -> Response:
    """`POST …/rollback`: serve an earlier version again, by default the one before this."""
    wanted = view.form.get("deployment")
    body = {"deploymentId": wanted} if wanted else {}
    begun = await view.api.change(
        Deployed, "POST", "projects", view.project_id, "rollback", body=body
    )
    return _to_deployment(view, begun.deployment_id, "rolling-back")


async def cancel(view: View) -> Response:
    """`POST …/deployments/{deployment_id}/cancel`: end a deployment that is under way."""
    deployment = view.request.path_params["deployment_id"]
    await view.api.change(Cancelled, "POST", "deploy", view.project_id, deployment, "cancel")
    return _to_deployment(view, deployment, "cancelled")


async def revoke_tokens(view: View) -> Response:
    """`POST …/settings/revoke-tokens`: no manage token of the project is valid any more."""
    api = await view.confirmed(
        f"Revoke all manage tokens of the project {view.project_id}.",
        sentence="Please revoke all manage tokens of the project: "
        f"DELETE /agent/projects/{view.project_id}/tokens",
    )
    await api.change(ManageTokensRevoked, "DELETE", "projects", view.project_id, "tokens")
    return view.redirect(f"/wallet/projects/{view.project_id}/settings", "tokens-revoked")


async def ask_to_delete(view: View) -> Response:
    """`GET …/delete`: what would be lost, and what stays."""
    project = await project_of(view)
    account = await view.api.get(Credits, "credits", limit=1) if view.sees_wallet else None
    return view.page(
        "wallet/project/delete.html", project=project, account=account, wrong_name=False
    )


async def delete(view: View) -> Response:
    """`POST …/delete`: stop the app and forget the project, once its name was typed."""
    project = await project_of(view)
    if view.form.get("name", "").strip() != project.name:
        return view.page(
            "wallet/project/delete.html",
            status=400,
            project=project,
            account=None,
            wrong_name=True,
        )
    api = await view.confirmed(
        f"Delete the project {project.name} ({project.id}) with its files for good.",
        sentence=f"Please run `moorage delete {project.name}`: the project is to be deleted.",
    )
    await api.change(ProjectDeleted, "DELETE", "projects", project.id)
    return view.redirect("/wallet", "deleted")


async def _set_paused(view: View, *, paused: bool) -> Response:
    body = {"paused": paused}
    await view.api.change(ProjectChanged, "PATCH", "projects", view.project_id, body=body)
    told = "paused" if paused else "resumed"
    return view.redirect(f"/wallet/projects/{view.project_id}", told)


def _to_deployment(view: View, deployment_id: str, told: str) -> Response:
    return view.redirect(f"/wallet/projects/{view.project_id}/deployments/{deployment_id}", told)
