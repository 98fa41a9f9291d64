"""Reads bodies whole, and decodes their JSON: in the gateway's loop no more than 64 KiB of it.

While the loop parses, nobody else is served, and what a parser takes for a byte is for strangers to
choose. So no handler parses more than `IN_LOOP_BYTES` there. What may be larger is decoded in a
parser process (`decode_whole`), or streamed in pieces (`uploads.reader`). A test reads the sources:
no other module asks a request for its body.
"""

from typing import Any, TypeVar, get_origin

import msgspec
from starlette.requests import Request
from starlette.types import Scope

from moorage.api.connections.arrival import ARRIVAL, Arrival
from moorage.errors import BodyTooLarge, InvalidField, InvalidRequest
from moorage.parsers.job import JsonRead, ReadJson
from moorage.parsers.pool import ParserFault, ParserPool
from moorage.suggestion import Suggestions, did_you_mean
from moorage.uploads.parsing import DOCUMENTS

IN_LOOP_BYTES = 64 * 1024
"""What is parsed in the gateway's own loop, at the most: at worst a few milliseconds of work."""

MAX_BYTES = 16 * 1024
"""Of a body, unless its handler allows more."""

_MAX_DIGITS = 18
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


async def read_whole(request: Request, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Reads the request's body.

    Raises BodyTooLarge, before anything is read if too many bytes are declared; InvalidRequest.
    """
    if (content_length(request) or 0) > max_bytes:
        raise BodyTooLarge
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > max_bytes:
            raise BodyTooLarge
    return bytes(received)


def content_length(request: Request) -> int | None:
    """Returns how long the client says that the body is. Raises InvalidRequest."""
    declared = request.headers.get("content-length")
    if declared is None:
        return None
    if not (declared.isascii() and declared.isdigit()) or len(declared) > _MAX_DIGITS:
        raise InvalidRequest("Content-Length must be a number.")
    return int(declared)


async def decode_whole(body: bytes, scope: Scope, parsers: ParserPool) -> dict[str, Any]:
    """Decodes the JSON object that a request brought; a large one in a parser process.

    Raises InvalidField; PlannersBusy and PlanTooCostly.
    """
    if len(body) <= IN_LOOP_BYTES:
        return _object(body)
    arrival: Arrival = scope[ARRIVAL]
    found = (await parsers.do(ReadJson(body), (), arrival.identify())).outcome
    if not isinstance(found, JsonRead):
        raise ParserFault(repr(found))
    return msgspec.msgpack.decode(found.document, type=dict[str, Any])


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = DOCUMENTS.decode(body)
    except _UNREADABLE as error:
        raise InvalidField("body", "must be JSON") from error
    if not isinstance(document, dict):
        raise InvalidField("body", "must be a JSON object")
    return document


def parse_small(body: bytes, kind: type[_Body]) -> _Body:
    """Decodes a JSON body of at most IN_LOOP_BYTES. Raises InvalidField, naming the field."""
    if len(body) > IN_LOOP_BYTES:
        raise BodyTooLarge
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
