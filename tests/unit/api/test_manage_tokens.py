"""Manage tokens: what they open, for how long, and for whom."""

import hashlib
from typing import Any

import msgspec
import pytest
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from moorage.api.access import make_manage_token, revoke_manage_tokens
from moorage.api.http.caller import Caller, Front, answered, authenticate, owned_project
from moorage.api.http.idempotency import Idempotency
from moorage.auth.tokens import MAX_TOKENS, ManageTokens
from moorage.errors import MoorageError, RateLimited, SignatureUnbound, TokenInvalid, TokenScope
from moorage.records.project import Project, ProjectStatus
from moorage.storage.access_schema import manage_tokens
from moorage.storage.apps import projects
from moorage.storage.database import Database, Statement
from support.books.records_fixture import ALICE, add_project
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import MovableClock

LIMIT = 30
EVERYTHING = Statement(select(*manage_tokens.c))


class Entrance(Believed):
    """A gateway at which Alice signs requests, unless they carry a token."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        super().__init__(
            db,
            clock,
            limit=LIMIT,
            manage_tokens=ManageTokens(db=db, clock=clock),
            idempotency=Idempotency(db=db, clock=clock),
            public_url="https://gateway.example",
        )

    async def make(self, project: Project, body: Any = None, *, key: str | None = None) -> str:
        keyed = {} if key is None else {"idempotency-key": key}
        content = b"" if body is None else msgspec.json.encode(body)
        request = request_of(body=content, headers=keyed, projectId=project.id)
        made = body_of(await answered(make_manage_token, self.room, request))
        assert made["projectId"] == project.id
        return str(made["manage_token"])

    async def revoke(self, project: Project) -> int:
        return int(
            body_of(await answered(revoke_manage_tokens, self.room, asked(project.id)))["revoked"]
        )


def asked(
    project_id: str | None = None,
    token: str | None = None,
    path: str = "/agent/projects/{projectId}",
    method: str = "GET",
    **headers: str,
) -> Request:
    sent = headers | ({} if token is None else {"authorization": f"Bearer {token}"})
    named: dict[str, Any] = {} if project_id is None else {"projectId": project_id}
    return request_of(path=path, method=method, headers=sent, **named)


@pytest.fixture
def entrance(db: Database, clock: MovableClock) -> Entrance:
    return Entrance(db, clock)


@pytest.fixture
async def own(db: Database) -> Project:
    return await add_project(db, ALICE, "own")


async def refused(front: Front, request: Request) -> type[MoorageError]:
    with pytest.raises(MoorageError) as error:
        await authenticate(front, request)
    return error.type


async def test_request_is_counted_once_whatever_its_handler_is_told_of_the_sender(
    entrance: Entrance, own: Project
) -> None:
    async def names(_: Front, caller: Caller, project: Project, request: Request) -> Response:
        return PlainTextResponse(f"{caller.wallet} {project.id} {request.method}")

    for _ in range(LIMIT):
        answer = await answered(names, entrance.room, asked(own.id))
        assert bytes(answer.body).decode() == f"{ALICE} {own.id} GET"
    with pytest.raises(RateLimited):
        await answered(names, entrance.room, asked(own.id))
    assert entrance.nonces_used == LIMIT


async def test_token_opens_its_project_and_no_other_of_its_wallet(
    entrance: Entrance, own: Project
) -> None:
    other = await add_project(entrance.db, ALICE, "other")
    token = await entrance.make(own)

    assert await owned_project(entrance.room, asked(own.id, token)) == own
    assert await refused(entrance.room, asked(other.id, token)) is TokenScope


@pytest.mark.parametrize(
    "path",
    [
        "/agent/refunds/quote",
        "/agent/projects",
        "/agent/events",
        "/agent/webhook",
        "/agent/refunds",
    ],
)
async def test_token_opens_nothing_of_its_wallet(
    entrance: Entrance, own: Project, path: str
) -> None:
    token = await entrance.make(own)
    assert await refused(entrance.room, asked(None, token, path)) is TokenScope


async def test_token_pays_for_its_wallet_and_reads_none_of_its_credits(
    entrance: Entrance, own: Project
) -> None:
    token = await entrance.make(own)
    for path in ("/credits", "/agent/credits"):
        pays = asked(None, token, path, method="POST")
        assert (await authenticate(entrance.room, pays)).wallet == ALICE
        assert await refused(entrance.room, asked(None, token, path, method="GET")) is TokenScope


@pytest.mark.parametrize("path", ["/agent/deploy", "/agent/quote"])
async def test_token_deploys_its_own_project_alone(
    entrance: Entrance, own: Project, path: str
) -> None:
    request = asked(None, await entrance.make(own), path, method="POST")

    caller = await authenticate(entrance.room, request)
    assert (caller.wallet, caller.project_id) == (ALICE, own.id)
    assert caller.about("own") == caller
    with pytest.raises(TokenScope):
        caller.about("other")


async def test_token_neither_makes_nor_revokes_tokens(entrance: Entrance, own: Project) -> None:
    token = await entrance.make(own)
    request = asked(own.id, token, "/agent/projects/{projectId}/tokens", method="POST")
    assert await refused(entrance.room, request) is SignatureUnbound


async def test_revoked_tokens_open_nothing_any_more(entrance: Entrance, own: Project) -> None:
    other = await add_project(entrance.db, ALICE, "other")
    tokens, kept = [await entrance.make(own) for _ in range(2)], await entrance.make(other)

    assert await entrance.revoke(own) == 2
    for token in tokens:
        assert await refused(entrance.room, asked(own.id, token)) is TokenInvalid
    assert await owned_project(entrance.room, asked(other.id, kept)) == other


async def test_token_ends_with_its_project_and_opens_no_later_one_of_the_name(
    entrance: Entrance, own: Project
) -> None:
    token = await entrance.make(own)
    async with entrance.db.transaction(durable=True) as tx:
        await projects.set_status(tx, own.id, ProjectStatus.DELETING)
        await projects.set_deleted(tx, own.id, at_ms=1)
    await add_project(entrance.db, ALICE, "own")

    assert await refused(entrance.room, asked(None, token, "/agent/deploy")) is TokenInvalid


async def test_of_a_token_its_digest_alone_is_stored(entrance: Entrance, own: Project) -> None:
    token = await entrance.make(own)
    dump = str(await entrance.db.all(EVERYTHING))
    assert token not in dump
    assert hashlib.sha256(token.encode()).hexdigest() in dump


async def test_project_has_so_many_tokens_and_the_oldest_go(
    entrance: Entrance, own: Project, clock: MovableClock
) -> None:
    tokens = []
    for _ in range(MAX_TOKENS + 1):
        tokens.append(await entrance.make(own))
        clock.advance(60_000)

    assert await refused(entrance.room, asked(own.id, tokens[0])) is TokenInvalid
    for token in tokens[1:]:
        assert await owned_project(entrance.room, asked(own.id, token)) == own
        clock.advance(60_000)
    assert len(set(tokens)) == len(tokens)


async def test_new_token_is_the_newest_also_when_the_clock_goes_back(
    entrance: Entrance, own: Project, clock: MovableClock
) -> None:
    tokens = [await entrance.make(own) for _ in range(MAX_TOKENS)]
    clock.step(-3_600_000)
    tokens += [await entrance.make(own) for _ in range(2)]

    for token in tokens[:2]:
        assert await refused(entrance.room, asked(own.id, token)) is TokenInvalid
    for token in tokens[2:]:
        assert await owned_project(entrance.room, asked(own.id, token)) == own


@pytest.mark.parametrize("token", ["", "mgt_", "mgt_" + "A" * 43, "mgt_" + "A" * 10_000, "\xff"])
async def test_what_is_no_token_counts_for_its_address(entrance: Entrance, token: str) -> None:
    for _ in range(LIMIT):
        assert await refused(entrance.room, asked("any", token)) is TokenInvalid
    assert await refused(entrance.room, asked("any", token)) is RateLimited


async def test_token_does_not_use_up_its_wallets_requests(entrance: Entrance, own: Project) -> None:
    token = await entrance.make(own)
    for _ in range(LIMIT):
        await owned_project(entrance.room, asked(own.id, token))
    assert await refused(entrance.room, asked(own.id, token)) is RateLimited
    assert await owned_project(entrance.room, asked(own.id)) == own


async def test_wallet_headers_go_before_a_token(entrance: Entrance, own: Project) -> None:
    request = asked(None, "mgt_", "/agent/credits", **{"x-wallet-address": ALICE})
    assert await authenticate(entrance.room, request) == Caller(ALICE, None)


async def test_token_may_do_what_it_was_made_for_until_it_expires(
    entrance: Entrance, own: Project, clock: MovableClock
) -> None:
    token = await entrance.make(own, {"scopes": ["read"], "days": 2})
    for method, path in (("PATCH", "/agent/projects/own"), ("DELETE", "/agent/projects/own")):
        assert await refused(entrance.room, asked("own", token, path, method)) is TokenScope
    deploys = asked(None, token, "/agent/deploy", method="POST")
    assert await refused(entrance.room, deploys) is TokenScope
    tops_up = asked(None, token, "/agent/credits", method="POST")
    assert (await authenticate(entrance.room, tops_up)).acted_by.startswith("token:")
    clock.advance(2 * 86_400_000 - 1)
    assert await owned_project(entrance.room, asked(own.id, token)) == own
    clock.advance(1)
    assert await refused(entrance.room, asked(own.id, token)) is TokenInvalid


async def test_lost_answer_is_asked_for_again_and_leaves_one_token(
    entrance: Entrance, own: Project
) -> None:
    tokens = [await entrance.make(own, key="k") for _ in range(3)]
    for lost in tokens[:2]:
        assert await refused(entrance.room, asked(own.id, lost)) is TokenInvalid
    assert await owned_project(entrance.room, asked(own.id, tokens[2])) == own
    assert await entrance.revoke(own) == 1
    with pytest.raises(TokenInvalid):  # what was revoked does not come back
        await entrance.make(own, key="k")
