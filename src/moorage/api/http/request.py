"""A request whose headers are looked up: Starlette searches all of them each time it is asked."""

import contextlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from moorage.address import parse_address
from moorage.api.http.connections import ARRIVAL, Arrival
from moorage.errors import (
    BodyTooLarge,
    DeploymentNotFound,
    InvalidField,
    InvalidRequest,
    ProjectNotFound,
    WrongWallet,
)
from moorage.parsers.job import JsonRead, ReadJson
from moorage.parsers.pool import ParserFault, ParserPool
from moorage.records.deployment import DeploymentView
from moorage.records.project import Project, ProjectStatus
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Database
from moorage.unknown_keys import Suggestions, did_you_mean, misplaced_hash
from moorage.uploads.request import DOCUMENTS, NAME_PATTERN

_MAX_QUERY_DIGITS = 19  # of 2**63 - 1
LAST_TIME_MS = 253_402_300_799_999  # the end of the year 9999
_MAX_TIME_LENGTH = 40
_SHOWN_LENGTH = 64
_MAX_LENGTH = 4096  # of a whole query; strangers' are looked at before anybody counts them


def refuse_unknown(request: Request, known: Mapping[str, str], *, but_hashes: bool = False) -> None:
    """Raises InvalidField for a key that is not known: one that was ignored would mislead.

    With `but_hashes`, a payment's hash is left for who reads the payment.
    """
    query = request.scope.get("query_string", b"")
    if not query:
        return
    if len(query) > _MAX_LENGTH:
        raise InvalidField("query", f"is longer than {_MAX_LENGTH} bytes")
    unknown = {key: text for key, text in request.query_params.items() if key not in known}
    if not unknown or (but_hashes and misplaced_hash(unknown)):
        return
    hint = Suggestions(did_you_mean(known)).first(list(unknown))
    if hint is not None:
        raise InvalidField(hint[0][:_SHOWN_LENGTH], hint[1])
    taken = f"this query takes {', '.join(known)}" if known else "this path takes no query"
    raise InvalidField(next(iter(unknown))[:_SHOWN_LENGTH], f"is not known here; {taken}")


def whole_number(request: Request, name: str, *, default: int, min_: int, max_: int) -> int:
    """Returns the number of that name, `default` if absent. Raises InvalidField."""
    text = request.query_params.get(name)
    if text is None:
        return default
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_QUERY_DIGITS
    if not is_number or not min_ <= int(text) <= max_:
        raise InvalidField(name, f"must be a whole number from {min_} to {max_}")
    return int(text)


def time_ms(request: Request, name: str, *, default: int) -> int:
    """Returns the time of that name: ISO 8601 with an offset, or Unix milliseconds.

    `default` if absent. Raises InvalidField.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= len(str(LAST_TIME_MS)):
        return min(int(text), LAST_TIME_MS)
    moment = None
    if len(text) <= _MAX_TIME_LENGTH:
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(text)
    if moment is None or moment.tzinfo is None:
        raise InvalidField(name, "must be a time such as 2026-04-07T10:00:00Z, or Unix ms")
    return max(0, int(moment.timestamp() * 1000))


def wallet_in(field: str, text: str) -> str:
    """Returns the wallet that a field names, in lower case. Raises InvalidField."""
    with InvalidField.of(field, "must be a wallet's address: 0x and 40 hex digits"):
        wallet = parse_address(text)
    if int(wallet, 16) == 0:
        raise InvalidField(field, "is nobody's address")
    return wallet


def flag(request: Request, header: str) -> bool:
    """Reads a header that is `true` or `false` in any letter case; absent means false."""
    value = request.headers.get(header, "false").strip().lower()
    if value not in ("true", "false"):
        raise InvalidField(header.title(), "must be true or false")
    return value == "true"


IN_LOOP_BYTES = 64 * 1024
"""What is parsed in the gateway's own loop, at the most: at worst a few milliseconds of work."""

MAX_BYTES = 16 * 1024
"""Of a body, unless its handler allows more."""

_MAX_DIGITS = 18
_WORDS = {
    "string": "a string",
    "decimal": "a number",
    "boolean": "true or false",
    "integer": "a whole number",
    "array": "a list",
    "object": "a JSON object",
    "date-time": "a time such as 2026-04-07T10:00:00Z",
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
        try:
            document = DOCUMENTS.decode(body)
        except _UNREADABLE as error:
            raise InvalidField("body", "must be JSON") from error
        if not isinstance(document, dict):
            raise InvalidField("body", "must be a JSON object")
        return document
    arrival: Arrival = scope[ARRIVAL]
    found = (await parsers.do(ReadJson(body), (), arrival.identify())).outcome
    if not isinstance(found, JsonRead):
        raise ParserFault(repr(found))
    return msgspec.msgpack.decode(found.document, type=dict[str, Any])


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
            if (within := _what_is_wrong_within(name, given, field.type)) is not None:
                return within
            required = "" if name in given else "is required and "
            return InvalidField(name, f"{required}must be {_rule(field.type)}")
    return InvalidField("body", "must be JSON")


def _what_is_wrong_within(
    name: str, given: Mapping[str, msgspec.Raw], kind: Any
) -> InvalidField | None:
    """Finds the first wrong field of an object that a field holds, if it holds one."""
    inner = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if not (isinstance(inner, type) and issubclass(inner, msgspec.Struct)) or name not in given:
        return None
    found = _what_is_wrong(bytes(given[name]), inner)
    return None if found.field == "body" else InvalidField(f"{name}.{found.field}", found.problem)


def _unknown(unknown: list[str], known: frozenset[str]) -> InvalidField:
    takes = f"is not known here; this takes {', '.join(sorted(known))}"
    key, advice = Suggestions(did_you_mean(known)).first(unknown) or (unknown[0], takes)
    return InvalidField(key[:_SHOWN_LENGTH], advice)


def _rule(kind: Any) -> str:
    """Returns what a field may hold, for a person."""
    schema = msgspec.json.schema(kind)
    value = schema.get("anyOf", [schema])[0]
    if "enum" in value:
        return f"one of {', '.join(map(str, value['enum']))}"
    word = _WORDS.get(value.get("format", ""), _WORDS.get(value.get("type", "object"), "valid"))
    if "minimum" in value and "maximum" in value:
        return f"{word} from {value['minimum']} to {value['maximum']}"
    return f"{word} of at most {value['maxLength']} characters" if "maxLength" in value else word


LATEST = "latest"
_GONE = (ProjectStatus.DELETING, ProjectStatus.DELETED)


async def named_project(db: Database, named: str, *, wallet: str) -> Project:
    """Returns the wallet's project of this id or name.

    Raises ProjectNotFound, for another wallet's name too: names tell nobody whose they are; and
    WrongWallet for another wallet's id.
    """
    found = await projects.by_id(db, named)
    if found is None:
        found = await projects.by_name(db, named.lower())
        if found is None or found.wallet != wallet:
            raise ProjectNotFound
    if found.wallet != wallet:
        raise WrongWallet
    return found


async def named_deployment(db: Database, named: str, *, project: Project) -> str:
    """Returns the id that `named` is, or stands for. Raises DeploymentNotFound."""
    if named != LATEST:
        return named
    newest = await deployments.release_page(db, project_id=project.id, before=None, limit=1)
    if not newest:
        raise DeploymentNotFound
    return newest[0].id


async def viewed_deployment(
    db: Database, *, project: str, deployment: str, wallet: str
) -> DeploymentView:
    """Returns the wallet's deployment, with one read where both are ids.

    Raises DeploymentNotFound, ProjectNotFound and WrongWallet.
    """
    if deployment == LATEST or NAME_PATTERN.fullmatch(project.lower()):
        owned = await named_project(db, project, wallet=wallet)
        deployment = await named_deployment(db, deployment, project=owned)
        project = owned.id
    found = await deployments.view(db, deployment)
    if found is None or found.project_id != project:
        raise DeploymentNotFound
    if found.project_status in _GONE:
        raise ProjectNotFound
    if found.wallet != wallet:
        raise WrongWallet
    return found


class ApiRequest(Request):
    """A request to the API, which is asked for its headers a dozen times."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._found = _IndexedHeaders(scope)

    @property
    def headers(self) -> Headers:
        """Its headers; of several with one name, the first is the one that is looked up."""
        return self._found


class _IndexedHeaders(Headers):
    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        self._values: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))

    def get(self, key: str, default: Any = None) -> Any:
        value = self._values.get(key.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")

    def getlist(self, key: str) -> list[str]:
        return super().getlist(key) if key in self else []

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower().encode("latin-1")].decode("latin-1")

    def __contains__(self, key: Any) -> bool:
        return key.lower().encode("latin-1") in self._values
