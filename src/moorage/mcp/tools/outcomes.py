"""Outcomes that both servers tell alike."""

from collections.abc import Mapping
from typing import Any

from moorage.mcp.tools.outcome import Outcome, answered

_NEXT = {
    "deploying": "It is still under way. Call wait_for_deployment again.",
    "failed": "Do what next_actions says and call deploy again with the same name, with "
    "next_settings, if there are any, in its settings; get_logs with kind build shows the whole "
    "log.",
}


def status_of(status: Mapping[str, Any]) -> Outcome:
    """Returns a deployment's status, with what to do next."""
    advice = _NEXT.get(str(status["status"]))
    return answered(status) if advice is None else answered(status, next=advice)


def deletion_preview(project: Mapping[str, Any], *, confirmed: str | None) -> Outcome:
    """Returns what deleting `project` would take away; nothing was changed."""
    name = str(project["name"])
    wrong = "" if confirmed is None else f"confirm_name is {confirmed!r}, and the name differs. "
    has_volume = bool(project.get("volume"))
    return answered(
        {
            "status": "not deleted",
            "preview": True,
            "project_id": project["id"],
            "name": name,
            "url": project.get("url"),
            "domains": project.get("domains", []),
            "volume_deleted": has_volume,
        },
        next=f"{wrong}Deleting it stops the app and removes its files"
        + (", and everything in /data," if has_volume else "")
        + f' for good. To do so, call delete_project with project and confirm_name "{name}".',
    )
