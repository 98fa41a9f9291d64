import asyncio
from base64 import b64encode
from contextlib import AbstractAsyncContextManager
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.deployments import DeploymentRoom, roll_back
from moorage.api.http import idempotency as module
from moorage.api.http.caller import Caller
from moorage.api.http.idempotency import LEASE_MS, Idempotency, idempotency_key
from moorage.api.http.problems import json_response
from moorage.errors import IdempotencyInProgress, IdempotencyKeyReused, InvalidField
from moorage.hosting.work.rollback import RollingBack
from moorage.records.project import Project
from moorage.storage import idempotency
from moorage.storage.database import Database
from moorage.storage.idempotency import Claim
from moorage.storage.page_access import ManagedProject
from support.books.records_fixture import ALICE, BOB, add_project, delegation
from support.gateway.believed import request_of
from support.gateway.clock import HOUR_MS, MovableClock

DAY_MS = 24 * HOUR_MS


def request(*keys: str, path: str = "/agent/deploy", signature: str = "") -> Request:
    headers = [(b"idempotency-key", key.encode()) for key in keys]
    if signature:
        headers.append((b"payment-signature", signature.encode()))
    return Request(
        {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": headers,
            "query_string": b"",
            "server": ("gateway", 80),
            "scheme": "http",
        }
    )


class Acted(msgspec.Struct, frozen=True):
    times: int


class Once:
    """An endpoint of one gateway that answers with how often it has acted."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.db = db
        self.idempotency = Idempotency(db=db, clock=clock)
        self.acted = 0
        self.gate: asyncio.Event | None = None

    async def __call__(
        self, key: str | None, *, wallet: str = ALICE, body: str = "body", **given: str
    ) -> Response:
        async with self.attempt(key, wallet=wallet, body=body, **given) as attempt:
            return attempt.answer or attempt.answered(await self._act(attempt))

    def attempt(
        self, key: str | None, *, wallet: str = ALICE, body: str = "body", **given: str
    ) -> AbstractAsyncContextManager[module.Attempt[Acted]]:
        asked = request(*([key] if key is not None else []), **given)
        return self.idempotency.attempt(
            asked, wallet=wallet, body_digest=body, outcome=Acted, render=render
        )

    async def _act(self, attempt: module.Attempt[Acted]) -> Acted:
        if self.gate is not None:
            await self.gate.wait()
        acted = Acted(self.acted + 1)
        async with self.db.transaction(durable=True) as tx:
            await idempotency.carried_out(tx, attempt.claim, acted)
        self.acted += 1
        return acted


def render(acted: Acted) -> Response:
    return json_response({"acted": acted.times}, headers=[("Payment-Receipt", "proof")])


@pytest.fixture
def once(db: Database, clock: MovableClock) -> Once:
    return Once(db, clock)


async def test_same_request_with_the_same_key_is_carried_out_once(once: Once) -> None:
    first = await once("key")
    again = await once("key")
    assert once.acted == 1
    assert (again.status_code, again.body) == (200, first.body) == (200, b'{"acted":1}')
    assert again.raw_headers == first.raw_headers
    assert (b"payment-receipt", b"proof") in again.raw_headers


async def test_without_a_key_every_request_is_carried_out(once: Once) -> None:
    await once(None)
    await once(None)
    assert once.acted == 2


@pytest.mark.parametrize("other", [{"body": "another"}, {"path": "/agent/credits"}])
async def test_same_key_with_another_request_is_refused(once: Once, other: dict[str, str]) -> None:
    await once("key")
    with pytest.raises(IdempotencyKeyReused):
        await once("key", **other)
    assert once.acted == 1


async def test_keys_of_another_wallet_are_its_own(once: Once) -> None:
    await once("key")
    assert (await once("key", wallet=BOB)).body == b'{"acted":2}'


async def test_answer_is_given_again_for_24_hours(once: Once, clock: MovableClock) -> None:
    await once("key")
    clock.advance(DAY_MS - 1)
    assert (await once("key")).body == b'{"acted":1}'
    clock.advance(1)
    assert (await once("key", body="another")).body == b'{"acted":2}'
    assert (await once("key", body="another")).body == b'{"acted":2}'


async def test_purge_forgets_only_what_is_no_longer_given(
    once: Once, clock: MovableClock, db: Database
) -> None:
    await once("old")
    clock.advance(DAY_MS // 2)
    await once("young")
    clock.advance(DAY_MS // 2)
    await once.idempotency.purge()
    clock.step(-DAY_MS // 2)  # even looked at as of then, the old one is gone
    assert (await once("old")).body == b'{"acted":3}'
    assert (await once("young")).body == b'{"acted":2}'


async def test_answer_survives_a_restart(once: Once, db: Database, clock: MovableClock) -> None:
    await once("key")
    assert (await Once(db, clock)("key")).body == b'{"acted":1}'


async def test_forty_at_once_with_one_key_act_once_and_get_one_answer(once: Once) -> None:
    answers = await asyncio.gather(*(once("key") for _ in range(40)))
    assert {bytes(answer.body) for answer in answers} == {b'{"acted":1}'}
    assert once.acted == 1


async def test_two_gateways_on_one_database_act_once_and_give_one_answer(
    once: Once, db: Database, clock: MovableClock
) -> None:
    other = Once(db, clock)
    answers = await asyncio.gather(*(each("key") for _ in range(20) for each in (once, other)))
    assert {bytes(answer.body) for answer in answers} == {b'{"acted":1}'}
    assert once.acted + other.acted == 1


async def test_key_whose_gateway_crashed_is_free_when_its_lease_is_over(
    once: Once, db: Database, clock: MovableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0)
    crashed = once.attempt("key")
    await crashed.__aenter__()
    other = Once(db, clock)
    clock.advance(LEASE_MS - 1)
    with pytest.raises(IdempotencyInProgress):
        await other("key")
    clock.advance(1)
    assert (await other("key")).body == b'{"acted":1}'
    await crashed.__aexit__(None, None, None)
    assert (await other("key")).body == b'{"acted":1}'
    assert other.acted == 1


async def test_claim_that_was_lost_carries_nothing_out(once: Once, clock: MovableClock) -> None:
    slow = once.attempt("key")
    attempt = await slow.__aenter__()
    clock.advance(LEASE_MS)
    await once("key")
    with pytest.raises(IdempotencyInProgress):
        async with once.db.transaction(durable=True) as tx:
            await idempotency.carried_out(tx, attempt.claim, Acted(2))
    await slow.__aexit__(None, None, None)
    assert (await once("key")).body == b'{"acted":1}'


async def test_what_was_done_but_never_answered_is_answered_to_a_repeat(once: Once) -> None:
    async with once.attempt("key") as attempt, once.db.transaction(durable=True) as tx:
        await idempotency.carried_out(tx, attempt.claim, Acted(7))
    assert (await once("key")).body == b'{"acted":7}'
    assert once.acted == 0


async def test_refusal_is_not_kept_and_lets_the_next_one_act(once: Once) -> None:
    async def refused() -> None:
        async with once.attempt("key"):
            raise InvalidField("field", "is wrong")

    outcomes = await asyncio.gather(refused(), once("key"), return_exceptions=True)
    assert isinstance(outcomes[0], InvalidField)
    assert once.acted == 1


async def test_who_waits_too_long_is_told_to_come_again(
    once: Once, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.01)
    once.gate = asyncio.Event()
    first = asyncio.create_task(once("key"))
    await asyncio.sleep(0)
    with pytest.raises(IdempotencyInProgress):
        await once("key")
    once.gate.set()
    assert (await first).body == (await once("key")).body == b'{"acted":1}'


@pytest.mark.parametrize("keys", [("",), ("two words",), ("a" * 256,), ("\xe4",), ("one", "two")])
def test_malformed_key_is_refused(keys: tuple[str, ...]) -> None:
    with pytest.raises(InvalidField, match="Idempotency-Key"):
        idempotency_key(request(*keys))


@pytest.mark.parametrize("key", ["a", "~" * 255, "6f0b8a3e-0c60-4b0a-9f3e-1f1f3b1d5f0a"])
async def test_key_of_visible_ascii_is_taken(once: Once, key: str) -> None:
    assert (await once(key)).body == b'{"acted":1}'


def payment(identifier: str, *, signed: str) -> str:
    """A value of PAYMENT-SIGNATURE, as far as an identifier is read of it."""
    extensions = {"payment-identifier": {"info": {"required": False, "id": identifier}}}
    document = {"payload": {"signature": signed}, "extensions": extensions}
    return b64encode(msgspec.json.encode(document)).decode()


async def test_same_payment_identifier_and_payment_is_answered_again(once: Once) -> None:
    first = await once(None, signature=payment("a" * 16, signed="0x01"))
    again = await once(None, signature=payment("a" * 16, signed="0x01"))
    assert (bytes(again.body), once.acted) == (bytes(first.body), 1)
    await once(None, signature=payment("b" * 16, signed="0x01"))
    assert once.acted == 2


async def test_payment_identifier_of_another_payment_is_refused(once: Once) -> None:
    await once(None, signature=payment("a" * 16, signed="0x01"))
    with pytest.raises(IdempotencyKeyReused):
        await once(None, signature=payment("a" * 16, signed="0x02"))
    assert once.acted == 1


async def test_idempotency_key_is_for_any_payment_and_before_its_identifier(once: Once) -> None:
    await once("key", signature=payment("a" * 16, signed="0x01"))
    await once("key", signature=payment("b" * 16, signed="0x02"))
    assert once.acted == 1


class Releases:
    """Rolls back at once; each is another deployment."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.begun = 0

    async def to(self, project: Project, _: object, *, claim: Claim | None) -> RollingBack:
        self.begun += 1
        begun = RollingBack(project.id, f"d{self.begun}", "r1")
        async with self.db.transaction(durable=True) as tx:
            await idempotency.carried_out(tx, claim, begun)
        return begun


async def test_key_of_a_rollback_is_good_for_who_speaks(db: Database, clock: MovableClock) -> None:
    """Else a token of one project used up the keys of its wallet, and had its answers."""
    project, releases = await add_project(db, ALICE), Releases(db)
    room = SimpleNamespace(idempotency=Idempotency(db=db, clock=clock), rollback=releases)
    owner = Caller(ALICE, None)
    token = owner._replace(managed=ManagedProject(project.id, project.unique_name, ALICE))
    agent = owner._replace(delegations=(delegation(),))
    asked = request_of(
        path=f"/agent/projects/{project.id}/rollback",
        method="POST",
        headers={"idempotency-key": "1"},
    )
    asked.scope.update(server=("gateway", 80), scheme="http")
    for caller in (owner, token, agent, owner, token, agent):
        again = Request(asked.scope, receive)
        await roll_back(cast("DeploymentRoom", room), again, caller, project)
    assert releases.begun == 3


async def receive() -> dict[str, object]:
    return {"type": "http.request", "body": b"", "more_body": False}
