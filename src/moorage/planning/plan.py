"""A build plan: the commands that turn an upload into a running app."""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec

from moorage.planning.reading.formats import in_place, table
from moorage.planning.toolbox import Tool
from moorage.records.project import Kind


class Stack(StrEnum):
    """What kind of app the files are."""

    NODE = "node"
    PYTHON = "python"
    DENO = "deno"
    GO = "go"
    RUST = "rust"
    JAVA = "java"
    RUBY = "ruby"
    PHP = "php"
    STATIC = "static"
    CUSTOM = "custom"  # only the commands of the settings
    DOCKERFILE = "dockerfile"  # an image of the upload's own Dockerfile, which is in `directory`


def _said(description: str) -> msgspec.Meta:
    """Describes a setting in OpenAPI."""
    return msgspec.Meta(description=description)


class PlannedSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Work by the clock: either a command beside the app, or a request to it, which wakes it."""

    name: Annotated[str, _said("of letters, digits and hyphens; it names the runs")]
    cron: Annotated[str, _said("five fields: minute, hour, day of month, month, day of week")]
    timezone: Annotated[str, _said("such as Europe/Berlin")] = "UTC"
    command: Annotated[str | None, _said("a line for sh -c, in a copy of the app's files")] = None
    path: Annotated[str | None, _said("is asked for by GET; 400 and above have failed")] = None
    timeout_seconds: Annotated[int, _said("at most 3600")] = 600


class Settings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`settings` of a deploy: each is optional, null is as if left out, an unknown one is a 400."""

    port: Annotated[
        int, _said("where the app is expected to listen, and its PORT; another one is found")
    ] = 3000
    runtime: Annotated[
        str,
        _said("the stack, with or without a version (node:20, python:3.12); build-ai: by files"),
    ] = "build-ai"
    use_build_ai: Annotated[bool, _said("no effect: the plan comes from the files")] = (
        msgspec.field(default=True, name="useBuildAI")
    )
    build_command: Annotated[
        str | None, _said('a line for sh -c; "" builds nothing; found by files without it')
    ] = None
    run_command: Annotated[
        str | None, _said("the line that starts the app; found by files without it")
    ] = None
    release_command: Annotated[str | None, _said("run once, before it serves: migrations")] = None
    kind: Annotated[Kind | None, _said("worker: no port; null: by the Procfile")] = None
    install_command: Annotated[
        str | None, _said('the line that installs dependencies; "" installs nothing')
    ] = None
    framework: Annotated[str | None, _said("a framework, whose stack is looked for first")] = None
    has_dockerfile: Annotated[bool, _said("build what the Dockerfile says")] = False
    directory_path: Annotated[
        str | None, _said("where in the upload the app is; null: its root, or where there is one")
    ] = None
    build_dir: Annotated[
        str | None, _said("below the app's directory: what holds a site once it is built")
    ] = None
    run_envs: Annotated[
        dict[str, str],
        _said(
            "variables of the running app, never shown again; a redeploy keeps those it does not "
            "name. Besides them an app gets PORT, HOST, NODE_ENV=production, and DATA_DIR with a "
            "volume"
        ),
    ] = {}
    build_vars: Annotated[
        dict[str, str], _said("variables of the install and build commands alone")
    ] = {}
    # Our own additions (2):
    health_path: Annotated[
        str | None, _said("must answer below 500 before the app is served; null: /, or as it was")
    ] = None
    size: Annotated[
        str | None, _said("a size of GET /agent/sizes; null: standard, or as it was")
    ] = None
    volume: Annotated[
        bool | None,
        _said(
            "true: the project has a /data (DATA_DIR) from now on; what an app writes elsewhere is "
            "lost at the next deploy"
        ),
    ] = None
    sleep_after_seconds: Annotated[
        int | None,
        _said("idle so long it sleeps; null: never, or as it was"),
    ] = None
    schedules: Annotated[
        list[PlannedSchedule], _said("what this version runs by the clock, at most 20")
    ] = []


class Stops(StrEnum):
    """What a risk would keep from happening."""

    BUILD = "build"
    START = "start"  # or every request
    REQUESTS = "requests"  # some of them


class RiskCode(StrEnum):
    """What may go wrong with an app here."""

    VARIABLE_UNSET = "variable_unset"  # the app insists on a variable that nothing sets
    SERVICE_ABSENT = "service_absent"  # a database or another service that nothing here runs
    PROGRAM_ABSENT = "program_absent"  # a program that the app runs, and no package brings
    LIBRARY_ABSENT = "library_absent"  # a package that needs libraries of the system
    PACKAGE_UNKNOWN = "package_unknown"  # an import that nothing installs
    FILE_ABSENT = "file_absent"  # an import of a file that the upload lacks
    NO_WHEEL = "no_wheel"  # a package that is not made for any Python here
    DISK_SHORT = "disk_short"  # packages larger than an app's disk
    HOST_REFUSED = "host_refused"  # the app refuses requests to the names that it has here
    PROCESS_LEFT_OUT = "process_left_out"  # a process beside the server that is not started


class Risk(msgspec.Struct, frozen=True, omit_defaults=True):
    """What may go wrong, and the one step that prevents it."""

    code: RiskCode
    stops: Stops
    message: str
    path: str = ""  # the file of the upload that tells
    variables: tuple[str, ...] = ()  # there is no risk once these are set


def risk_of(
    kind: str,
    path: str,
    variables: tuple[str, ...] = (),
    stops: Stops | None = None,
    **words: object,
) -> Risk:
    """Returns the risk of a row in `risks.toml`, with these words in its message."""
    code, stage, text = table("risks")["said"][kind]
    stops = stops or Stops(stage)
    words["names"], words["them"] = ", ".join(variables), "it" if len(variables) == 1 else "them"
    words["setting"] = "buildVars" if stops is Stops.BUILD else "runEnvs"
    return Risk(RiskCode(code), stops, text.format(path=path, **words), path, variables)


class Confidence(StrEnum):
    """How likely it is that an app is built and answers."""

    HIGH = "high"  # no risk is known
    MEDIUM = "medium"  # it starts, and some requests may fail
    LOW = "low"  # something must change first


def confidence(risks: Iterable[Risk]) -> Confidence:
    """Returns the confidence that risks leave."""
    stops = {risk.stops for risk in risks}
    if stops - {Stops.REQUESTS}:
        return Confidence.LOW
    return Confidence.MEDIUM if stops else Confidence.HIGH


class Plan(msgspec.Struct, frozen=True):
    """How to build and start an app. Commands are lines for `sh -c`, run in `directory`.

    A build runs in `/app`, holding the upload's files, as does the app afterwards.
    """

    stack: Stack
    directory: str  # below /app, "" is /app itself
    install: str | None
    build: str | None
    start: str  # sees PORT in its environment; "" for what an image starts by itself
    port: int  # where the app is expected to listen
    build_env: dict[str, str]  # from the planner; the deployer's are stored separately, sealed
    run_env: dict[str, str]
    because: tuple[str, ...]  # what was found and what follows, in sentences for a person
    # Programs put first on the PATH of builds and the app, with exact versions.
    toolchains: dict[str, str] = {}
    # The machine's own programs on that PATH, in the versions of the machine that planned.
    host_tools: dict[str, str] = {}
    # The files below /app that alone decide what the install makes; empty: all files do.
    install_inputs: tuple[str, ...] = ()
    # The machine's next older Python, where the app asks for none: tried if the install fails.
    older_python: str | msgspec.UnsetType = msgspec.UNSET
    # Variables for which each project gets a random value of its own, which it keeps.
    secrets: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    # The planned install, which failed: `install` was tried in its place.
    instead_of: str | msgspec.UnsetType = msgspec.UNSET
    # The SHA-256, in hex, of the files that the install read which failed.
    instead_of_inputs: str | msgspec.UnsetType = msgspec.UNSET
    # What may keep it from being built, started or answering; unset for nothing.
    risks: tuple[Risk, ...] | msgspec.UnsetType = msgspec.UNSET
    # What runs by the clock while this version serves; unset for nothing.
    schedules: tuple[PlannedSchedule, ...] | msgspec.UnsetType = msgspec.UNSET
    # Run once for each upload, after its build and before it serves; unset for nothing.
    release: str | msgspec.UnsetType = msgspec.UNSET
    # Unset: web.
    kind: Kind | msgspec.UnsetType = msgspec.UNSET

    @property
    def listens(self) -> bool:
        """Whether the app answers HTTP."""
        return self.kind is not Kind.WORKER

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, in hex: equal plans have the same build."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()


_QUOTED = 100  # characters of a command repeated in a sentence
_ROOT = "/app"  # where builds happen and apps run


class Recipe(NamedTuple):
    """A stack's way to build and start an app; commands run in the app's directory.

    `start` is None when the files belong to this stack but nothing says how to start them; then
    `missing` says what was looked for.
    """

    stack: Stack
    install: str | None = None
    build: str | None = None
    start: str | None = None
    because: tuple[str, ...] = ()
    run_env: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    build_env: tuple[tuple[str, str], ...] = ()
    tools: tuple[Tool, ...] = ()
    install_inputs: tuple[str, ...] = ()  # from the upload's root
    older_python: str = ""  # the next older one of the machine's, if any will do
    directory: str | None = None  # the app's, from the upload's root, if not the given folder
    secrets: tuple[str, ...] = ()  # see `Plan`
    risks: tuple[Risk, ...] = ()
    read: frozenset[str] = frozenset()  # all sources that the app reads, if that is known


def beside(recipe: Recipe, page: Recipe, *, builds: bool) -> Recipe:
    """Returns the recipe with the install and the build of a page that its app serves.

    Packages are installed first: builds of pages call programs of the app. `builds` is false where
    the app's own build runs that of the page.
    """
    has = {tool.program for tool in recipe.tools}
    inputs: tuple[str, ...] = ()
    if recipe.install_inputs or not recipe.install:
        inputs = tuple(sorted({*recipe.install_inputs, *page.install_inputs}))
    return recipe._replace(
        install=_both(recipe.install, page.install),
        build=_both(page.build, recipe.build) if builds else recipe.build,
        because=(*recipe.because, *page.because),
        risks=(*recipe.risks, *page.risks),
        build_env=(*page.build_env, *recipe.build_env),
        tools=(*recipe.tools, *(tool for tool in page.tools if tool.program not in has)),
        install_inputs=inputs if page.install_inputs or not page.install else (),
    )


def _both(first: str | None, second: str | None) -> str | None:
    if first and second:
        return f"(\n{first}\n) && (\n{second}\n)"
    return first or second


def no_port(what: str) -> str:
    """Returns the refusal of an app that nobody can visit; `what` says what it is."""
    step = (
        "let it do so beside its work, deploy the web app that it belongs to, or send "
        'settings.kind "worker" if nobody is to visit it'
    )
    if "an MCP server" in what:
        step = 'let it run with the transport "streamable-http", on host 0.0.0.0 and port PORT'
    if "a desktop program" in what:
        step = "make it a page, which answers HTTP on PORT"
        return f"{what}, which needs a screen, and none is here: {step}"
    return (
        f"{what}, which listens on no port, and what is deployed here must answer HTTP on PORT: "
        f"{step}"
    )


def quoted(command: str) -> str:
    """Returns a command for a sentence: its first line, cut to a readable length."""
    line, newline, _ = command.partition("\n")
    return f"{line[:_QUOTED]} …" if newline or len(line) > _QUOTED else line


def with_path(command: str, *directories: str) -> str:
    """Returns the command with these directories of the app first on its PATH."""
    return f'PATH="{"".join(f"$PWD/{d}:" for d in directories)}$PATH"\n{in_place(command)}'


def in_app(path: str) -> str:
    """Returns the path of an uploaded file for programs that build and run."""
    return f"{_ROOT}/{path}".rstrip("/")
