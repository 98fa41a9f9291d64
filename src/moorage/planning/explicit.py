"""Checks the settings of a deploy request: commands, directories, stack, environment."""

import re
from typing import NamedTuple

from moorage.errors import InvalidField, RuntimeUnsupported
from moorage.planning.frameworks import Framework, framework_named
from moorage.planning.plan import Settings, Stack
from moorage.planning.recipe import quoted
from moorage.planning.wanted import Wanted, wanted_from

COMMAND_LIMIT = 4096  # characters
ENV_ENTRIES_LIMIT = 200
ENV_VALUE_LIMIT = 32_768  # characters; the kernel takes 131,072 bytes per string
DIRECTORY_LIMIT = 1024  # characters
_RUNTIME_FIELD = "settings.runtime"

_RUNTIMES = {
    "node": (Stack.NODE, "node"),
    "bun": (Stack.NODE, "bun"),
    "deno": (Stack.DENO, "deno"),
    "python": (Stack.PYTHON, "python"),
    "golang": (Stack.GO, "go"),
    "go": (Stack.GO, "go"),
    "rust": (Stack.RUST, "rust"),
    "php": (Stack.PHP, "php"),
    "ruby": (Stack.RUBY, "ruby"),
    "java": (Stack.JAVA, "java"),
    "static": (Stack.STATIC, ""),
}
# Written like image tags: node:20, node:20-alpine, node:lts; only numbers count.
_RUNTIME = re.compile(
    rf"({'|'.join(_RUNTIMES)})"
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
            f"files), {', '.join(_RUNTIMES)}, with or without a version (node:20)",
        )
    stack, program = _RUNTIMES[match[1]]
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
