"""Reads a Dockerfile into instructions; refuses what planning can't follow.

Source: the Dockerfile reference, for frontend version 1. ONBUILD and other shells are refused.
"""

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from moorage.errors import RuntimeUnsupported
from moorage.planning.reading.formats import word_set

TEXT_LIMIT = 65_536  # bytes
_INSTRUCTIONS_LIMIT = 200
_EXPANDED_LIMIT = 65_536  # characters of one instruction, its variables replaced
_SHOWN = 100  # characters of an instruction in a refusal

KNOWN = word_set(
    "FROM ARG ENV WORKDIR COPY ADD RUN USER EXPOSE CMD ENTRYPOINT LABEL MAINTAINER VOLUME "
    "STOPSIGNAL HEALTHCHECK"
)
_DIRECTIVE = re.compile(r"#[ \t]*(\w+)[ \t]*=[ \t]*(\S+)[ \t]*\Z")
_FLAG = re.compile(r"--([a-z]+)(?:=(\S*))?(?:\s+|\Z)")
_HEREDOC = re.compile(r"<<(-?)[ \t]*(['\"]?)([A-Za-z_]\w*)\2")
# A shell whose plain commands are those of any other: then nothing changes.
_SHELL = re.compile(r'SHELL\s*\[\s*"/bin/(?:ba|a)?sh"(?:\s*,\s*"(?:-\w+|pipefail)")*\s*\]\Z', re.I)
_HALF_OF_A_PAIR = re.compile(r"[\ud800-\udfff]")  # JSON may escape it, UTF-8 has no bytes for it
_EXEC_FORM = ("CMD", "ENTRYPOINT", "RUN", "COPY", "ADD", "VOLUME")
_VARIABLE = re.compile(r"\\([\s\S])|\$(\w+)|\$\{(\w+)(?::?([-+])([^{}]*))?\}")
_WORD_PART = re.compile(
    r"(?P<space>\s+)|'(?P<single>[^']*)'|\"(?P<double>(?:[^\"\\]|\\[\s\S])*)\""
    r"|(?P<plain>(?:[^\s'\"\\$]|\\[\s\S]|\$\{[^{}]*\}|\$)+)|(?P<odd>[\s\S])"
)


class Instruction(NamedTuple):
    """One instruction, its continuation lines joined."""

    line: int  # its first, from 1
    name: str  # in upper case
    flags: tuple[tuple[str, str], ...]
    text: str
    words: tuple[str, ...] | None  # of the exec form; None for the shell form
    heredocs: tuple[str, ...] = ()  # the lines of each, as it is written

    def flag(self, name: str) -> str:
        """Returns a flag's value, "" without it."""
        return dict(self.flags).get(name, "")

    def refused(self, why: str) -> RuntimeUnsupported:
        """Returns the refusal that names this line."""
        return refused(self.line, f"{self.name} {self.text}", why)


def refused(line: int, said: str, why: str) -> RuntimeUnsupported:
    """Returns the refusal of a Dockerfile's line."""
    shown = " ".join(said.split())
    shown = f"{shown[:_SHOWN]} …" if len(shown) > _SHOWN else shown
    return RuntimeUnsupported("Dockerfile", f"line {line}, `{shown}`: {why}")


_RESET = ("CMD", "ENTRYPOINT")  # [] takes away what the image has


def instructions(text: str) -> list[Instruction]:
    """Returns the instructions in order. Raises RuntimeUnsupported, naming the line."""
    if "\0" in text:
        raise refused(text.count("\n", 0, text.index("\0")) + 1, "NUL", "it is no text")
    lines = text.replace("\r\n", "\n").split("\n")
    escape = _escape(lines)
    found: list[Instruction] = []
    number = 0
    while number < len(lines):
        if lines[number].lstrip().startswith("#"):
            number += 1
            continue
        first = number + 1
        joined, number = logical_line(lines, number, escape)
        heredocs, number = heredocs_of(joined, lines, number)
        if joined and not _SHELL.match(joined):
            found.append(_instruction(first, joined)._replace(heredocs=heredocs))
        if len(found) > _INSTRUCTIONS_LIMIT:
            raise refused(first, joined, f"there are more than {_INSTRUCTIONS_LIMIT} instructions")
    return found


def _escape(lines: list[str]) -> str:
    """Returns the escape character, which a directive at the top may change."""
    for number, line in enumerate(lines, start=1):
        match = _DIRECTIVE.match(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape":
            if match[2] not in ("\\", "`"):
                raise refused(number, line, "the escape character must be \\ or `")
            return match[2]
    return "\\"


def logical_line(lines: list[str], number: int, escape: str) -> tuple[str, int]:
    """Joins continuation lines from `number` on, without comments; returns what follows, too."""
    parts: list[str] = []
    while number < len(lines):
        line, number = lines[number].strip(), number + 1
        if line.startswith("#") or (not line and parts):
            continue
        if not line.endswith(escape):
            parts.append(line)
            break
        parts.append(line.removesuffix(escape))
    return " ".join(part.strip() for part in parts).strip(), number


def heredocs_of(joined: str, lines: list[str], number: int) -> tuple[tuple[str, ...], int]:
    """Returns the heredocs of an instruction, which begin at `number`, and what follows them."""
    found: list[str] = []
    if joined.partition(" ")[0].upper() not in ("RUN", "COPY", "ADD"):
        return (), number
    for dash, _, end in _HEREDOC.findall(joined):
        first = number
        while number < len(lines) and lines[number].strip("\t") != end:
            number += 1
        own = (line.lstrip("\t") if dash else line for line in lines[first:number])
        found.append("".join(f"{line}\n" for line in own))
        number += 1
    return tuple(found), number


def _instruction(line: int, joined: str) -> Instruction:
    name, *others = joined.split(None, 1)
    name, rest = name.upper(), "".join(others).strip()
    if name not in KNOWN:
        why = "is not supported here" if name in ("SHELL", "ONBUILD") else "is no instruction"
        raise refused(line, joined, f"{name[:20]} {why}")
    flags: list[tuple[str, str]] = []
    while name in ("FROM", "RUN", "COPY", "ADD") and (match := _FLAG.match(rest)):
        flags.append((match[1], match[2] or ""))
        rest = rest[match.end() :]
    made = Instruction(line, name, tuple(flags), rest, None)
    if name != "HEALTHCHECK" and not rest:
        raise made.refused("it has no argument")
    return made._replace(words=_exec_form(made) if name in _EXEC_FORM else None)


def _exec_form(instruction: Instruction) -> tuple[str, ...] | None:
    if not instruction.text.startswith("["):
        return None
    try:
        listed = json.loads(instruction.text)
    except (ValueError, RecursionError):
        return None  # as Docker does, which takes it for a shell's line
    if not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        return None
    if (not listed and instruction.name not in _RESET) or any("\0" in word for word in listed):
        raise instruction.refused("it has no argument")
    if any(_HALF_OF_A_PAIR.search(word) for word in listed):
        raise instruction.refused("it has a character that is none: half of a surrogate pair")
    return tuple(listed)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replaces $NAME, ${NAME}, ${NAME:-default} and ${NAME:+other}; unknown ones are empty.

    Raises RuntimeUnsupported if that makes a very long text.
    """
    size = 0

    def bounded(match: re.Match[str]) -> str:
        nonlocal size
        found = value(match)
        size += len(found)
        if size > _EXPANDED_LIMIT:
            raise RuntimeUnsupported("Dockerfile", "its variables are too long")
        return found

    def value(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1]
        found = variables.get(match[2] or match[3], "")
        if match[4] == "-":
            return found or match[5]
        return (match[5] if found else "") if match[4] == "+" else found

    return _VARIABLE.sub(bounded, text)


def split(text: str, variables: Mapping[str, str]) -> list[str]:
    """Returns the words of an instruction: variables replaced, quotes removed."""
    found: list[str] = []
    size = 0
    is_open = False
    for match in _WORD_PART.finditer(text):
        kind = match.lastgroup
        if kind == "space":
            is_open = False
            continue
        part = match[kind or "odd"]
        part = part if kind in ("single", "odd") else expand(part, variables)
        size += len(part)
        if size > _EXPANDED_LIMIT:
            raise RuntimeUnsupported("Dockerfile", "its variables are too long")
        if is_open:
            found[-1] += part
        else:
            found.append(part)
        is_open = True
    return found
