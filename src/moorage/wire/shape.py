"""What all bodies have in common."""

from typing import Annotated

import msgspec
from msgspec import Meta


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body whose field names are written as they are."""


class CamelBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body whose field names are written in camel case."""


Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
