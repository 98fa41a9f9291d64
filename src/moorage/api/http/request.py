"""A request whose headers are looked up: Starlette searches all of them each time it is asked."""

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send


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
