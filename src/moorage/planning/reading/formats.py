"""Reads TOML, YAML, JSON with comments and shell lines, with limits that parsers lack."""

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from moorage.errors import UploadInvalid
from moorage.planning.reading.folder import Folder

_TABLES = Path(__file__).parent.parent  # `importlib.resources` takes 10 ms to import


@cache
def table(name: str) -> dict[str, Any]:
    """Returns one of planning's own tables, such as `node/packages`, which is not to be changed."""
    return tomllib.loads((_TABLES / f"{name}.toml").read_text("utf-8"))


def by_word(rows: Mapping[str, str]) -> dict[str, str]:
    """Returns the key of a table's row by each word of the row."""
    return {word: key for key, words in rows.items() for word in words.split()}


def word_tuple(text: str) -> tuple[str, ...]:
    """Returns the words of a text."""
    return tuple(text.split())


def word_set(text: str) -> frozenset[str]:
    """Returns the words of a text, without an order."""
    return frozenset(text.split())


# Each branch matches closed or not, so that the whole is linear.
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*"?)|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z)')
_TRAILING = re.compile(r",(?=\s*[}\]])")


def json_document(folder: Folder, name: str) -> dict[str, object]:
    """Returns the file's object; an empty one if it has none, or can't be read."""
    text = folder.plain(name)
    bare = _TRAILING.sub("", _COMMENT.sub(lambda match: match[1] or "", text))
    try:
        document = json.loads(bare)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


_DEPTH = 30
# No branch gives back what it has matched, so that the whole is linear.
_KEY = re.compile(
    r"(\"[^\"]*+\"|'[^']*+'|[^\s:#\[\]{},&*!|>'\"-][^:#]*+|-[^\s:][^:#]*+)[ \t]*+:(?=[ \t]|\Z)"
)
_YAML_COMMENT = re.compile(r"(?:\A|[ \t])#.*\Z")
_TEXT = re.compile(r"([|>])[+-]?\d?\Z")


class _Line(NamedTuple):
    indent: int
    text: str


def yaml_document(text: str) -> object:
    """Returns the first document: dicts, lists, strings, booleans and None."""
    lines: list[_Line] = []
    for raw in text[:LIMIT].splitlines():
        if raw.startswith(("---", "...")):
            if lines:
                break
            continue
        lines.append(_Line(len(raw) - len(raw.lstrip(" ")), raw.strip()))
    return _block(lines, _next(lines, 0), 0)[0]


def front_matter(folder: Folder, name: str) -> Mapping[str, object]:
    """Returns the YAML between `---` at the beginning of a text; an empty one without it."""
    text = folder.data(name, limit=LIMIT) if folder.has(name) else b""
    if not text.startswith(b"---"):
        return {}
    found = yaml_document(text.decode(errors="replace"))
    return found if isinstance(found, dict) else {}


def _next(lines: list[_Line], number: int) -> int:
    """Returns the number of the next line that is neither empty nor a comment."""
    while number < len(lines) and (not lines[number].text or lines[number].text[0] == "#"):
        number += 1
    return number


def _block(lines: list[_Line], number: int, depth: int) -> tuple[object, int]:
    """Returns the value that begins at a line, and the number of the line after it."""
    if number >= len(lines) or depth > _DEPTH:
        return None, len(lines)
    indent = lines[number].indent
    found_list: list[object] = []
    found: dict[str, object] = {}
    while number < len(lines) and lines[number].indent >= indent:
        text = lines[number].text
        if lines[number].indent > indent:  # of something that can't be followed
            number = _next(lines, number + 1)
        elif (found_list and text[0] != "-") or (found and text.startswith("- ")):
            break
        elif text == "-" or text.startswith("- "):
            inner = text[1:].lstrip()
            if _KEY.match(inner):
                lines[number] = _Line(indent + len(text) - len(inner), inner)
                value, number = _block(lines, number, depth + 1)
            else:
                value, number = _value(lines, number, indent, inner, depth)
            found_list.append(value)
        elif key := _KEY.match(text):
            value, number = _value(lines, number, indent, text[key.end() :], depth)
            found[key[1].rstrip().strip("\"'")] = value
        else:
            number = _next(lines, number + 1)
    return found_list or found, number


def _value(
    lines: list[_Line], number: int, indent: int, text: str, depth: int
) -> tuple[object, int]:
    """Returns what follows a key or a dash: on its line, or in the lines below."""
    text = _YAML_COMMENT.sub("", text).strip()
    block = _TEXT.match(text)
    if block is not None:
        first = number = number + 1
        while number < len(lines) and (not lines[number].text or lines[number].indent > indent):
            number += 1
        joined = ("\n" if block[1] == "|" else " ").join(it.text for it in lines[first:number])
        return joined.strip(), _next(lines, number)
    number = _next(lines, number + 1)
    if text:
        return _scalar(text), number
    is_below = number < len(lines) and (
        lines[number].indent > indent
        or (lines[number].indent == indent and lines[number].text.startswith("- "))
    )
    return _block(lines, number, depth + 1) if is_below else (None, number)


def _scalar(text: str) -> object:
    if text[0] in "\"'" and text[-1] == text[0] and len(text) > 1:
        return text[1:-1]
    if text[0] == "[" and text[-1] == "]":
        return [_scalar(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    if text[0] == "{" and text[-1] == "}":
        pairs = (part.partition(":")[::2] for part in text[1:-1].split(","))
        return {k.strip(" \"'"): _scalar(v.strip()) for k, v in pairs if v.strip()}
    if text[0] in "&*!{[":
        return None
    return {"true": True, "false": False, "null": None, "~": None}.get(text.lower(), text)


def marks(hints: Iterable[bytes]) -> tuple[bytes, ...]:
    """Returns the hints that have no other one in them: one of these is in whatever has a hint."""
    all_hints = dict.fromkeys(hints)
    return tuple(it for it in all_hints if not any(one in it for one in all_hints if one != it))


_PLAIN = re.compile(
    r"(?P<env>(?:[A-Za-z_]\w*=[\w./:@,+-]*[ \t]+)*)(?P<word>[\w./@+-]+)(?=[ \t]|\Z)"
)
_GRAMMAR = re.compile(r"[;&|<>()`\\\n\r\0]")
_QUOTED = re.compile(r"'[^']*'")
_OF_THE_SHELL = word_set(
    "if for while until case then do time . : source eval exec exit cd set unset export trap "
    "ulimit umask wait test command function readonly local return shift alias read true"
)


def first_word(command: str) -> str:
    """Returns the program that a plain command runs; "" when the line is more than that.

    A plain command has words, quotes and parameters, and may begin with assignments. It has no
    pipe, list, redirection or substitution, and is no builtin.
    """
    match = _PLAIN.match(command)
    if match is None or match["word"] in _OF_THE_SHELL:
        return ""
    # Single-quoted text is skipped only if nothing else could quote the quotes.
    bare = _QUOTED.sub("", command)
    bare = command if '"' in bare or "\\" in bare else bare
    return "" if _GRAMMAR.search(bare) else match["word"]


def in_place(command: str) -> str:
    """Returns the command, with `exec` if it is a plain one."""
    if not first_word(command):
        return command
    match = _PLAIN.match(command)
    return f"exec env {command}" if match is not None and match["env"] else f"exec {command}"


KEY_PARTS_LIMIT = 200  # of one dotted key; the parser's time and memory grow with their square
LIMIT = 65_536  # bytes

# Text with dots that is no key. Each branch matches closed or not, so that the whole is linear.
_ASIDE = re.compile(
    r'#[^\n]*|"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*+(?:"{3,5}|\Z)|"(?:[^"\\\n]|\\.)*+"?'
    r"|'''(?:[^']|'{1,2}(?!'))*+(?:'{3,5}|\Z)|'[^'\n]*+'?"
)
_BETWEEN_KEYS = re.compile(r"[=\n]")


def toml_document(folder: Folder, name: str) -> Mapping[str, object]:
    """Parses the file. Raises UploadInvalid, naming it, if it is no TOML or over the limits."""
    path = folder.path(name)
    text = folder.text(name, limit=LIMIT)
    bare = _BETWEEN_KEYS.split(_ASIDE.sub("", text))
    if any(part.count(".") >= KEY_PARTS_LIMIT for part in bare):
        raise UploadInvalid(f"has a key of more than {KEY_PARTS_LIMIT} parts", path=path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UploadInvalid(f"is not valid TOML: {str(error)[:200]}", path=path) from error
