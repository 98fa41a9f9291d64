"""A request to the gateway's API, built before it is sent."""

from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from moorage.errors import InvalidRequest

_LONGEST_SHOWN = 64


class ApiRequest(msgspec.Struct, frozen=True):
    """Method, path with its query, and body. `path` is quoted."""

    method: str
    path: str
    body: bytes | None = None


def api_request(
    method: str, *segments: str, body: dict[str, Any] | None = None, **query: str | int | None
) -> ApiRequest:
    """Returns the request for a path below `/agent`; parts of the query that are None are left out.

    A keyword's trailing underscore is dropped: `from_` is `from`. Raises InvalidRequest for a
    segment that would be several, or none: it would name another operation.
    """
    for segment in segments:
        if segment in ("", ".", "..") or "/" in segment:
            raise InvalidRequest(f"{segment[:_LONGEST_SHOWN]!r} is no id, and no name.")
    path = "/".join(["/agent", *(quote(segment, safe="") for segment in segments)])
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    return ApiRequest(
        method,
        f"{path}?{urlencode(given)}" if given else path,
        None if body is None else msgspec.json.encode(body),
    )
