"""Who looks at a page: pages ask the API in this process, for the wallet of a session.

Only code of this process can put a `Person` into a request's scope; no header does.
"""

from typing import NamedTuple

from starlette.requests import Request

from moorage.errors import LinkScope

PERSON = "moorage.person"
"""The scope's key for the `Person` that a page was asked by."""


class Person(NamedTuple):
    """Somebody with a session."""

    wallet: str
    project_id: str | None = None
    """The only project they may look at, if not all of the wallet."""
    may_change: bool = True


def require_permitted(request: Request, person: Person) -> None:
    """Raises LinkScope for a request beyond what the person may do."""
    if not person.may_change and request.method not in ("GET", "HEAD"):
        raise LinkScope
    if person.project_id is not None and request.path_params.get("projectId") != person.project_id:
        raise LinkScope
