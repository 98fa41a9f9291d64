"""Reads variables as people paste them: the lines of a `.env` file."""

import re
from collections.abc import Iterator

from moorage.errors import InvalidField

_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", re.DOTALL)
_CLOSING = {
    "'": re.compile(r"[^']*+'"),
    '"': re.compile(r'[^"\\]*+(?:\\(?:.|\Z)[^"\\]*+)*+"', re.DOTALL),
}
"""What stands before the end of a quoted value, and its closing quote, by its opening one."""

_ANY = re.compile("")
_COMMENT = re.compile(r"(?<!\s)\s+#")  # tried at the first space of several alone
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
        parts, is_closed = [value], _CLOSING.get(value[:1], _ANY).match(value, 1)
        while not is_closed:  # each line is looked at once, however many there are
            following = next(lines, None)
            if following is None:
                raise InvalidField(f"line {number}", "has a quote that nothing closes")
            parts.append(following[1])
            is_closed = _CLOSING[value[0]].match(following[1])
        yield number, name, "\n".join(parts)


def _value(value: str, number: int) -> str:
    if value[:1] not in ("'", '"'):
        return _COMMENT.split(value, maxsplit=1)[0].strip()
    closing = _CLOSING[value[0]].match(value, 1)
    end = len(value) if closing is None else closing.end() - 1
    rest = value[end + 1 :].strip()
    if rest and not rest.startswith("#"):
        raise InvalidField(f"line {number}", "has something behind its closing quote")
    inner = value[1:end]
    if value[0] == "'":
        return inner
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), inner)
