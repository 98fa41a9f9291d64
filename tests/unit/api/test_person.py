"""What a person with a session may ask the API for, by the kind of their session."""

import pytest
from starlette.requests import Request

from moorage.api.http.caller import (
    PERSON,
    Caller,
    Payer,
    Person,
    Polled,
    needs,
    require_permitted,
)
from moorage.api.http.dispatch import Operation, Route
from moorage.api.operations import OPERATIONS
from moorage.errors import ConfirmationMissing, LinkScope, MoorageError, SignatureUnbound
from moorage.records.project import Project
from support.books.records_fixture import ALICE

OWNER = Person(ALICE)
GUEST = Person(ALICE, may_change=False)
GUEST_OF_ONE = Person(ALICE, project_id="p1", may_change=False)
PROJECT = "/agent/projects/{projectId}"
SIGNED = [(each.method, each.path) for each in OPERATIONS if each.signed]
CHANGES = [each for each in SIGNED if each[0] != "GET"]
LASTING = ("DELETE", PROJECT)
BOUND = [
    ("POST", "/agent/refunds"),
    ("PUT", f"{PROJECT}/purse"),
    ("DELETE", f"{PROJECT}/tokens"),
    ("POST", f"{PROJECT}/adopt"),
    ("POST", f"{PROJECT}/tokens"),
    ("POST", f"{PROJECT}/transfer"),
    ("PUT", "/agent/recovery"),
    ("POST", "/agent/recovery/claim"),
    ("DELETE", "/agent/recovery/claim"),
    ("POST", "/agent/transfers/{offerId}/accept"),
    ("POST", "/agent/delegates"),
    ("DELETE", "/agent/delegates/{delegationId}"),
    ("POST", "/agent/delegates/epoch"),
]


def asked(method: str, path: str, *, project: str = "p1", person: Person | None = None) -> Request:
    scope = {
        "type": "http",
        "method": method,
        "headers": [],
        "route": Route(path),
        "path_params": {"projectId": project} if "{projectId}" in path else {},
        **({} if person is None else {PERSON: person}),
    }
    return Request(scope)


def refused(method: str, path: str, person: Person, project: str = "p1") -> type[MoorageError]:
    with pytest.raises(MoorageError) as error:
        require_permitted(asked(method, path, project=project, person=person), person)
    return error.type


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_read_only_link_changes_nothing_anywhere(method: str, path: str) -> None:
    assert refused(method, path, GUEST) is LinkScope
    assert refused(method, path, GUEST._replace(has_confirmed=True)) is LinkScope


@pytest.mark.parametrize(("method", "path"), SIGNED)
def test_link_to_one_project_shows_no_other_and_nothing_of_the_wallet(
    method: str, path: str
) -> None:
    assert refused(method, path, GUEST_OF_ONE, project="p2") is LinkScope


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_whoever_must_sign_is_handed_to_the_handler(operation: Operation) -> None:
    """A handler that names nobody would answer everybody."""
    senders = {Caller, Project, Polled, Payer} & set(needs(operation.handler))
    assert bool(senders) == (operation.signed or operation.is_open)


def test_link_shows_what_it_was_made_for() -> None:
    require_permitted(asked("GET", f"{PROJECT}/usage"), GUEST_OF_ONE)
    require_permitted(asked("GET", "/agent/credits"), GUEST)


@pytest.mark.parametrize(
    ("call", "error"),
    [(LASTING, ConfirmationMissing), *((each, SignatureUnbound) for each in BOUND)],
)
def test_what_cannot_be_undone_or_gives_power_is_signed_even_with_a_session(
    call: tuple[str, str], error: type[MoorageError]
) -> None:
    assert refused(*call, OWNER) is error
    confirmed = OWNER._replace(has_confirmed=True)
    require_permitted(asked(*call, person=confirmed), confirmed)


@pytest.mark.parametrize(("method", "path"), sorted({*CHANGES} - {LASTING, *BOUND}))
def test_everything_else_needs_the_session_alone(method: str, path: str) -> None:
    require_permitted(asked(method, path), OWNER)
