"""Plans an app from a Dockerfile of any kind, for engines that can build it as an image.

Only what is wrong for sure is refused here; the builder knows the rest.
"""

import re

from moorage.errors import InvalidField, RuntimeUnsupported
from moorage.planning.dockerfile.parser import (
    KNOWN,
    TEXT_LIMIT,
    expand,
    heredocs_of,
    logical_line,
    refused,
    split,
)
from moorage.planning.explicit import Asked
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.toolbox import Dockerfiles

FILE = "Dockerfile"
_PORTS = 65_536
_ROOT = ("root", "0")
_ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=[ \t]*`[ \t]*\Z", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#[ \t]*\w+[ \t]*=")
_FRONTEND = re.compile(r"#[ \t]*syntax[ \t]*=[ \t]*(\S+)", re.IGNORECASE)
_OFFICIAL = re.compile(
    r"(?:docker\.io/)?docker/dockerfile(?::1[\w.-]*)?(?:@sha256:[0-9a-f]{64})?\Z"
)
_ADDRESS = re.compile(r"(?:\A|[\s\"'])(?:[a-z]+://|git@)", re.IGNORECASE)
_WORDS = KNOWN | {"SHELL", "ONBUILD"}


def planned(
    folder: Folder,
    settings: Settings,
    asked: Asked,
    because: tuple[str, ...],
    how: Dockerfiles = Dockerfiles.BUILT,
) -> Plan:
    """Returns the plan of the folder's Dockerfile; its directory is the build's context.

    Raises RuntimeUnsupported, naming the line, and InvalidField for commands beside it.
    """
    if not folder.has(FILE):
        where = f" in {folder.directory}" if folder.directory else ""
        raise RuntimeUnsupported(
            "settings.hasDockerfile",
            f"there is no Dockerfile{where}; send hasDockerfile: false to plan from the files",
        )
    for name, command in (("installCommand", asked.install), ("buildCommand", asked.build)):
        if command:
            raise InvalidField(f"settings.{name}", "is not used beside hasDockerfile: true")
    text = folder.text(FILE, limit=TEXT_LIMIT)
    found = _instructions(text)
    bases = _bases(found)
    port = _port(found) or settings.port
    user, line = _user(found)
    if how is Dockerfiles.ROOTLESS and user.partition(":")[0] in _ROOT:
        raise refused(line, f"USER {user}", "an app is never root here: leave the line out")
    said = [*because, f"settings.hasDockerfile is true: an image is built from {bases}"]
    if folder.has(".dockerignore"):
        said.append(".dockerignore leaves files out of the build")
    if how is Dockerfiles.ROOTLESS:
        said.append(f"the app runs as {user or 'the image says, and as user 1000 if that is root'}")
    if settings.build_vars:
        said.append(
            "settings.buildVars are build arguments where ARG names them, and secrets for "
            "RUN --mount=type=secret,id=NAME"
        )
    said.append(
        asked.run_because
        or f"the image's own command starts it, with PORT={port} in its environment"
    )
    return Plan(
        stack=Stack.DOCKERFILE,
        directory=folder.directory,
        install=None,
        build=None,
        start=asked.run or "",
        port=port,
        build_env={},
        run_env={},
        because=tuple(said),
    )


def _instructions(text: str) -> list[tuple[int, str, str]]:
    """Returns each instruction's line, name and text, without the content of heredocs."""
    if "\0" in text:
        raise refused(text.count("\n", 0, text.index("\0")) + 1, "NUL", "it is no text")
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape = _escape(lines)
    found: list[tuple[int, str, str]] = []
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        if not line or line.startswith("#"):
            number += 1
            continue
        first = number + 1
        joined, number = logical_line(lines, number, escape)
        name, *others = joined.split(None, 1) or [escape]
        found.append(_checked(first, name.upper(), "".join(others)))
        _, number = heredocs_of(joined, lines, number)
    return found


def _escape(lines: list[str]) -> str:
    """Returns the escape character. Raises RuntimeUnsupported for a syntax that is not Docker's."""
    escape = "\\"
    for number, line in enumerate(map(str.strip, lines), start=1):
        if _DIRECTIVE.match(line) is None:
            break
        escape = "`" if _ESCAPE.match(line) else escape
        frontend = _FRONTEND.match(line)
        if frontend and not _OFFICIAL.match(frontend[1]):
            raise refused(number, line, "only docker/dockerfile:1 is understood here")
    return escape


def _checked(line: int, name: str, text: str) -> tuple[int, str, str]:
    if name not in _WORDS:
        raise refused(line, f"{name} {text}", f"{name[:20]} is no instruction")
    if name == "ADD" and _ADDRESS.search(text):
        raise refused(line, f"{name} {text}", "ADD of an address is not built: RUN curl or git")
    return line, name, text


def _bases(found: list[tuple[int, str, str]]) -> str:
    """Returns the images that stages begin with, for a sentence. Raises RuntimeUnsupported."""
    images: list[str] = []
    names: set[str] = set()
    for line, name, text in found:
        if name != "FROM":
            if not images and name != "ARG":
                raise refused(line, f"{name} {text}", "FROM must come first")
            continue
        words = [word for word in text.split() if not word.startswith("--")]
        if not words:
            raise refused(line, "FROM", "it must be FROM image, or FROM image AS name")
        if words[0].lower() not in names:
            images.append(words[0])
        names.update(word.lower() for word in words[2:3])
    if not images:
        raise refused(1, FILE, "it has no FROM")
    shown = list(dict.fromkeys(image[:100] for image in images))
    return ", ".join(shown[:5]) + (" …" if shown[5:] else "")


def _port(found: list[tuple[int, str, str]]) -> int | None:
    """Returns the first TCP port that the last stage exposes; None if it exposes none."""
    port: int | None = None
    ports: dict[str, int | None] = {}  # by the names of stages
    stage = ""
    variables: dict[str, str] = {}
    for _, name, text in found:
        if name == "FROM":
            ports[stage] = port
            words = [word.lower() for word in text.split() if not word.startswith("--")]
            port, stage = ports.get(words[0]), "".join(words[2:3])
        elif name in ("ARG", "ENV"):
            pairs = (word.partition("=") for word in split(text, variables))
            variables.update({key: value for key, equals, value in pairs if equals})
        elif name == "EXPOSE" and port is None:
            port = _number(expand(text, variables))
    return port


def _user(found: list[tuple[int, str, str]]) -> tuple[str, int]:
    """Returns the user that the last stage ends with, and the line; "" where it names none."""
    user, at = "", 0
    users: dict[str, tuple[str, int]] = {}  # by the names of stages
    stage = ""
    for line, name, text in found:
        if name == "FROM":
            users[stage] = user, at
            words = [word.lower() for word in text.split() if not word.startswith("--")]
            (user, at), stage = users.get(words[0], ("", 0)), "".join(words[2:3])
        elif name == "USER":
            user, at = text.strip(), line
    return user, at


def _number(exposed: str) -> int | None:
    """Returns the first port of an EXPOSE, if it is one of TCP."""
    number, _, protocol = (exposed.split() or [""])[0].partition("/")
    if not (number.isascii() and number.isdigit()) or protocol.lower() not in ("", "tcp"):
        return None
    return int(number[:6]) if 0 < int(number[:6]) < _PORTS else None
