"""One method on one path: what the router serves and OpenAPI describes."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.bodies import Body, CamelBody
from moorage.api.gateway import Gateway

Handler = Callable[[Gateway, Request], Awaitable[Response]]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`signed` ones need the wallet headers of contract 1.1; `paid` ones take payment headers."""

    method: str
    path: str
    handler: Handler
    answer: type[Body | CamelBody]
    body: type[Body | CamelBody] | None = None
    fails: tuple[int, ...] = ()  # statuses beyond those of every signed operation
    signed: bool = False
    paid: bool = False
    query: Mapping[str, str] = field(default_factory=dict)
