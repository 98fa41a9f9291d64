"""A request to the gateway's API, built before it is sent."""

from typing import Any
from urllib.parse import quote, urlencode

import msgspec


class ApiRequest(msgspec.Struct, frozen=True):
    """Method, path with its query, and body. `path` is quoted."""

    method: str
    path: str
    body: bytes | None = None


def api_request(
    method: str, *segments: str, body: dict[str, Any] | None = None, **query: str | int | None
) -> ApiRequest:
    """Returns the request for a path below `/agent`; parts of the query that are None are left out.

    A keyword's trailing underscore is dropped: `from_` is `from`.
    """
    path = "/".join(["/agent", *(quote(segment, safe="") for segment in segments)])
    given = {name.rstrip("_"): value for name, value in query.items() if value is not None}
    return ApiRequest(
        method,
        f"{path}?{urlencode(given)}" if given else path,
        None if body is None else msgspec.json.encode(body),
    )
