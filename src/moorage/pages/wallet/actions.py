"""What can be done to a project at a press of a button."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from moorage.errors import InvalidField, MoorageError
from moorage.money import usd_text
from moorage.pages.rendering.formatting import harmless, ms
from moorage.pages.wallet.api import ApiRefused
from moorage.pages.wallet.logs import Lines
from moorage.pages.wallet.view import View, hour_asleep, ms_or_none, project_of
from moorage.records.deployment import UNDER_WAY, DeploymentStatus
from moorage.records.size import Size
from moorage.wire import calls
from moorage.wire.deployments import (
    DeploymentShown,
)
from moorage.wire.projects import (
    ExportItem,
    ProjectChanged,
)

DEPLOYMENTS_A_PAGE = 20
_BUILD_LINES = 500


async def list_deployments(view: View) -> Response:
    """`GET …/deployments`: newest first."""
    project = await project_of(view)
    found = await view.api.call(
        calls.DEPLOYMENTS, project.id, limit=DEPLOYMENTS_A_PAGE, before=view.query.get("before")
    )
    return view.page(
        "wallet/project/deployments.html",
        project=project,
        deployments=found.deployments,
        next=found.next,
        is_first="before" not in view.query,
    )


async def show_deployment(view: View) -> Response:
    """`GET …/deployments/{deployment_id}`: its timeline, its build log, and what to do."""
    project = await project_of(view)
    wanted = view.request.path_params["deployment_id"]
    shown = await view.api.call(calls.DEPLOYMENT, project.id, wanted)
    progress = await view.api.call(calls.STATUS, project.id, shown.id)
    log = await view.api.read(
        Lines, calls.LOGS.request(project.id, shown.id, kind="build", tail=_BUILD_LINES)
    )
    return view.page(
        "wallet/project/deployment.html",
        project=project,
        deployment=shown,
        progress=progress,
        steps=steps(shown),
        is_under_way=shown.status in UNDER_WAY,
        log=log,
    )


@dataclass(frozen=True)
class _Times:
    """When each step of a deployment began, as far as it did."""

    queued_ms: int
    building_ms: int | None
    starting_ms: int | None
    ended_ms: int | None


def steps(shown: DeploymentShown) -> list[dict[str, Any]]:
    """Returns the timeline: every step that it went through, and those that are to come."""
    times = _times(shown)
    status = shown.status
    failed = status is DeploymentStatus.FAILED
    found = [_step("Accepted", "done", times.queued_ms, _ORIGINS[shown.origin])]
    reached = _reached(shown, times)
    for number, (title, at_ms) in enumerate(
        (("Built", times.building_ms), ("Started and checked", times.starting_ms))
    ):
        if number + 1 < reached:
            found.append(_step(title, "done", at_ms))
        elif number + 1 == reached:
            found.append(_step(title, "failed" if failed else "busy", at_ms))
        elif not failed:
            found.append(_step(title, "waiting"))
    if failed:
        reason = shown.reason if shown.reason is not UNSET else ""
        return [*found, _step("Failed", "failed", times.ended_ms, harmless(reason))]
    if status in UNDER_WAY:
        return [*found, _step("Ready", "waiting")]
    found.append(_step("Ready", "done", times.ended_ms))
    if shown.superseded_at is not None:
        found.append(_step("Replaced by a later version", "done", ms(shown.superseded_at)))
    return found


_ORIGINS = {
    "upload": "Uploaded",
    "rollback": "An earlier version, to be served again",
    "configuration": "The same files, with other variables or started again",
}


def _reached(shown: DeploymentShown, times: _Times) -> int:
    """Returns which step it is at: 0 waits, 1 builds, 2 starts, 3 is past these."""
    match shown.status:
        case DeploymentStatus.QUEUED:
            return 0
        case DeploymentStatus.BUILDING:
            return 1
        case DeploymentStatus.DEPLOYING:
            return 2
        case DeploymentStatus.FAILED:
            if times.building_ms is None and shown.copy_of is UNSET:
                return 0
            return 1 if shown.reason_code in _BUILD_CAUSES else 2
    return 3


_BUILD_CAUSES = {
    *("upload_invalid", "plan_not_found", "install_failed", "build_failed", "build_timeout"),
    *("interrupted", "superseded", "cancelled", "out_of_credits", "project_blocked"),
    "limit_reached",
}


def _times(shown: DeploymentShown) -> _Times:
    building_ms = ms_or_none(shown.build_started_at)
    over = shown.status not in (DeploymentStatus.QUEUED, DeploymentStatus.BUILDING)
    starting_ms = None
    if over and building_ms is not None and shown.build_seconds is not None:
        starting_ms = building_ms + round(shown.build_seconds * 1000)
    return _Times(ms(shown.created_at), building_ms, starting_ms, ms_or_none(shown.ended_at))


def _step(title: str, state: str, at_ms: int | None = None, text: str = "") -> dict[str, Any]:
    return {"title": title, "state": state, "at_ms": at_ms, "text": text}


async def add_domain(view: View) -> Response:
    """`POST …/domains`: claim one."""
    domain = view.form.get("domain", "").strip()
    try:
        await view.api.call(calls.ADD_DOMAIN, view.project_id, body={"domain": domain})
    except ApiRefused as refused:
        return await show_domains(view, error=refused.problem.error, typed=domain)
    return _back(view, "domain-added")


async def check_domain(view: View) -> Response:
    """`POST …/domains/check`: look at its record now."""
    domain = view.form.get("domain", "")
    await view.api.call(calls.VERIFY_DOMAIN, view.project_id, domain)
    return _back(view, "domain-checked")


async def remove_domain(view: View) -> Response:
    """`POST …/domains/remove`: remove a domain."""
    domain = view.form.get("domain", "")
    await view.api.call(calls.REMOVE_DOMAIN, view.project_id, domain)
    return _back(view, "domain-removed")


async def show_domains(view: View, *, error: str = "", typed: str = "") -> Response:
    """`GET …/domains`; also after one could not be added."""
    project = await project_of(view)
    found = await view.api.call(calls.DOMAINS, project.id)
    return view.page(
        "wallet/project/domains.html",
        status=400 if error else 200,
        project=project,
        domains=found.domains,
        error=error,
        typed=typed,
    )


def _back(view: View, told: str) -> Response:
    return view.redirect(f"/wallet/projects/{view.project_id}/domains", told)


async def change_settings(view: View) -> Response:
    """`POST …/settings`: change title, description, health path and size, or add a volume."""
    form = view.form
    body: dict[str, Any] = {
        field: form[name].strip()
        for name, field in (("title", "displayName"), ("health", "healthPath"), ("size", "size"))
        if form.get(name, "").strip()
    }
    if "description" in form:
        body["description"] = form["description"].strip()
    if "sleep" in form:
        body["sleepAfterSeconds"] = _seconds(form["sleep"].strip())
    if form.get("volume") == "true":
        body["volume"] = True
    try:
        changed = await view.api.call(calls.CHANGE, view.project_id, body=body)
    except ApiRefused as refused:
        return await show_settings(view, error=refused.problem.error)
    restarts = changed.deployment_id is not UNSET
    told = "saved-restarting" if restarts else "saved"
    return view.redirect(f"/wallet/projects/{view.project_id}/settings", told)


def _size_text(size: Size) -> str:
    return f"{size.name}: {size.memory_mib} MiB, {usd_text(size.month)} a month"


def _seconds(typed: str) -> int | str | None:
    """Returns what was typed, for the API to check; nothing is never."""
    return int(typed) if typed.isdecimal() else typed or None


async def export(view: View) -> Response:
    """`POST …/settings/export`: make an archive of the project, or show the one there is."""
    try:
        made = await view.api.call(calls.EXPORT, view.project_id, body={})
    except ApiRefused as refused:
        return await show_settings(view, error=refused.problem.error)
    return await show_settings(view, made=made)


async def show_settings(view: View, *, error: str = "", made: ExportItem | None = None) -> Response:
    """`GET …/settings`; also after a change was refused, and with an export that was made."""
    project = await project_of(view)
    return view.page(
        "wallet/project/settings.html",
        status=400 if error else 200,
        project=project,
        volume_mib=view.facts.sizes.of(project.size).volume_mib,
        sizes=[(each.name, _size_text(each)) for each in view.facts.sizes.listed],
        an_hour_asleep=hour_asleep(project),
        error=error,
        made=made,
    )


_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_CLOSING = {
    "'": re.compile(r"[^']*+'"),
    '"': re.compile(r'[^"\\]*+(?:\\(?:.|\Z)[^"\\]*+)*+"', re.DOTALL),
}
"""What stands before the end of a quoted value, and its closing quote, by its opening one."""

_ANY = re.compile("")
_COMMENT = re.compile(r"(?<!\s)\s+#")  # tried at the first space of several alone
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_env(text: str) -> dict[str, str]:
    """Returns the variables of a `.env`; the last of several with one name counts.

    Empty lines and comments are left out. Values may be quoted: in double quotes with \\n and
    others, and over several lines; in single quotes as they are. Raises InvalidField for a line
    that is none of that, by its number alone, as it may hold a secret.
    """
    found: dict[str, str] = {}
    for number, name, value in _assignments(text):
        found[name] = _value(value, number)
    return found


def _assignments(text: str) -> Iterator[tuple[int, str, str]]:
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        matched = _NAME.fullmatch(stripped)
        if matched is None:
            raise InvalidField(f"line {number}", "must be NAME=value")
        name, value = matched.groups()
        parts, is_closed = [value], _CLOSING.get(value[:1], _ANY).match(value, 1)
        while not is_closed:  # each line is looked at once, however many there are
            following = next(lines, None)
            if following is None:
                raise InvalidField(f"line {number}", "has a quote that nothing closes")
            parts.append(following[1])
            is_closed = _CLOSING[value[0]].match(following[1])
        yield number, name, "\n".join(parts)


def _value(value: str, number: int) -> str:
    if value[:1] not in ("'", '"'):
        return _COMMENT.split(value, maxsplit=1)[0].strip()
    closing = _CLOSING[value[0]].match(value, 1)
    end = len(value) if closing is None else closing.end() - 1
    rest = value[end + 1 :].strip()
    if rest and not rest.startswith("#"):
        raise InvalidField(f"line {number}", "has something behind its closing quote")
    inner = value[1:end]
    if value[0] == "'":
        return inner
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), inner)


_KINDS = {"run": "runEnvs", "build": "buildVars"}


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
        return await show_variables(view, error=_sentence(refused))
    return view.redirect(f"/wallet/projects/{view.project_id}/variables", _told(changed))


async def remove_variable(view: View) -> Response:
    """`POST …/variables/remove`: take one away."""
    field = _KINDS.get(view.form.get("kind", ""), "runEnvs")
    changed = await _change(view, {field: {view.form.get("name", ""): None}})
    return view.redirect(f"/wallet/projects/{view.project_id}/variables", _told(changed))


async def _change(view: View, change: dict[str, Any]) -> ProjectChanged:
    return await view.api.call(calls.CHANGE, view.project_id, body=change)


async def show_variables(view: View, *, error: str = "") -> Response:
    """`GET …/variables`; also after some could not be set."""
    project, status = await project_of(view), 400 if error else 200
    return view.page("wallet/project/variables.html", status=status, project=project, error=error)


def _told(changed: ProjectChanged) -> str:
    return "saved-restarting" if changed.status == "deploying" else "saved"


def _sentence(refused: MoorageError | ApiRefused) -> str:
    return refused.problem.error if isinstance(refused, ApiRefused) else refused.message


async def restart(view: View) -> Response:
    """`POST …/restart`: start the app again."""
    begun = await view.api.call(calls.CHANGE, view.project_id, body={"restart": True})
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
    begun = await view.api.call(calls.ROLLBACK, view.project_id, body=body)
    return _to_deployment(view, begun.deployment_id, "rolling-back")


async def cancel(view: View) -> Response:
    """`POST …/deployments/{deployment_id}/cancel`: end a deployment that is under way."""
    deployment = view.request.path_params["deployment_id"]
    await view.api.call(calls.CANCEL, view.project_id, deployment)
    return _to_deployment(view, deployment, "cancelled")


async def revoke_tokens(view: View) -> Response:
    """`POST …/settings/revoke-tokens`: no manage token of the project is valid any more."""
    api = await view.confirmed(
        f"Revoke all manage tokens of the project {view.project_id}.",
        sentence="Please revoke all manage tokens of the project: "
        f"DELETE /agent/projects/{view.project_id}/tokens",
    )
    await api.call(calls.REVOKE_TOKENS, view.project_id)
    return view.redirect(f"/wallet/projects/{view.project_id}/settings", "tokens-revoked")


_DOLLARS = re.compile(r"\d{1,6}(\.\d{1,6})?", re.ASCII)
_PURSE_WORDS = {
    "add_usd": "${} from the wallet's credits into it",
    "take_usd": "${} from it back to the wallet's credits",
    "limit_usd_month": "at most ${} burned in a month",
}


async def set_purse(view: View) -> Response:
    """`POST …/settings/purse`: move credits to or from the project's purse, and set its terms."""
    typed = {name: view.form.get(name, "").strip() for name in _PURSE_WORDS}
    if not all(_DOLLARS.fullmatch(text or "0") for text in typed.values()):
        return await show_settings(view, error="Amounts are dollars, such as 2.50.")
    shared = view.form.get("shared") == "true"
    words = [_PURSE_WORDS[name].format(text) for name, text in typed.items() if text]
    words += [] if typed["limit_usd_month"] else ["no limit of a month"]
    words.append("then the wallet's credits are burned" if shared else "nothing else is burned")
    given = {name: text for name, text in typed.items() if text}
    body: dict[str, Any] = {"limit_usd_month": None, **given, "shared": shared}
    api = await view.confirmed(
        f"Set the purse of the project {view.project_id}: {'; '.join(words)}.",
        sentence=f"Please set the purse of the project: PUT /agent/projects/{view.project_id}/purse"
        f" {msgspec.json.encode(body).decode()}",
    )
    try:
        await api.call(calls.SET_PURSE, view.project_id, body=body)
    except ApiRefused as refused:
        return await show_settings(view, error=refused.problem.error)
    return view.redirect(f"/wallet/projects/{view.project_id}/settings", "saved")


async def ask_to_delete(view: View) -> Response:
    """`GET …/delete`: what would be lost, and what stays."""
    project = await project_of(view)
    account = await view.api.call(calls.CREDITS, limit=1) if view.sees_wallet else None
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
    await api.call(calls.DELETE, project.id)
    return view.redirect("/wallet", "deleted")


async def _set_paused(view: View, *, paused: bool) -> Response:
    body = {"paused": paused}
    await view.api.call(calls.CHANGE, view.project_id, body=body)
    told = "paused" if paused else "resumed"
    return view.redirect(f"/wallet/projects/{view.project_id}", told)


def _to_deployment(view: View, deployment_id: str, told: str) -> Response:
    return view.redirect(f"/wallet/projects/{view.project_id}/deployments/{deployment_id}", told)
