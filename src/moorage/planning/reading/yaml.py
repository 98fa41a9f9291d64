"""Reads the YAML that people write by hand: mappings, lists, text and blocks of text.

Anchors, tags and flow collections in one another are left out: their values are None. Nothing is
refused, as no file of another host must be one; what can't be followed is as if left out.
"""

import re
from typing import NamedTuple

LIMIT = 65_536  # characters
_DEPTH = 30
_KEY = re.compile(
    r"(\"[^\"]*\"|'[^']*'|[^\s:#\[\]{},&*!|>'\"-][^:#]*?|-[^\s:][^:#]*?)[ \t]*:(?=[ \t]|\Z)"
)
_COMMENT = re.compile(r"(?:\A|[ \t])#.*\Z")
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
            found[key[1].strip("\"'")] = value
        else:
            number = _next(lines, number + 1)
    return found_list or found, number


def _value(
    lines: list[_Line], number: int, indent: int, text: str, depth: int
) -> tuple[object, int]:
    """Returns what follows a key or a dash: on its line, or in the lines below."""
    text = _COMMENT.sub("", text).strip()
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
