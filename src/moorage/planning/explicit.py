"""Checks the settings of a deploy request: commands, directories, stack, environment."""

import re
from typing import NamedTuple

from moorage.errors import InvalidField, RuntimeUnsupported
from moorage.planning.frameworks import Framework, framework_named
from moorage.planning.kinds import RUNTIMES
from moorage.planning.plan import Recipe, Settings, Stack, quoted
from moorage.planning.reading import semver
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Range, Version
from moorage.planning.toolbox import All, Tool, Toolbox
from moorage.records.project import Kind

_TEXT_LIMIT = 64  # characters of a version in a sentence
_FILE_LIMIT = 4096  # bytes


class Wanted(NamedTuple):
    """The versions of a program that are acceptable."""

    text: str  # as it is written
    source: str  # the file or the setting that asks for them
    range: Range
    is_strict: bool = True  # else the nearest is accepted, as for a version manager's file

    def __str__(self) -> str:
        return f"{self.source} asks for {self.text[:_TEXT_LIMIT]}"


class Found(NamedTuple):
    """The tool chosen, and a sentence that says why, or ""."""

    tool: Tool
    because: str = ""


def pinned(folder: Folder, file: str) -> str:
    """Returns the version in a file of one line; "" without the file."""
    if not folder.has(file):
        return ""
    lines = folder.data(file, limit=_FILE_LIMIT).decode(errors="replace").splitlines()
    said = (line.split("#")[0].strip() for line in lines)
    return next((line for line in said if line), "")


def pinned_tool(folder: Folder, *names: str) -> tuple[str, str]:
    """Returns a program's version in a file of a version manager or a host; "" and "" without."""
    either, variable = "|".join(names), "|".join(f"{name.upper()}_VERSION" for name in names)
    for file, pattern in (
        (".tool-versions", rf"^(?:{either})[ \t]+([^\s#]{{1,40}})"),
        ("mise.toml", rf"^['\"]?(?:{either})['\"]?[ \t]*=[ \t]*['\"]([^'\"\n]{{1,40}})['\"]"),
        (".mise.toml", rf"^['\"]?(?:{either})['\"]?[ \t]*=[ \t]*['\"]([^'\"\n]{{1,40}})['\"]"),
        ("netlify.toml", rf"^[ \t]*(?:{variable})[ \t]*=[ \t]*['\"]([^'\"\n]{{1,40}})['\"]"),
        (
            "render.yaml",
            rf"\bkey:[ \t]*(?:{variable})[ \t]*\n[ \t]*value:[ \t]*['\"]?([\w.]{{1,40}})",
        ),
    ):
        if not folder.has(file):
            continue
        text = folder.data(file, limit=_FILE_LIMIT).decode(errors="replace")
        match = re.search(pattern, text, re.MULTILINE)
        if match is not None:
            return match[1], file
    return "", ""


def wanted_from(text: str, source: str, *, is_strict: bool = True) -> Wanted | None:
    """Reads a range of npm's grammar; None when it isn't one."""
    found = semver.version_range(text) if text else None
    return Wanted(text, source, found, is_strict) if found is not None else None


def find_tool(
    toolbox: Toolbox,
    program: str,
    wanted: Wanted | None,
    *,
    also: Range = semver.ANY,
    file: str = "upload",
) -> Found:
    """Returns a tool that fits what is wanted, and what the rest of the app needs (`also`).

    Raises RuntimeUnsupported, naming what asks for it, or the `file` that needs it, when none is
    available.
    """
    both = All((wanted.range if wanted else semver.ANY, also))
    tool = toolbox.choose(program, both, preferred=is_kept_long if program == "node" else None)
    if tool is not None:
        return Found(tool, f"{wanted}: {tool}" if wanted else "")
    if wanted is not None and not wanted.is_strict:
        tool = _nearest(toolbox, program, wanted.range.lowest, also)
        if tool is not None:
            return Found(tool, f"{wanted}, which is not to be had here: the nearest is {tool}")
    field = wanted.source if wanted else file
    asked = (
        f"{program} {wanted.text[:_TEXT_LIMIT]} is asked for" if wanted else f"{program} is needed"
    )
    if not toolbox.has(program):
        said = f"{asked}, but this gateway has no {program}. {toolbox.otherwise}"
        raise RuntimeUnsupported(field, said)
    offer = toolbox.offer(program, near=wanted.range.lowest if wanted else None)
    said = f"{asked}, but this gateway has {program} {offer}: ask for one that it has"
    raise RuntimeUnsupported(field, said)


def is_kept_long(version: Version) -> bool:
    """Whether it is an even major of Node, which is maintained for years (release schedule)."""
    return version.major % 2 == 0


def _nearest(toolbox: Toolbox, program: str, to: Version, also: Range) -> Tool | None:
    """Returns the tool of the closest version: of the same major first, then later ones first."""
    tools = [tool for tool in toolbox.tools(program) if also.allows(tool.version)]
    return min(tools, key=lambda tool: _distance(tool.version, to), default=None)


def _distance(version: Version, to: Version) -> tuple[int, int, int, bool]:
    return (
        abs(version.major - to.major),
        abs(version.minor - to.minor),
        abs(version.patch - to.patch),
        version < to,
    )


COMMAND_LIMIT = 4096  # characters
ENV_ENTRIES_LIMIT = 200
ENV_VALUE_LIMIT = 32_768  # characters; the kernel takes 131,072 bytes per string
DIRECTORY_LIMIT = 1024  # characters
_RUNTIME_FIELD = "settings.runtime"

# Written like image tags: node:20, node:20-alpine, node:lts; only numbers count.
_RUNTIME = re.compile(
    rf"({'|'.join(RUNTIMES)})"
    r"(?::(?=[0-9A-Za-z])v?(\d{1,4}(?:\.\d{1,4}){0,2})?(?:[.-]?[A-Za-z][0-9A-Za-z.\-]{0,31})?)?\Z"
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


class Asked(NamedTuple):
    """The checked settings. A command is None if not given, "" if its step is skipped."""

    install: str | None
    build: str | None
    run: str | None
    run_because: str  # why `run` is what it is, a sentence
    stack: Stack | None
    program: str  # the program that settings.runtime names, "" for none
    version: Wanted | None  # its version, as settings.runtime has it
    framework: Framework | None
    directory: str  # "" is the upload's root
    build_dir: str | None
    run_from: str = ""  # the file that `run` is from, "" for settings.runCommand
    build_dir_from: str = ""  # the file that `build_dir` is from, "" for settings.buildDir
    said: tuple[str, ...] = ()  # of other hosts' files: what they decided, in sentences
    release: str | None = None
    kind: Kind | None = None

    def version_of(self, program: str) -> Wanted | None:
        """The version of a program that settings.runtime names; None without one."""
        return self.version if self.program == program else None

    def over(self, own: Recipe) -> Recipe:
        """Returns a stack's recipe with the given commands in place of its own."""
        return own._replace(
            install=own.install if self.install is None else self.install,
            build=own.build if self.build is None else self.build,
            start=self.run or own.start,
            because=tuple(filter(None, own.because)),
        )

    @property
    def is_worker(self) -> bool:
        """Whether nobody is to visit the app."""
        return self.kind is Kind.WORKER

    @property
    def seeks_server(self) -> bool:
        """Whether planning looks for a program that answers visitors."""
        return self.run is None and not self.is_worker

    def leaves_database(self, word: str) -> bool:
        """Whether a Procfile starts the app, and none of its lines has what updates a database."""
        is_procfiles = self.run_from.endswith("Procfile")
        return is_procfiles and self.release is None and word not in (self.run or "")

    @property
    def commands(self) -> bool:
        """Whether any command was given."""
        return not (self.install is None and self.build is None and self.run is None)


def asked(settings: Settings) -> Asked:
    """Checks the settings. Raises InvalidField or RuntimeUnsupported, naming the setting."""
    run = _command("settings.runCommand", settings.run_command)
    if run == "":
        raise InvalidField("settings.runCommand", "must not be empty; leave it out to detect it")
    stack, program, version = _runtime(settings.runtime)
    return Asked(
        install=_command("settings.installCommand", settings.install_command),
        build=_command("settings.buildCommand", settings.build_command),
        run=run,
        run_because=f"settings.runCommand starts it: {quoted(run)}" if run else "",
        stack=stack,
        program=program,
        version=version,
        framework=_framework(settings.framework),
        directory=directory("settings.directoryPath", settings.directory_path) or "",
        build_dir=directory("settings.buildDir", settings.build_dir),
        release=_command("settings.releaseCommand", settings.release_command),
        kind=settings.kind,
    )


def directory(field: str, value: str | None) -> str | None:
    """Returns a relative directory, normalised; "" is the root; None when none is given.

    "/", ".", "./dist" and "/dist/" are what existing clients send for the root and for `dist`.
    Raises InvalidField for what could leave the upload.
    """
    if not value:
        return None
    if len(value) > DIRECTORY_LIMIT:
        raise InvalidField(field, f"must have at most {DIRECTORY_LIMIT:,} characters")
    if "\0" in value or "\\" in value or not _is_unicode(value):
        raise InvalidField(field, "must be a path of names separated by /")
    parts = [part for part in value.strip().split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidField(field, "must not contain '..'")
    return "/".join(parts)


def environment(field: str, variables: dict[str, str], *, port: int) -> dict[str, str]:
    """Checks the variables; returns them without PORT, which comes from settings.port.

    Raises InvalidField for a name the shell can't set, for NUL, for too many or too long ones, and
    for a PORT that contradicts settings.port.
    """
    if not variables:
        return {}
    if len(variables) > ENV_ENTRIES_LIMIT:
        raise InvalidField(field, f"must have at most {ENV_ENTRIES_LIMIT} entries")
    for name, value in variables.items():
        if not _ENV_NAME.match(name):
            raise InvalidField(field, f"{name[:128]!r} is not a name of letters, digits and _")
        if len(value) > ENV_VALUE_LIMIT:
            raise InvalidField(f"{field}.{name}", f"must be at most {ENV_VALUE_LIMIT:,} characters")
        if "\0" in value or not _is_unicode(value):
            raise InvalidField(f"{field}.{name}", "must be text without NUL")
    if variables.get("PORT", str(port)).strip() != str(port):
        raise InvalidField(f"{field}.PORT", "contradicts settings.port; set that instead")
    return {name: value for name, value in variables.items() if name != "PORT"}


def _command(field: str, value: str | None) -> str | None:
    if value is None:
        return None
    if len(value) > COMMAND_LIMIT:
        raise InvalidField(field, f"must have at most {COMMAND_LIMIT:,} characters")
    if "\0" in value or not _is_unicode(value):
        raise InvalidField(field, "must be text without NUL")
    return value.strip()


def _runtime(runtime: str) -> tuple[Stack | None, str, Wanted | None]:
    """Returns the stack, the program and its version; empty ones if the files decide."""
    if runtime == "build-ai":
        return None, "", None
    match = _RUNTIME.match(runtime)
    if match is None:
        raise RuntimeUnsupported(
            _RUNTIME_FIELD,
            f"{runtime[:64]!r} is not a runtime of this gateway; it has build-ai (found from the "
            f"files), {', '.join(RUNTIMES)}, with or without a version (node:20)",
        )
    stack, program = RUNTIMES[match[1]]
    version = wanted_from(match[2], _RUNTIME_FIELD) if match[2] and program else None
    return stack, program, version


def _framework(name: str | None) -> Framework | None:
    if not name or not name.strip():
        return None
    folded = name.strip().lower()
    framework = framework_named(folded)
    if framework is None:
        raise InvalidField(
            "settings.framework",
            f"{name[:64]!r} is not a framework this gateway knows; leave it out to go by the files",
        )
    return framework


def _is_unicode(text: str) -> bool:
    """Whether the text can be encoded as UTF-8; a lone surrogate can't."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
