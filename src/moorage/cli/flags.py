"""Flags and variables of a deploy, and the gateway's sentences with flags in place of fields."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from cyclopts import Parameter

from moorage.sdk.budget import dollars_of
from moorage.sdk.client import Settings
from moorage.sdk.errors import ClientMisconfigured
from moorage.wire.deploy import DeployPurse

Switch = Annotated[bool, Parameter(negative=())]
"""A flag without the `--no-` that others have."""


_SECONDS_IN = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_IDLE = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[smhd]?)", re.ASCII)


def idle_seconds(text: str) -> int:
    """Returns the seconds of `90`, `90s`, `10m`, `2h` or `1d`. Raises ClientMisconfigured."""
    found = _IDLE.fullmatch(text)
    if found is None:
        raise ClientMisconfigured(f"--sleep: {text!r} is no time, such as 90s, 10m or 2h")
    return int(found["number"]) * _SECONDS_IN[found["unit"]]


class VariableReader:
    """Reads `NAME=VALUE`, `NAME=@FILE`, `NAME=-` and `NAME`, for one run of a command.

    `environment` is where a `NAME` alone is looked up, `stdin` what a `-` takes whole, once.
    """

    def __init__(self, environment: Mapping[str, str], stdin: BinaryIO) -> None:
        self._environment = environment
        self._stdin = stdin
        self._piped: str | None = None  # the variable that took standard input

    def read(self, texts: Iterable[str], *, of: str = "") -> dict[str, str]:
        """The variables by name; `of` is the flag they came with, if one did.

        Raises ClientMisconfigured, which names the variable and never shows what it holds.
        """
        return dict(self._read(text, of and f"{of} ") for text in texts)

    def _read(self, text: str, before: str) -> tuple[str, str]:
        name, equals, value = text.partition("=")
        shown = f"{before}{name}"
        if not equals:
            if name not in self._environment:
                raise ClientMisconfigured(f"{shown}: it is not set here; write {name}=VALUE")
            return name, self._environment[name]
        if value == "-":
            return name, _text(shown, self._take_stdin(shown))
        if value.startswith("@"):
            return name, _text(shown, _content(shown, Path(value[1:])))
        return name, value

    def _take_stdin(self, shown: str) -> bytes:
        if self._piped is not None:
            raise ClientMisconfigured(f"{shown}: {self._piped} has taken standard input already")
        self._piped = shown
        return self._stdin.read()


def _content(shown: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientMisconfigured(f"{shown}: {path} cannot be read: {error.strerror}") from error


def _text(shown: str, content: bytes) -> str:
    """What a file or a pipe holds, without the last line's end."""
    try:
        return content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise ClientMisconfigured(f"{shown}: its value is not UTF-8 text") from None


def _schedules(path: Path) -> list[dict[str, str | int]]:
    try:
        content = _content("--schedules", path)
        return msgspec.json.decode(content, type=list[dict[str, str | int]])
    except msgspec.DecodeError as error:
        raise ClientMisconfigured(f"--schedules: {path} holds no list: {error}") from None


@Parameter(name="*", group="App")
@dataclass(frozen=True, kw_only=True)
class AppFlags:
    """What a person may say about an app beside its files."""

    directory: Annotated[
        str | None, Parameter(help="The app's directory below DIRECTORY, in a monorepo")
    ] = None
    runtime: Annotated[
        str | None, Parameter(help="Language, such as node:22 or python, if the files don't say")
    ] = None
    framework: Annotated[
        str | None, Parameter(help="Framework, such as next, if the files leave it open")
    ] = None
    dockerfile: Annotated[bool, Parameter(help="Build what its Dockerfile says", negative=())] = (
        False
    )
    install: Annotated[
        str | None, Parameter(help="Command that installs dependencies, if not the usual one")
    ] = None
    build: Annotated[str | None, Parameter(help="Command that builds, if not the usual one")] = None
    build_dir: Annotated[
        str | None, Parameter(help="Directory to serve, of a static site or left by the build")
    ] = None
    run: Annotated[
        str | None, Parameter(help="Command that starts the app, if not the usual one")
    ] = None
    release: Annotated[
        str | None, Parameter(help="Command run once before a new version serves: migrations")
    ] = None
    worker: Annotated[
        bool, Parameter(help="It listens on no port, and gets no address", negative=())
    ] = False
    port: Annotated[int | None, Parameter(help="Port the app listens on (it is told as PORT)")] = (
        None
    )
    health_path: Annotated[
        str | None, Parameter(help="Path that must answer below 500 before it is served; /")
    ] = None
    size: Annotated[
        str | None, Parameter(help="Size of the app, of those that `moorage sizes` lists")
    ] = None
    volume: Annotated[
        bool, Parameter(help="Give it a /data that outlives its versions", negative=())
    ] = False
    sleep: Annotated[
        str | None,
        Parameter(help="Have it sleep, for less, when it is idle for so long, such as 10m"),
    ] = None
    schedules: Annotated[
        Path | None, Parameter(help="File with a JSON list of what it runs by the clock")
    ] = None
    env: Annotated[
        list[str] | None,
        Parameter(
            help="Variable of the app: NAME=VALUE; for secrets, which shells keep in their "
            "history, NAME=@FILE, NAME=- (standard input), or NAME (from your environment)",
            negative=(),
        ),
    ] = None
    build_env: Annotated[
        list[str] | None, Parameter(help="Variable of its build, in the same ways", negative=())
    ] = None

    purse: Annotated[
        str | None, Parameter(help="Dollars of your credits that a new project burns first")
    ] = None
    shared: Annotated[bool, Parameter(help="Whether it burns your credits after that")] = True
    limit: Annotated[
        str | None, Parameter(help="Most dollars that a new project burns in a month (UTC)")
    ] = None

    def asked_purse(self) -> DeployPurse | None:
        """Returns what the request asks for of a new project's purse; None if nothing."""
        asked = DeployPurse(
            usd=dollars_of(self.purse or "0", of="--purse"),
            shared=self.shared,
            limit_usd_month=None if self.limit is None else dollars_of(self.limit, of="--limit"),
        )
        return None if asked == DeployPurse() else asked

    def settings(self, reader: VariableReader) -> Settings:
        """The settings of the request. Raises ClientMisconfigured for a variable without value."""
        named = {
            field.name: getattr(self, _NAMED_OTHERWISE.get(field.name, field.name))
            for field in msgspec.structs.fields(Settings)
        }
        named["sleep_after_seconds"] = None if self.sleep is None else idle_seconds(self.sleep)
        named["kind"] = "worker" if self.worker else None
        named["run_envs"] = reader.read(self.env or (), of="--env") or None
        named["build_vars"] = reader.read(self.build_env or (), of="--build-env") or None
        if self.schedules is not None:
            named["schedules"] = _schedules(self.schedules)
        return Settings(**named)


NO_FLAGS = AppFlags()

_NAMED_OTHERWISE = {
    "has_dockerfile": "dockerfile",
    "directory_path": "directory",
    "install_command": "install",
    "build_command": "build",
    "run_command": "run",
    "release_command": "release",
    "kind": "worker",
    "run_envs": "env",
    "sleep_after_seconds": "sleep",
    "build_vars": "build_env",
}
"""Fields of `AppFlags` by the setting that they set, where the names differ."""


def setting_flags() -> Iterable[tuple[str, str]]:
    """Pairs of a setting, as the contract names it, and its flag."""
    for field in msgspec.structs.fields(Settings):
        flag = _NAMED_OTHERWISE.get(field.name, field.name)
        yield field.encode_name, "--" + flag.replace("_", "-")


_WORDS = {
    "uniqueName": "--name",
    "displayName": "--display-name",
    "healthPath": "--health-path",
    "sleepAfterSeconds": "--sleep",
    "installCommand": "--install",
    "buildCommand": "--build",
    "settings.volume: true": "--volume",
    'settings.kind "worker"': "--worker",
    "settings.runCommand": "--run",
    "discard_written: true": "--discard-written",
    "settings.hasDockerfile: true": "--dockerfile",
    "X-Payment-Chain": "--chain",
    "X-Payment-Token": "--token",
    "header X-Use-Existing-Credits: true": "--use-existing-credits",
    "X-Use-Existing-Credits: true": "--use-existing-credits",
    "POST …/domains": "`moorage domains add`",
    "POST …/verify": "`moorage domains verify`",
    "POST /agent/credits": "`moorage topup`",
    "GET /agent/projects": "`moorage projects`",
    "PUT /agent/webhook": "`moorage webhook set`",
}
_WORDS |= {f"settings.{name}": flag for name, flag in setting_flags()}
_VARIABLES = {"settings.runEnvs.": "--env ", "settings.buildVars.": "--build-env "}
_FOUND = re.compile(
    r"(?<![\w./-])(?:"
    + "|".join(
        [
            *(re.escape(each) + r"(?=\w)" for each in _VARIABLES),
            *(re.escape(each) + r"(?![\w/-])" for each in _WORDS),
        ]
    )
    + ")"
)


def in_cli_words(text: str) -> str:
    """`text` with flags in place of settings, and commands in place of calls."""
    return _FOUND.sub(lambda match: (_VARIABLES | _WORDS)[match[0]], text)
