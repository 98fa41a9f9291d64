"""Small JSON bodies, read whole: 16 KiB unless a handler allows more."""

from typing import Any, TypeVar, get_origin

import msgspec
from starlette.requests import Request

from moorage.errors import BodyTooLarge, InvalidField
from moorage.suggestion import Suggestions, did_you_mean

MAX_BYTES = 16 * 1024

_SHOWN_LENGTH = 64
_WORDS = {
    "string": "a string",
    "decimal": "a number",
    "boolean": "true or false",
    "integer": "a whole number",
}
"""What a field must be, by JSON Schema's format or type."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_Body = TypeVar("_Body")


async def read_small(request: Request, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads the request's body. Raises BodyTooLarge."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > max_bytes:
            raise BodyTooLarge
    return bytes(received)


def parse_small(body: bytes, kind: type[_Body]) -> _Body:
    """Decodes a JSON body. Raises InvalidField, naming the field."""
    try:
        return msgspec.json.decode(body, type=kind)
    except _UNREADABLE as error:
        raise _what_is_wrong(body, kind) from error


def _what_is_wrong(body: bytes, kind: Any) -> InvalidField:
    """Finds the first field that breaks a rule; the decoder's own error is only prose."""
    try:
        given = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return InvalidField("body", "must be a JSON object")
    except _UNREADABLE:
        return InvalidField("body", "must be JSON")
    if not issubclass(get_origin(kind) or kind, msgspec.Struct):
        return InvalidField("body", "must be JSON")
    known = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    if kind.__struct_config__.forbid_unknown_fields and (unknown := given.keys() - known):
        return _unknown(sorted(unknown), frozenset(known))
    for name, field in known.items():
        if name not in given and not field.required:
            continue
        try:
            msgspec.json.decode(given.get(name, b"null"), type=field.type)
        except _UNREADABLE:
            required = "" if name in given else "is required and "
            return InvalidField(name, f"{required}must be {_rule(field.type)}")
    return InvalidField("body", "must be JSON")


def _unknown(unknown: list[str], known: frozenset[str]) -> InvalidField:
    takes = f"is not known here; this takes {', '.join(sorted(known))}"
    key, advice = Suggestions(did_you_mean(known)).first(unknown) or (unknown[0], takes)
    return InvalidField(key[:_SHOWN_LENGTH], advice)


def _rule(kind: Any) -> str:
    """Returns what a field may hold, for a person."""
    schema = msgspec.json.schema(kind)
    value = schema.get("anyOf", [schema])[0]
    word = _WORDS[value.get("format", value["type"])]
    if "minimum" in value and "maximum" in value:
        return f"{word} from {value['minimum']} to {value['maximum']}"
    return f"{word} of at most {value['maxLength']} characters" if "maxLength" in value else word
