"""A project's settings: its title, how its health is asked, its volume, its tokens, its copies."""

from typing import Any

from msgspec import UNSET
from starlette.responses import Response

from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.project.shown import project_of
from moorage.pages.wallet.view import View
from moorage.wire.projects import ExportItem, ProjectChanged


async def show_settings(view: View) -> Response:
    """`GET …/settings`."""
    return await _shown(view)


async def change_settings(view: View) -> Response:
    """`POST …/settings`: change title, description and health path, or add a volume."""
    form = view.form
    body: dict[str, Any] = {
        field: form[name].strip()
        for name, field in (("title", "displayName"), ("health", "healthPath"))
        if form.get(name, "").strip()
    }
    if "description" in form:
        body["description"] = form["description"].strip()
    if form.get("volume") == "true":
        body["volume"] = True
    try:
        changed = await view.api.change(
            ProjectChanged, "PATCH", "projects", view.project_id, body=body
        )
    except ApiRefused as refused:
        return await _shown(view, error=refused.problem.error)
    restarts = changed.deployment_id is not UNSET
    told = "saved-restarting" if restarts else "saved"
    return view.redirect(f"/wallet/projects/{view.project_id}/settings", told)


async def export(view: View) -> Response:
    """`POST …/settings/export`: make an archive of the project, or show the one there is."""
    try:
        made = await view.api.change(
            ExportItem, "POST", "projects", view.project_id, "exports", body={}
        )
    except ApiRefused as refused:
        return await _shown(view, error=refused.problem.error)
    return await _shown(view, made=made)


async def _shown(view: View, *, error: str = "", made: ExportItem | None = None) -> Response:
    project = await project_of(view)
    return view.page(
        "wallet/project/settings.html",
        status=400 if error else 200,
        project=project,
        volume_mib=view.facts.volume_mib,
        error=error,
        made=made,
    )
