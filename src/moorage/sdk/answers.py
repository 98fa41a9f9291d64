"""Answers read into the contract's shapes, leniently: gateways of other versions answer too.

Fields this version does not know are ignored. A field the gateway leaves out is read as the shape's
`Absent` says, if it has one. Where a shape lists words, a client gets any text: a member of an enum
is plain text here, and equal to it. Other bounds of a shape are not looked at.
"""

from enum import Enum
from functools import cache, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET

from moorage.wire.shape import Absent

Answer = TypeVar("Answer", bound=msgspec.Struct)


def read_answer(content: bytes | str, shape: type[Answer]) -> Answer:
    """The answer in `content`. Raises msgspec.DecodeError or UnicodeDecodeError."""
    return cast("Answer", _decoder(shape).decode(content))


@cache
def _decoder(shape: type[msgspec.Struct]) -> msgspec.json.Decoder[msgspec.Struct]:
    return msgspec.json.Decoder(_lenient(shape))


@cache
def _lenient(shape: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """`shape` with the types that a client can rely on, as a subclass."""
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
