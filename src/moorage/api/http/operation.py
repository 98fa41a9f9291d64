"""One method on one path, as the router serves it and OpenAPI describes it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.managed import is_covered
from moorage.wire.shape import Body, CamelBody

Handler = Callable[[Any, Request], Awaitable[Response]]
"""Its first argument is a record of what it needs, of the type that its annotation names."""


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`signed` ones need the wallet headers of contract 1.1; `paid` ones take payment headers.

    `priced` ones take the headers that name chain and token. `or_answer` and `or_body` are
    second types.
    """

    method: str
    path: str
    handler: Handler
    answer: type[Body | CamelBody]
    or_answer: type[Body | CamelBody] | None = None
    body: type[Body | CamelBody] | None = None
    or_body: type[Body | CamelBody] | None = None
    fails: tuple[int, ...] = ()  # statuses besides those of every signed operation
    signed: bool = False
    paid: bool = False
    priced: bool = False
    body_optional: bool = False
    gives: str = ""  # the type of a file that it answers with, besides `answer`
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether it takes the wallet headers, but needs none: the payment may say who asks."""
        return self.paid and not self.signed

    @property
    def of_a_project(self) -> bool:
        """Whether a project's manage token may stand in for the wallet headers."""
        return (self.signed or self.is_open) and is_covered(self.method, self.path)

    @property
    def needs(self) -> type:
        """The type of record that its handler needs."""
        record: type = next(iter(get_type_hints(self.handler).values()))
        return record
