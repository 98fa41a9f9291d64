"""The body of a project's PATCH, decoded and checked."""

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.errors import InvalidField
from moorage.planning.plan import Settings
from moorage.records.project import Changes
from moorage.suggestion import Suggestions, did_you_mean
from moorage.uploads.request import check_health_path, check_variables, description, display_name

NOT_REMOVED = "A volume cannot be removed; it is deleted with the project."
_SHOWN_LENGTH = 64


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What to change; None leaves a field as it is."""

    display_name: str | None = None
    description: str | None = None
    health_path: str | None = None
    run_envs: Changes = {}
    build_vars: Changes = {}
    volume: bool = False  # whether to add a volume; it is never removed
    restart: bool = False
    discard_written: bool = False  # whether files of the running version may be lost
    paused: bool | None = None  # alone: whether its owner wants it stopped


def change_request(document: object) -> Change:
    """Returns the change. Raises InvalidField with the first wrong or unknown field.

    null means the default: no description, "/" as health path, no variable of this name.
    """
    if not isinstance(document, dict):
        raise InvalidField("body", "must be a JSON object")
    for key in document:
        if key not in _FIELDS:
            advice = _SUGGESTIONS.advice(key) or f"cannot be changed; what can: {_CHANGEABLE}"
            raise InvalidField(key[:_SHOWN_LENGTH], advice)
    if "paused" in document and len(document) > 1:
        raise InvalidField("paused", "stands alone: change the rest before, or after")
    return Change(
        display_name=display_name(document) if "displayName" in document else None,
        description=description(document) if "description" in document else None,
        health_path=_health_path(document) if "healthPath" in document else None,
        run_envs=_variables(document, "runEnvs"),
        build_vars=_variables(document, "buildVars"),
        volume=_volume(document),
        restart=_flag(document, "restart"),
        discard_written=_flag(document, "discard_written"),
        paused=_flag(document, "paused") if "paused" in document else None,
    )


_FIELDS = frozenset(
    (
        *("displayName", "description", "healthPath", "runEnvs", "buildVars", "volume"),
        *("restart", "paused", "discard_written"),
    )
)
_CHANGEABLE = ", ".join(sorted(_FIELDS))
_DEPLOY_AGAIN = "POST /agent/deploy with the same uniqueName"
_SUGGESTIONS = Suggestions(
    {
        key: f"is set by a deploy: {_DEPLOY_AGAIN} and settings.{key}"
        for field in msgspec.structs.fields(Settings)
        if (key := field.encode_name) not in _FIELDS
    }
    | did_you_mean(_FIELDS)
    | {
        "settings": f"are a deploy's; here each key stands at the top: {_CHANGEABLE}",
        "months": "are not kept: a project runs as long as there are credits; "
        'buy some with POST /agent/credits and {"amount_usd": …}',
        "uniqueName": "cannot be changed; displayName can",
        "upload": f"is a deploy's: {_DEPLOY_AGAIN}",
    }
)


def _health_path(document: Mapping[str, Any]) -> str:
    value = document["healthPath"]
    if value is None:
        return "/"
    if not isinstance(value, str):
        raise InvalidField("healthPath", "must be a string")
    check_health_path("healthPath", value)
    return value


def _variables(document: Mapping[str, Any], field: str) -> Changes:
    value = document.get(field, {})
    if not isinstance(value, dict):
        raise InvalidField(field, "must be an object of strings, and nulls for what is to go")
    for name, item in value.items():
        if not (item is None or isinstance(item, str)):
            raise InvalidField(f"{field}.{name[:_SHOWN_LENGTH]}", "must be a string or null")
    if "PORT" in value:
        raise InvalidField(f"{field}.PORT", "is settings.port, which a deploy sets")
    check_variables(field, value)
    return value


def _volume(document: Mapping[str, Any]) -> bool:
    if document.get("volume", True) is not True:
        raise InvalidField("volume", NOT_REMOVED)
    return "volume" in document


def _flag(document: Mapping[str, Any], field: str) -> bool:
    value = document.get(field, False)
    if not isinstance(value, bool):
        raise InvalidField(field, "must be true or false")
    return value
