"""A project's variables: their names, never what they hold; set, pasted and removed."""

from typing import Any

from starlette.responses import Response

from moorage.errors import MoorageError
from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.project.env_file import read_env
from moorage.pages.wallet.project.shown import project_of
from moorage.pages.wallet.view import View
from moorage.wire.projects import ProjectChanged

_KINDS = {"run": "runEnvs", "build": "buildVars"}


async def show_variables(view: View) -> Response:
    """`GET …/variables`."""
    return await _shown(view)


async def set_variables(view: View) -> Response:
    """`POST …/variables`: set what was pasted, for the app or for its builds."""
    field = _KINDS.get(view.form.get("kind", ""), "runEnvs")
    try:
        given = read_env(view.form.get("pasted", ""))
        name = view.form.get("name", "").strip()
        if name:
            given[name] = view.form.get("value", "")
        changed = await _change(view, {field: given})
    except (MoorageError, ApiRefused) as refused:
        return await _shown(view, error=_sentence(refused), status=400)
    return view.redirect(f"/wallet/projects/{view.project_id}/variables", _told(changed))


async def remove_variable(view: View) -> Response:
    """`POST …/variables/remove`: take one away."""
    field = _KINDS.get(view.form.get("kind", ""), "runEnvs")
    changed = await _change(view, {field: {view.form.get("name", ""): None}})
    return view.redirect(f"/wallet/projects/{view.project_id}/variables", _told(changed))


async def _change(view: View, change: dict[str, Any]) -> ProjectChanged:
    return await view.api.change(ProjectChanged, "PATCH", "projects", view.project_id, body=change)


async def _shown(view: View, *, error: str = "", status: int = 200) -> Response:
    project = await project_of(view)
    return view.page("wallet/project/variables.html", status=status, project=project, error=error)


def _told(changed: ProjectChanged) -> str:
    return "saved-restarting" if changed.status == "deploying" else "saved"


def _sentence(refused: MoorageError | ApiRefused) -> str:
    return refused.problem.error if isinstance(refused, ApiRefused) else refused.message
