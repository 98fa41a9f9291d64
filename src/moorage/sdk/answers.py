"""Reads answers into the contract's shapes, leniently, and refusals into errors.

The gateway may be of another version. Unknown fields are ignored. A missing field gets the value of
the shape's `Absent`, if it has one. Where a shape lists words, any text is accepted: a field typed
as an enum holds plain text, which equals the member. Other bounds of a shape are not checked.
"""

from collections.abc import Mapping
from enum import Enum
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET

from moorage.sdk.errors import (
    FilesWouldBeLost,
    Forbidden,
    GatewayError,
    GatewayUnavailable,
    HashAlreadyUsed,
    NotAuthenticated,
    NotFound,
    PaymentRequired,
    RequestRefused,
    TooManyRequests,
)
from moorage.wire.problems import PaymentDemand
from moorage.wire.shape import Absent

_BY_STATUS: dict[int, type[GatewayError]] = {
    400: RequestRefused,
    401: NotAuthenticated,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: HashAlreadyUsed,
    413: RequestRefused,
    429: TooManyRequests,
}
_BY_CODE: dict[str, type[GatewayError]] = {"files_would_be_lost": FilesWouldBeLost}
_RETRYABLE = frozenset({429, 500, 502, 503, 504})
_EXCERPT_CHARACTERS = 200
_SECONDS_DIGITS = 6  # eleven days

Answer = TypeVar("Answer", bound=msgspec.Struct)


def read_answer(content: bytes | str, shape: type[Answer]) -> Answer:
    """Decodes an answer. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return cast("Answer", _decoder(shape).decode(content))


def read_refusal(*, status: int, content: bytes, headers: Mapping[str, str]) -> GatewayError:
    """Returns the error for an answer with `status`.

    A body that is not the contract's (a proxy's page, say) gives an error by its status alone,
    which then decides whether it is retryable. Fields come from the body, never from its message.
    """
    body = _json_object(content)
    family = _BY_STATUS.get(status, GatewayUnavailable if status >= 500 else GatewayError)
    code = _text(body, "code") or f"http_{status}"
    error = _BY_CODE.get(code, family)(
        status=status,
        code=code,
        error=_text(body, "error") or _excerpt(status, content),
        retryable=body["retryable"] is True if "retryable" in body else status in _RETRYABLE,
        body=body,
        retry_after_seconds=_seconds(headers.get("Retry-After")),
    )
    if isinstance(error, PaymentRequired):
        error.quote = _quote(content)
        error.x402 = headers.get("PAYMENT-REQUIRED")
    if isinstance(error, HashAlreadyUsed):
        error.project_id = _text(body, "projectId")
        error.deployment_id = _text(body, "deploymentId")
    return error


@cache
def _decoder(shape: type[msgspec.Struct]) -> msgspec.json.Decoder[msgspec.Struct]:
    return msgspec.json.Decoder(_lenient(shape))


@cache
def _lenient(shape: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Returns a subclass of `shape` whose types accept answers of other versions."""
    fields = [
        (field.name, _read_as(field.type), _with_default(field))
        for field in msgspec.structs.fields(shape)
    ]
    return msgspec.defstruct(shape.__name__, fields, bases=(shape,), frozen=True, kw_only=True)


def _with_default(field: msgspec.structs.FieldInfo) -> Any:
    said = get_args(field.type) if get_origin(field.type) is Annotated else ()
    absent = [each.value for each in said if isinstance(each, Absent)]
    default = UNSET if field.default is UNSET else NODEFAULT
    return msgspec.field(name=field.encode_name, default=absent[0] if absent else default)


def _read_as(kind: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _read_as(arguments[0])
    if origin in (Union, UnionType):
        return reduce(or_, map(_read_as, arguments))
    if origin in (list, dict):
        return origin[tuple(map(_read_as, arguments))]
    if origin is Literal or (isinstance(kind, type) and issubclass(kind, Enum)):
        return str
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _lenient(kind)
    return kind


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _text(body: dict[str, Any], field: str) -> str | None:
    value = body.get(field)
    return value if isinstance(value, str) and value else None


def _excerpt(status: int, content: bytes) -> str:
    text = " ".join(content.decode(errors="replace").split())[:_EXCERPT_CHARACTERS]
    return f"the gateway answered {status}" + (f": {text}" if text else "")


def _seconds(header: str | None) -> int | None:
    if not header or len(header) > _SECONDS_DIGITS or not (header.isascii() and header.isdigit()):
        return None
    return int(header)


def _quote(content: bytes) -> PaymentDemand | None:
    try:
        return read_answer(content, PaymentDemand)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
