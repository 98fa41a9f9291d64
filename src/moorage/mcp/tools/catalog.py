"""The eighteen tools, as both servers list them; they differ in what `deploy` and `quote` take."""

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.mcp.tools import arguments
from moorage.mcp.tools.arguments import UNLISTED, Arguments

INSTRUCTIONS = (
    "Deploys apps at a Moorage gateway, which is paid in USDC or USDT. "
    "quote says what an app costs and how it would be built; deploy starts it and answers at once; "
    "wait_for_deployment tells its address, or why it failed. Deploying the same name again "
    "replaces the version. Credits burn while an app runs: credits shows until when, top_up adds "
    "some. Only /data is kept between versions, and only with settings.volume. "
    "If an answer says payment_uncertain or payment_pending, never pay again: make the same call "
    "again with the same idempotency_key."
)

_TEXT = {"type": "string"}
_NUMBER = {"type": "number"}
_WHOLE = {"type": "integer"}
_YES_NO = {"type": "boolean"}
_LIST = {"type": "array"}
_OBJECT = {"type": "object"}
_NULL = {"type": "null"}
_TEXT_OR_NULL = {"anyOf": [_TEXT, _NULL]}
_STARTED = {"project_id": _TEXT, "deployment_id": _TEXT, "status": _TEXT, "message": _TEXT}
_PROGRESS = {
    **dict.fromkeys(("status", "endpoint", "reason", "reason_code", "log_tail"), _TEXT),
    "next_actions": _LIST,
    "next_settings": _OBJECT,
}


class Hints(msgspec.Struct, frozen=True):
    """A tool's annotations."""

    reads: bool = False  # it changes nothing
    destroys: bool = False
    repeatable: bool = False  # a second call changes nothing more


class Tool(msgspec.Struct, frozen=True):
    """A tool: `takes` is its input schema; `gives` are the main fields of its answer."""

    name: str
    title: str
    description: str
    takes: type[Arguments]
    gives: Mapping[str, Any]
    hints: Hints
    requires: tuple[str, ...] = ()  # which of `gives` are in every answer
    common: Mapping[str, Any] = {}  # what every tool of its server takes besides

    def listed(self) -> dict[str, Any]:
        """Returns it as `tools/list` shows it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": input_schema(self.takes, self.common),
            "outputSchema": {
                "type": "object",
                "properties": dict(self.gives),
                **({"required": list(self.requires)} if self.requires else {}),
            },
            "annotations": {
                "readOnlyHint": self.hints.reads,
                "destructiveHint": self.hints.destroys,
                "idempotentHint": self.hints.reads or self.hints.repeatable,
                "openWorldHint": True,
            },
        }


_READS = Hints(reads=True)
_ADDS = Hints()
_SETS = Hints(repeatable=True)

_SHARED = (
    Tool(
        "wait_for_deployment",
        "Wait for a deployment",
        "Wait until a deployment is ready (then endpoint is its live address) or failed (then "
        "reason says why; log_tail is its log's end). Still deploying when time is up: call again.",
        arguments.WaitForDeployment,
        {**_PROGRESS, "next": _TEXT},
        _READS,
        ("status",),
    ),
    Tool(
        "list_projects",
        "List projects",
        "List this wallet's projects with status and address.",
        arguments.ListProjects,
        {"count": _WHOLE, "projects": _LIST},
        _READS,
        ("projects",),
    ),
    Tool(
        "get_project",
        "Show a project",
        "Show a project: status, address, domains, names of its variables, volume, burn per hour.",
        arguments.GetProject,
        {"id": _TEXT, "name": _TEXT, "status": _TEXT, "url": _TEXT_OR_NULL},
        _READS,
        ("id", "name", "status"),
    ),
    Tool(
        "get_logs",
        "Read logs",
        "Read what an app (runtime) or its build (build) wrote, oldest line first.",
        arguments.GetLogs,
        {"lines": _LIST, "next": _TEXT, "ended": _YES_NO},
        _READS,
        ("lines", "next"),
    ),
    Tool(
        "set_variables",
        "Set variables",
        "Set or remove environment variables; what they hold is never shown again. The app is "
        "restarted with them: follow deployment_id with wait_for_deployment.",
        arguments.SetVariables,
        _STARTED,
        _SETS,
        ("status",),
    ),
    Tool(
        "rollback",
        "Roll back",
        "Serve an earlier release again, with the variables it had; /data stays as it is. Follow "
        "it with wait_for_deployment.",
        arguments.Rollback,
        _STARTED,
        _ADDS,
        ("project_id", "deployment_id"),
    ),
    Tool(
        "restart",
        "Restart an app",
        "Start a project's app again. Follow it with wait_for_deployment.",
        arguments.Restart,
        _STARTED,
        _ADDS,
        ("status",),
    ),
    Tool(
        "pause",
        "Pause an app",
        "Stop a project's app, which then burns nothing and keeps its files for a while; or, with "
        "paused false, start it again.",
        arguments.Pause,
        {"status": _TEXT, "message": _TEXT},
        _SETS,
        ("status",),
    ),
    Tool(
        "adopt",
        "Adopt a project",
        "Have a project that was opened by a payment alone share its wallet's credits, with what "
        "is left of that payment.",
        arguments.Adopt,
        {"status": _TEXT, "moved_usd": _NUMBER, "credits_usd": _NUMBER},
        Hints(repeatable=True),
        ("status",),
    ),
    Tool(
        "cancel",
        "Cancel a deployment",
        "End a deployment that is under way; what served before it serves on.",
        arguments.Cancel,
        {"deployment_id": _TEXT, "status": _TEXT},
        Hints(destroys=True, repeatable=True),
        ("status",),
    ),
    Tool(
        "delete_project",
        "Delete a project",
        "Stop a project and delete its files and /data for good; unspent credits stay with the "
        "wallet. Without confirm_name it only says what would be deleted.",
        arguments.DeleteProject,
        {"status": _TEXT, "preview": _YES_NO, "next": _TEXT},
        Hints(destroys=True, repeatable=True),
        ("status",),
    ),
    Tool(
        "domains",
        "Manage domains",
        "List, add, verify or remove a project's own domains; add says which DNS records to set.",
        arguments.Domains,
        {"domain": _TEXT, "status": _TEXT, "records": _LIST, "domains": _LIST},
        Hints(destroys=True, repeatable=True),
    ),
    Tool(
        "credits",
        "Show credits",
        "Show the wallet's credits: balance, what burns them, when they run out, last changes.",
        arguments.CreditsShown,
        {"balance_usd": _NUMBER, "burn_per_hour_usd": _NUMBER, "runs_out_at": _TEXT_OR_NULL},
        _READS,
        ("balance_usd",),
    ),
    Tool(
        "top_up",
        "Buy credits",
        "Pay for credits without deploying: projects run longer, suspended ones start again.",
        arguments.TopUp,
        {"credited_usd": _NUMBER, "balance_usd": _NUMBER, "tx_hash": _TEXT},
        _ADDS,
        ("credited_usd",),
    ),
    Tool(
        "usage",
        "Show usage",
        "Show traffic and resource use by the hour: requests, latency, bytes, CPU, memory.",
        arguments.Usage,
        {"totals": _OBJECT, "hours": _LIST},
        _READS,
        ("totals",),
    ),
    Tool(
        "events",
        "List events",
        "List what happened to this wallet's apps and credits, oldest first.",
        arguments.Events,
        {"events": _LIST, "last_sequence": _WHOLE},
        _READS,
        ("events", "last_sequence"),
    ),
)


def catalog(*, deploys: type[Arguments], quotes: type[Arguments], files: str) -> tuple[Tool, ...]:
    """Returns all tools in their fixed order; `files` says what deploy and quote are given."""
    deploy = Tool(
        "deploy",
        "Deploy an app",
        f"Deploy {files}, paid for if credits do not suffice. Answers at once with ids; follow "
        "them with wait_for_deployment.",
        deploys,
        {**_STARTED, "paid": {"anyOf": [_OBJECT, _NULL]}, "next": _TEXT},
        _ADDS,
    )
    quote = Tool(
        "quote",
        "Price an app",
        f"Check {files}, say how it would be built and run, and what deploying it costs. Changes "
        "and pays nothing.",
        quotes,
        {"amount_usd": _NUMBER, "payment_required": _YES_NO, "plan": _OBJECT},
        _READS,
        ("amount_usd",),
    )
    return (deploy, quote, *_SHARED)


def input_schema(takes: type[Arguments], common: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON Schema of what a tool takes, without titles and nulls, in one piece."""
    (schema,), parts = msgspec.json.schema_components([takes], ref_template="{name}")
    plain: dict[str, Any] = _plain(schema, parts)
    plain["properties"] = {**plain["properties"], **common}
    return {name: of for name, of in plain.items() if name != "description" and of != []}


def _unlisted(schema: Mapping[str, Any]) -> bool:
    return UNLISTED.items() <= schema.items()


def _plain(schema: Any, parts: Mapping[str, Any]) -> Any:
    """Puts parts in place of references, and says "may be left out" by nothing instead of null."""
    match schema:
        case {"$ref": str(name)}:
            return _plain(parts[name], parts)
        case {"anyOf": [*kinds], **rest} if {"type": "null"} in kinds and "default" in rest:
            given = [kind for kind in kinds if kind != {"type": "null"}]
            rest.pop("default")
            return _plain({**(given[0] if len(given) == 1 else {"anyOf": given}), **rest}, parts)
        case dict():
            plain = {
                name: _plain(of, parts)
                for name, of in schema.items()
                if name != "title" and not (name == "default" and of in ({}, None))
            }
            return {k: v for k, v in plain.items() if not (isinstance(v, dict) and _unlisted(v))}
        case list():
            return [_plain(each, parts) for each in schema]
    return schema
