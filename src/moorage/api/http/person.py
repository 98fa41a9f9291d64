"""Who looks at a page: pages ask the API in this process, for the wallet of a session.

Only code of this process can put a `Person` into a request's scope; no header does.
"""

from typing import NamedTuple

from starlette.requests import Request

from moorage.errors import ConfirmationMissing, LinkScope

PERSON = "moorage.person"
"""The scope's key for the `Person` that a page was asked by."""


class Person(NamedTuple):
    """Somebody with a session."""

    wallet: str
    project_id: str | None = None
    """The only project they may look at, if not all of the wallet."""
    may_change: bool = True
    has_confirmed: bool = False
    """Whether the wallet has just signed what is asked for, as it can't be undone."""


_LASTING = frozenset(
    {
        ("DELETE", "/agent/projects/{projectId}"),
        ("DELETE", "/agent/projects/{projectId}/tokens"),
        ("POST", "/agent/projects/{projectId}/adopt"),
        ("POST", "/agent/projects/{projectId}/tokens"),
    }
)
"""What can't be undone, or lets others in: its wallet signs it, even with a session."""


def share_of(request: Request, wallet: str) -> str:
    """Returns whose share of a wallet's streams is used: its own, or that of its links' readers."""
    return f"readers of {wallet}" if is_reader(request) else wallet


def is_reader(request: Request) -> bool:
    """Returns whether it is asked by somebody with a link who may look alone."""
    person: Person | None = request.scope.get(PERSON)
    return person is not None and not person.may_change


def require_permitted(request: Request, person: Person) -> None:
    """Raises LinkScope for a request beyond what the person may do, and ConfirmationMissing."""
    if person.project_id is not None and request.path_params.get("projectId") != person.project_id:
        raise LinkScope
    if request.method in ("GET", "HEAD"):
        return
    if not person.may_change:
        raise LinkScope
    if (request.method, request.scope["route"].path) in _LASTING:
        require_confirmed(request)


def require_confirmed(request: Request) -> None:
    """Raises ConfirmationMissing unless whoever looks at a page has just signed what is asked for.

    A request that its wallet signed is confirmed by that.
    """
    person: Person | None = request.scope.get(PERSON)
    if person is not None and not person.has_confirmed:
        raise ConfirmationMissing
