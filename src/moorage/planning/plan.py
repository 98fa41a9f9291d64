"""A build plan: what is run to turn an upload into a running app."""

import hashlib
from enum import StrEnum

import msgspec


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
    CUSTOM = "custom"  # only the explicit commands of the settings


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
    run_envs: dict[str, str] = {}
    build_vars: dict[str, str] = {}
    # Ours (2):
    health_path: str | None = None  # what must answer before an app is served
    volume: bool = False  # the project has a /data from now on


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
    build_env: dict[str, str]  # what the planner derives; the deployer's are stored apart, sealed
    run_env: dict[str, str]
    because: tuple[str, ...]  # what was found and what follows, a sentence each, for a person
    # Programs that builds and the app find first on their PATH, with their exact versions.
    toolchains: dict[str, str] = {}
    # What they find there besides, as the machine that planned has it.
    host_tools: dict[str, str] = {}
    # The files that alone decide what the install makes, below /app; none: all files do.
    install_inputs: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over the whole plan, hex: equal plans build equally."""
        return hashlib.sha256(msgspec.json.encode(self, order="deterministic")).hexdigest()
