"""A build plan: the commands that turn an upload into a running app."""

import hashlib
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta


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


class Settings(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`settings` of a deploy request, merged over the contract's defaults (1.2)."""

    port: int = 3000
    runtime: str = "build-ai"
    use_build_ai: bool = msgspec.field(default=True, name="useBuildAI")
    build_command: str | None = None
    run_command: str | None = None
    install_command: str | None = None
    framework: str | None = None
    has_dockerfile: bool = False
    directory_path: str | None = None
    build_dir: str | None = None
    run_envs: Annotated[
        dict[str, str],
        Meta(description="variables of the app; merged over the project's at a redeploy"),
    ] = {}
    build_vars: Annotated[
        dict[str, str],
        Meta(description="variables of install and build; merged over the project's"),
    ] = {}
    # Our own additions (2):
    health_path: (
        Annotated[str, Meta(description="must answer below 500 before the app is served; kept")]
        | None
    ) = None
    volume: Annotated[
        bool,
        Meta(
            description="true: the project has a /data from now on, kept over redeploys until the "
            "project is deleted. Whatever the app writes elsewhere is lost with the next deploy."
        ),
    ] = False


class Plan(msgspec.Struct, frozen=True):
    """How to build and start an app. Commands are lines for `sh -c`, run in `directory`.

    A build runs in `/app`, holding the upload's files, as does the app afterwards.
    """

    stack: Stack
    directory: str  # below /app, "" is /app itself
    install: str | None
    build: str | None
    start: str  # sees PORT in its environment
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

    @property
    def digest(self) -> str:
        """SHA-256 of the whole plan, in hex: equal plans have the same build."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
