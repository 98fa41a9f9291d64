"""What the bodies of the contract have in common."""

from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body whose field names are written as they are."""


class CamelBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body whose field names are written in camel case."""


class Absent(NamedTuple):
    """What a client reads of a field, one beyond part 1 of the contract, that an answer lacks."""

    value: Any


Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
