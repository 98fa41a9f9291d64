"""The base of all shapes, and the warnings that many of them carry."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from moorage.planning.plan import RiskCode


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A body whose field names are written as they are."""


class CamelBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body whose field names are written in camel case."""


def json_schemas(
    kinds: Iterable[type], *, ref_template: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Returns the JSON Schemas of types, and their parts by name.

    Their patterns are JavaScript's (ECMA-262), where `$` is what `\\Z` is here: in Python `$` lets
    a line end by.
    """
    found = msgspec.json.schema_components(kinds, ref_template=ref_template)
    text = msgspec.json.encode(found).replace(rb"\\Z", b"$")
    return msgspec.json.decode(text, type=tuple[list[dict[str, Any]], dict[str, Any]])


class Absent(NamedTuple):
    """What a client reads of a field, one beyond part 1 of the contract, that an answer lacks."""

    value: Any


Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class WarningCode(StrEnum):
    """What a warning is about."""

    FILES_NOT_KEPT = "files_not_kept"  # files that the app writes are lost at the next deploy
    FILES_WRITTEN = "files_written"  # the running version has written some, which a deploy replaces
    DOCKERFILE_IGNORED = "dockerfile_ignored"  # there is one, and hasDockerfile is not true
    PART_LEFT_OUT = "part_left_out"  # a directory of pages, or with a program, that is not used
    VOLUME_LEFT_OUT = "volume_left_out"  # of an export: the project has its own
    UNKNOWN_FIELD = "unknown_field"  # of the body, which has no effect
    CREDENTIAL = "secret_in_upload"  # such as a key, a token, a wallet, a .env


class WarningItem(Body, frozen=True, kw_only=True):
    """What may go wrong, and how to prevent it; nothing was refused."""

    code: Annotated[str, Meta(extra_json_schema={"enum": [*WarningCode, *RiskCode]})]
    message: str
    path: Annotated[str, Meta(description="the file of the upload")] | UnsetType = UNSET
    field: Annotated[str, Meta(description="the field of the body")] | UnsetType = UNSET
