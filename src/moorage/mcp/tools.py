"""The tools, as both servers list them; they differ in what `deploy` and `quote` take.

What a tool takes is a struct, which is its input schema too. Descriptions are for a model that
reads all of them at once: short, and only what a name leaves open.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from moorage.wire import calls
from moorage.wire.calls import ApiRequest, Call
from moorage.wire.deploy import DeployPurse
from moorage.wire.shape import json_schemas

MAX_WAIT_SECONDS = 45
"""Clients give a tool 30 to 60 s."""

Project = Annotated[str, Meta(description="name or id", min_length=1, max_length=64)]
Deployment = Annotated[str, Meta(description="id, or latest", min_length=1, max_length=64)]
Key = Annotated[
    str,
    Meta(
        description="any text that names this call; the same call with it is done and paid once",
        pattern=r"^[!-~]{1,255}\Z",
    ),
]
Chain = Annotated[str, Meta(description="to pay on: arbitrum, base")]
Token = Annotated[str, Meta(description="usdc, usdt")]
Variables = dict[str, str | None]

UNLISTED = {"deprecated": True}
"""Marks an argument that is taken, but not listed."""

_KEY = "idempotency_key"
_Kind = TypeVar("_Kind", bound="Arguments")


class ArgumentsInvalid(Exception):
    """The arguments of a call are not what the tool takes; the message names the wrong one."""


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tool takes."""


class SingleRequest(Arguments, frozen=True, kw_only=True):
    """What a tool takes that is one request to the API: `call`."""

    call: ClassVar[Call[Any]]
    always: ClassVar[Mapping[str, object]] = {}
    """Fields of the body that each call has."""
    renamed: ClassVar[Mapping[str, str]] = {}
    """Arguments that the API names otherwise."""

    @property
    def key(self) -> str | None:
        """The Idempotency-Key that was given, of a call that is bound."""
        return getattr(self, _KEY, None)

    def request(self) -> ApiRequest:
        """Returns the request: ids go into its path, what else is given into its query or body."""
        given = msgspec.structs.asdict(self)
        given.pop(_KEY, None)
        ids = [given.pop(name) for name in self.call.ids]
        sent = {self.renamed.get(name, name): of for name, of in given.items() if of is not None}
        if self.call.method == "GET":
            return self.call.request(*ids, **sent)
        body = {**self.always, **sent} if given or self.always else None
        return self.call.request(*ids, body=body)


def argument(name: str, kind: Any, default: Any, **bounds: Any) -> tuple[str, Any, Any]:
    """Returns an argument for `one_request`; `bounds` and description as `msgspec.Meta` has them.

    Where `default` is None it may be left out.
    """
    described = Annotated[kind, Meta(**bounds)] if bounds else kind
    return name, described | None if default is None else described, default


def one_request(
    call: Call[Any],
    *fields: tuple[str, Any] | tuple[str, Any, Any],
    always: Mapping[str, object] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> type[SingleRequest]:
    """Returns what a tool takes that is `call`: each field's name, type and default."""
    namespace = {"call": call, "always": always or {}, "renamed": renamed or {}}
    taken = msgspec.defstruct(
        "Taken",
        [*fields, *([(_KEY, Key | None, None)] if call.bound else [])],
        bases=(SingleRequest,),
        namespace=namespace,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
    )
    return cast("type[SingleRequest]", taken)


class AppSettings(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename="camel",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """How the app is built and run, where its files do not say."""

    port: Annotated[int, Meta(description="told to the app as PORT", ge=1, le=65535)] | None = None
    runtime: Annotated[str, Meta(description="such as node:22")] | None = None
    framework: str | None = None
    directory_path: Annotated[str, Meta(description="the app's, in a monorepo")] | None = None
    install_command: str | None = None
    build_command: str | None = None
    build_dir: Annotated[str, Meta(description="what a static site serves")] | None = None
    run_command: str | None = None
    release_command: Annotated[str, Meta(description="once, before it serves")] | None = None
    kind: Annotated[Literal["web", "worker"], Meta(description="worker: no port")] | None = None
    health_path: str | None = None
    size: Annotated[str, Meta(description="small, standard, large …")] | None = None
    volume: Annotated[
        bool, Meta(description="true: /data is kept; other files are lost at the next deploy")
    ] = False
    sleep_after_seconds: Annotated[int, Meta(description="idle so long, it sleeps")] | None = None
    run_envs: Annotated[dict[str, str], Meta(description="the app's variables")] | None = None
    build_vars: dict[str, str] | None = None


class App(Arguments, frozen=True, kw_only=True):
    """What is deployed."""

    name: Annotated[
        str,
        Meta(
            description="part of its address; your own existing name redeploys that project",
            pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{2,30}[A-Za-z0-9]\Z",
        ),
    ]
    display_name: Annotated[str, Meta(max_length=100)] | None = None
    description: Annotated[str, Meta(max_length=2048)] | None = None
    months: Annotated[int, Meta(description="to pay for", ge=1, le=24)] = 1
    settings: AppSettings = AppSettings()


class Deploy(App, frozen=True, kw_only=True):
    """What is deployed, and how it is paid for."""

    chain: Chain | None = None
    token: Token | None = None
    use_existing_credits: Annotated[
        bool, Meta(description="true: from credits that other projects live on, too")
    ] = False
    discard_written: Annotated[
        bool, Meta(description="true: files that the running version wrote may be lost")
    ] = False
    purse_usd: float | None = None
    limit_usd_month: float | None = None
    dry_run: Annotated[bool, Meta(description="true: check and price only")] = False
    idempotency_key: Key | None = None


def purse_of(asked: App) -> DeployPurse | None:
    """Returns the purse of a new project, and its limit, if either is asked for."""
    if not isinstance(asked, Deploy) or (asked.purse_usd, asked.limit_usd_month) == (None, None):
        return None
    limit = None if asked.limit_usd_month is None else Decimal(repr(asked.limit_usd_month))
    return DeployPurse(usd=Decimal(repr(asked.purse_usd or 0)), limit_usd_month=limit)


class WaitForDeployment(Arguments, frozen=True, kw_only=True):
    """Takes a deployment to wait for."""

    project: Project
    deployment: Deployment = "latest"
    timeout_seconds: Annotated[int, Meta(ge=0, le=MAX_WAIT_SECONDS)] = MAX_WAIT_SECONDS

    def request(self) -> ApiRequest:
        """Returns the request for its status now."""
        return calls.STATUS.request(self.project, self.deployment)


class GetLogs(SingleRequest, frozen=True, kw_only=True):
    """Takes which log, and which part of it."""

    project: Project
    deployment: Deployment = "latest"
    kind: Literal["runtime", "build"] = "runtime"
    run_id: Annotated[str, Meta(description="instead of a deployment")] | None = None
    tail: Annotated[int, Meta(description="last lines", ge=1, le=1000)] | None = None
    after: (
        Annotated[str, Meta(description="`next` of the page before", pattern=r"^[0-9]+\Z")] | None
    ) = None

    def request(self) -> ApiRequest:
        """Returns the request; 100 lines unless told otherwise."""
        tail = 100 if self.tail is None and self.after is None else self.tail
        if self.run_id is not None:
            return calls.RUN_LOGS.request(self.project, self.run_id, tail=tail, after=self.after)
        return calls.LOGS.request(
            self.project, self.deployment, kind=self.kind, tail=tail, after=self.after
        )


class SetVariables(SingleRequest, frozen=True, kw_only=True):
    """Takes variables."""

    project: Project
    variables: Annotated[Variables, Meta(description="null removes one")]
    build: Annotated[bool, Meta(description="true: of the build, from the next upload on")] = False

    def request(self) -> ApiRequest:
        """Returns the request."""
        body = {"buildVars" if self.build else "runEnvs": self.variables}
        return calls.CHANGE.request(self.project, body=body)


_NAME = re.compile(r"[a-z0-9-]{4,32}")  # an id is longer


class DeleteProject(Arguments, frozen=True, kw_only=True):
    """Takes a project, and its name once more."""

    project: Project
    confirm_name: (
        Annotated[str, Meta(description="its name, to delete it; without: a preview")] | None
    ) = None

    def request(self) -> ApiRequest:
        """Returns the request that deletes it."""
        return calls.DELETE.request(self.project)

    @property
    def names_it_twice(self) -> bool:
        """Whether both arguments are the project's name; an id confirms nothing."""
        return self.confirm_name == self.project and _NAME.fullmatch(self.project) is not None

    def preview(self) -> ApiRequest:
        """Returns the request that shows it."""
        return calls.PROJECT.request(self.project)


class Domains(SingleRequest, frozen=True, kw_only=True):
    """Takes what to do with a domain."""

    project: Project
    action: Literal["list", "add", "verify", "remove"] = "list"
    domain: Annotated[str, Meta(description="for all but list", max_length=253)] | None = None

    def request(self) -> ApiRequest:
        """Returns the request. Raises ArgumentsInvalid without the domain that an action needs."""
        if self.action == "list":
            return calls.DOMAINS.request(self.project)
        if not self.domain:
            raise ArgumentsInvalid(f"domain is required to {self.action} one")
        match self.action:
            case "add":
                return calls.ADD_DOMAIN.request(self.project, body={"domain": self.domain})
            case "verify":
                return calls.VERIFY_DOMAIN.request(self.project, self.domain)
        return calls.REMOVE_DOMAIN.request(self.project, self.domain)


class TopUp(Arguments, frozen=True, kw_only=True):
    """Takes an amount."""

    amount_usd: Annotated[float, Meta(description="dollars of credits", gt=0, le=100_000)]
    chain: Chain | None = None
    token: Token | None = None
    idempotency_key: Key | None = None


def read_arguments(given: dict[str, Any], kind: type[_Kind]) -> _Kind:
    """Reads a call's arguments. Raises ArgumentsInvalid, naming the one that is wrong."""
    try:
        return msgspec.convert(given, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ArgumentsInvalid(str(error)) from error


_WORDS = {
    "POST /agent/deploy": "deploy",
    "POST /agent/quote": "quote",
    "POST /agent/credits": "top_up",
    "GET /agent/credits": "credits",
    "GET /agent/projects": "list_projects",
    "header X-Use-Existing-Credits: true": "use_existing_credits: true",
    "X-Use-Existing-Credits: true": "use_existing_credits: true",
    "the header PAYMENT-REQUIRED (x402) or WWW-Authenticate (MPP) asks for": "accepts asks for",
    "PAYMENT-SIGNATURE or Authorization: Payment": (
        "x402/payment or org.paymentauth/credential in _meta"
    ),
    "the header X-Payment-Chain names": "the argument chain names",
    "send the same request with X-Payment-Tx, X-Payment-Chain and X-Payment-Token": (
        "call again when credits shows it: it is credited to the wallet that sent it"
    ),
    "sign the request: POST /agent/deploy or /agent/credits with X-Payment-Tx": (
        "it is credited to the wallet that sent it"
    ),
    "send the same request with X-Payment-Tx, the hash of your transaction": (
        "call credits: it is credited to the wallet that sent it"
    ),
    "without X-Payment-Tx": "without that payment",
    "Idempotency-Key": "idempotency_key",
    "X-Payment-Chain": "chain",
    "X-Payment-Token": "token",
    "uniqueName": "name",
    "displayName": "display_name",
}
_LONGEST_FIRST = sorted(_WORDS, key=len, reverse=True)
_FOUND = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, _LONGEST_FIRST))})(?![\w/-])")
_OF_THE_APP = frozenset(("text", "build_env", "run_env", "display_name", "description"))
"""What the app or its deployer wrote: lines of logs, names of variables."""

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def in_tool_words(answer: Any) -> Any:
    """Returns the body of an answer with its keys in snake case and tools named in its texts."""
    match answer:
        case dict():
            named = ((_HUMP.sub("_", name).lower(), of) for name, of in answer.items())
            return {name: of if name in _OF_THE_APP else in_tool_words(of) for name, of in named}
        case list():
            return [in_tool_words(each) for each in answer]
        case str():
            return _FOUND.sub(lambda match: _WORDS[match[0]], answer)
    return answer


NEVER_ANEW = (
    "Do not pay again. Call {tool} again with the same arguments and "
    'idempotency_key "{key}": nothing is paid twice.'
)


class Outcome(msgspec.Struct, frozen=True):
    """The answer, or with `is_error` the refusal; `meta` is for the client, not for the model."""

    body: Mapping[str, Any]
    is_error: bool = False
    meta: Mapping[str, Any] | None = None


def answered(body: Any, **more: Any) -> Outcome:
    """Returns the outcome of a call that did what it was to, in the words of tools."""
    return Outcome({**in_tool_words(body), **more})


def refused(code: str, error: str, *, retryable: bool = False, **more: Any) -> Outcome:
    """Returns the outcome of a call that did not, in the form of the API's errors."""
    return Outcome(
        {"error": error, "code": code, "retryable": retryable, **in_tool_words(more)},
        is_error=True,
    )


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


_PROJECT = ("project", Project)
_READS = Hints(reads=True)
_EXPECTED = '{"refundable_usd": as it said}'
_ADDS = Hints()
_SETS = Hints(repeatable=True)

_SHARED = (
    Tool(
        "wait_for_deployment",
        "Wait for a deployment",
        "Wait until a deployment is ready (then endpoint is its live address) or failed (then "
        "reason says why; log_tail is its log's end). Still deploying when time is up: call again.",
        WaitForDeployment,
        {**_PROGRESS, "next": _TEXT},
        _READS,
        ("status",),
    ),
    Tool(
        "list_projects",
        "List projects",
        "List this wallet's projects with status and address.",
        one_request(calls.PROJECTS),
        {"count": _WHOLE, "projects": _LIST},
        _READS,
        ("projects",),
    ),
    Tool(
        "get_project",
        "Show a project",
        "Show a project: status, address, domains, names of its variables, volume, burn per hour.",
        one_request(calls.PROJECT, _PROJECT),
        {"id": _TEXT, "name": _TEXT, "status": _TEXT, "url": _TEXT_OR_NULL},
        _READS,
        ("id", "name", "status"),
    ),
    Tool(
        "get_logs",
        "Read logs",
        "Read what an app (runtime) or its build (build) wrote, oldest line first.",
        GetLogs,
        {"lines": _LIST, "next": _TEXT, "ended": _YES_NO, "run": _OBJECT},
        _READS,
        ("lines", "next"),
    ),
    Tool(
        "run",
        "Run a command",
        "Run a command once in a copy of the app's files, with its variables and /data. get_logs "
        "with run_id shows what it wrote, and under run how it ended.",
        one_request(
            calls.RUN,
            _PROJECT,
            ("command", Annotated[str, Meta(description="a line for sh -c")]),
            argument("timeout_seconds", int, 600, ge=1, le=3600),
        ),
        {"run_id": _TEXT, "status": _TEXT},
        _ADDS,
        ("run_id", "status"),
    ),
    Tool(
        "set_variables",
        "Set variables",
        "Set or remove environment variables; what they hold is never shown again. The app is "
        "restarted with them: follow deployment_id with wait_for_deployment.",
        SetVariables,
        _STARTED,
        _SETS,
        ("status",),
    ),
    Tool(
        "rollback",
        "Roll back",
        "Serve an earlier release again, with the variables it had; /data stays as it is. Follow "
        "it with wait_for_deployment.",
        one_request(
            calls.ROLLBACK,
            _PROJECT,
            argument(
                "deployment", str, None, max_length=64, description="id; default what served before"
            ),
            renamed={"deployment": "deploymentId"},
        ),
        _STARTED,
        _ADDS,
        ("project_id", "deployment_id"),
    ),
    Tool(
        "restart",
        "Restart an app",
        "Start a project's app again. Follow it with wait_for_deployment.",
        one_request(calls.CHANGE, _PROJECT, always={"restart": True}),
        _STARTED,
        _ADDS,
        ("status",),
    ),
    Tool(
        "pause",
        "Pause an app",
        "Stop a project's app, which then burns nothing and keeps its files for a while; or, with "
        "paused false, start it again.",
        one_request(
            calls.CHANGE,
            _PROJECT,
            argument("paused", bool, True, description="false: start it again"),
        ),
        {"status": _TEXT, "message": _TEXT},
        _SETS,
        ("status",),
    ),
    Tool(
        "set_purse",
        "Set a purse",
        "Give a project credits to burn before its wallet's (shared), or limit its month.",
        one_request(
            calls.SET_PURSE,
            _PROJECT,
            argument("add_usd", float, None),
            argument("take_usd", float, None),
            argument("shared", bool, None),
            argument("limit_usd_month", float, None),
        ),
        {"balance_usd": _NUMBER},
        _ADDS,
        ("balance_usd",),
    ),
    Tool(
        "quote_refund",
        "Quote a refund",
        "Say what of the wallet's unused credits can go back to who paid them, and what stays.",
        one_request(
            calls.QUOTE_REFUND,
            argument("project_id", str, None, description="whose purse, by id"),
            argument("max_usd", float, None),
            argument("suspend", bool, None, description="pause what runs of these credits"),
        ),
        {"id": _TEXT, "refundable_usd": _NUMBER, "items": _LIST, "kept": _LIST, "ends": _LIST},
        Hints(reads=True),
        ("id", "refundable_usd"),
    ),
    Tool(
        "refund",
        "Take a refund",
        "Have what quote_refund says sent back. `events` tells how far it has come.",
        one_request(
            calls.REFUND,
            ("quote", Annotated[str, Meta(description="its id")]),
            (
                "expect",
                Annotated[dict[str, float], Meta(description=_EXPECTED)],
            ),
            argument("suspend", bool, None, description="as quoted"),
        ),
        {"id": _TEXT, "state": _TEXT, "items": _LIST},
        _ADDS,
        ("id", "state"),
    ),
    Tool(
        "adopt",
        "Adopt a project",
        "Have a project that was opened by a payment alone share its wallet's credits, with what "
        "is left of that payment.",
        one_request(calls.ADOPT, _PROJECT),
        {"status": _TEXT, "moved_usd": _NUMBER, "credits_usd": _NUMBER},
        Hints(repeatable=True),
        ("status",),
    ),
    Tool(
        "export_project",
        "Export a project",
        "Make an archive of a project: files, /data, logs, names of variables. Call again until "
        "state is ready; then url fetches it, and its sha256 deploys it as export_sha256.",
        one_request(
            calls.EXPORT,
            _PROJECT,
            argument(
                "public_key",
                str,
                None,
                description="X25519, in hex: variables are sealed to it, else left out",
                pattern=r"^[0-9a-f]{64}\Z",
            ),
            renamed={"public_key": "publicKey"},
        ),
        {"state": _TEXT, "url": _TEXT, "sha256": _TEXT, "bytes": _WHOLE, "reason": _TEXT},
        _ADDS,
        ("state",),
    ),
    Tool(
        "cancel",
        "Cancel a deployment",
        "End a deployment that is under way; what served before it serves on.",
        one_request(calls.CANCEL, _PROJECT, ("deployment", Deployment, "latest")),
        {"deployment_id": _TEXT, "status": _TEXT},
        Hints(destroys=True, repeatable=True),
        ("status",),
    ),
    Tool(
        "delete_project",
        "Delete a project",
        "Stop a project and delete its files and /data for good; unspent credits stay with the "
        "wallet. Without confirm_name it only says what would be deleted.",
        DeleteProject,
        {"status": _TEXT, "preview": _YES_NO, "next": _TEXT},
        Hints(destroys=True, repeatable=True),
        ("status",),
    ),
    Tool(
        "domains",
        "Manage domains",
        "List, add, verify or remove a project's own domains; add says which DNS records to set.",
        Domains,
        {"domain": _TEXT, "status": _TEXT, "records": _LIST, "domains": _LIST},
        Hints(destroys=True, repeatable=True),
    ),
    Tool(
        "credits",
        "Show credits",
        "Show the wallet's credits: balance, what burns them, when they run out, last changes.",
        one_request(
            calls.CREDITS,
            argument("limit", int, 10, description="changes to show", ge=1, le=100),
        ),
        {"balance_usd": _NUMBER, "burn_per_hour_usd": _NUMBER, "runs_out_at": _TEXT_OR_NULL},
        _READS,
        ("balance_usd",),
    ),
    Tool(
        "top_up",
        "Buy credits",
        "Pay for credits without deploying: projects run longer, suspended ones start again.",
        TopUp,
        {"credited_usd": _NUMBER, "balance_usd": _NUMBER, "tx_hash": _TEXT},
        _ADDS,
        ("credited_usd",),
    ),
    Tool(
        "usage",
        "Show usage",
        "Show traffic and resource use by the hour: requests, latency, bytes, CPU, memory.",
        one_request(
            calls.USAGE,
            _PROJECT,
            argument("since", str, None, description="ISO 8601; default a day ago"),
            argument("until", str, None),
            renamed={"since": "from", "until": "to"},
        ),
        {"totals": _OBJECT, "hours": _LIST},
        _READS,
        ("totals",),
    ),
    Tool(
        "events",
        "List events",
        "List what happened to this wallet's apps and credits, oldest first.",
        one_request(
            calls.EVENTS,
            argument("after", int, 0, description="`last_sequence` of the page before", ge=0),
            argument("limit", int, 20, ge=1, le=200),
        ),
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
    (schema,), parts = json_schemas([takes], ref_template="{name}")
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
