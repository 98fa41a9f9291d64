"""What a tool's call led to, before the protocol's form is put around it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.mcp.tools.wording import in_tool_words

NEVER_ANEW = (
    "Do not pay again. Call {tool} again with the same arguments and "
    'idempotency_key "{key}": nothing is paid twice.'
)


class Outcome(msgspec.Struct, frozen=True):
    """The answer, or with `is_error` the refusal; `meta` is for the client, not for the model."""

    body: Mapping[str, Any]
    is_error: bool = False
    meta: Mapping[str, Any] | None = None


def answered(body: Any, **more: Any) -> Outcome:
    """Returns the outcome of a call that did what it was to, in the words of tools."""
    return Outcome({**in_tool_words(body), **more})


def refused(code: str, error: str, *, retryable: bool = False, **more: Any) -> Outcome:
    """Returns the outcome of a call that did not, in the form of the API's errors."""
    return Outcome(
        {"error": error, "code": code, "retryable": retryable, **in_tool_words(more)},
        is_error=True,
    )
