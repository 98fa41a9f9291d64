"""Reads variables as people paste them: the lines of a `.env` file."""

import re
from collections.abc import Iterator

from moorage.errors import InvalidField

_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def read_env(text: str) -> dict[str, str]:
    """Returns the variables of a `.env`; the last of several with one name counts.

    Empty lines and comments are left out. Values may be quoted: in double quotes with \\n and
    others, and over several lines; in single quotes as they are. Raises InvalidField for a line
    that is none of that, by its number alone, as it may hold a secret.
    """
    found: dict[str, str] = {}
    for number, name, value in _assignments(text):
        found[name] = _value(value, number)
    return found


def _assignments(text: str) -> Iterator[tuple[int, str, str]]:
    lines = iter(enumerate(text.splitlines(), start=1))
    for number, line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        matched = _NAME.fullmatch(stripped)
        if matched is None:
            raise InvalidField(f"line {number}", "must be NAME=value")
        name, value = matched.groups()
        while _is_open(value):
            following = next(lines, None)
            if following is None:
                raise InvalidField(f"line {number}", "has a quote that nothing closes")
            value += "\n" + following[1]
        yield number, name, value


def _is_open(value: str) -> bool:
    """Whether a quoted value goes on in the next line."""
    return value[:1] in ("'", '"') and _end_of_quote(value) is None


def _end_of_quote(value: str) -> int | None:
    quote, place = value[0], 1
    while place < len(value):
        if value[place] == "\\" and quote == '"':
            place += 1
        elif value[place] == quote:
            return place
        place += 1
    return None


def _value(value: str, number: int) -> str:
    if value[:1] not in ("'", '"'):
        return re.split(r"\s+#", value, maxsplit=1)[0].strip()
    end = _end_of_quote(value)
    rest = value[end + 1 :].strip() if end is not None else ""
    if rest and not rest.startswith("#"):
        raise InvalidField(f"line {number}", "has something behind its closing quote")
    inner = value[1:end]
    if value[0] == "'":
        return inner
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), inner)
