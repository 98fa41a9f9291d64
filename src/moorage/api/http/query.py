"""What stands in a request's query: known keys, numbers, times."""

import contextlib
from collections.abc import Mapping
from datetime import datetime

from starlette.requests import Request

from moorage.errors import InvalidField
from moorage.misplaced_hash import misplaced_hash
from moorage.suggestion import Suggestions, did_you_mean

_MAX_DIGITS = 19  # of 2**63 - 1
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
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
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
