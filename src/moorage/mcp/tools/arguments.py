"""What each tool takes, and the request that it is. The structs are also the tools' input schemas.

Descriptions are for a model that reads all of them at once: short, and only what a name leaves
open.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

import msgspec
from msgspec import Meta

from moorage.wire import calls
from moorage.wire.calls import ApiRequest, Call

MAX_WAIT_SECONDS = 45
"""Clients give a tool 30 to 60 s."""

Project = Annotated[str, Meta(description="name or id", min_length=1, max_length=64)]
Deployment = Annotated[str, Meta(description="id, or latest", min_length=1, max_length=64)]
Key = Annotated[
    str,
    Meta(
        description="any text that names this call; the same call with it is done and paid once",
        pattern="^[!-~]{1,255}$",
    ),
]
Chain = Annotated[str, Meta(description="to pay on: arbitrum, base")]
Token = Annotated[str, Meta(description="usdc, usdt")]
Variables = dict[str, str | None]

UNLISTED = {"deprecated": True}
"""Marks an argument that is taken, but not listed."""

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

    def request(self) -> ApiRequest:
        """Returns the request: ids go into its path, what else is given into its query or body."""
        given = msgspec.structs.asdict(self)
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
        fields,
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
    health_path: str | None = None
    volume: Annotated[
        bool, Meta(description="true: /data is kept; other files are lost at the next deploy")
    ] = False
    run_envs: Annotated[dict[str, str], Meta(description="the app's variables")] | None = None
    build_vars: dict[str, str] | None = None


class App(Arguments, frozen=True, kw_only=True):
    """What is deployed."""

    name: Annotated[
        str,
        Meta(
            description="part of its address; your own existing name redeploys that project",
            pattern="^[A-Za-z0-9][A-Za-z0-9-]{2,30}[A-Za-z0-9]$",
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
        bool, Meta(description="true: may lose files that the running version wrote; else refused")
    ] = False
    dry_run: Annotated[bool, Meta(description="true: check and price only")] = False
    idempotency_key: Key | None = None


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
    tail: Annotated[int, Meta(description="last lines", ge=1, le=1000)] | None = None
    after: (
        Annotated[str, Meta(description="`next` of the page before", pattern="^[0-9]+$")] | None
    ) = None

    def request(self) -> ApiRequest:
        """Returns the request; 100 lines unless told otherwise."""
        tail = 100 if self.tail is None and self.after is None else self.tail
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
