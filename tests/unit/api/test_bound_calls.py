"""What moves money or power: only its wallet's signature of the very request, and not twice."""

from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from starlette.requests import Request

from moorage.api.http.caller import (
    PERSON,
    TOKEN,
    Caller,
    Front,
    Payer,
    Person,
    Polled,
    authenticate,
    needs,
)
from moorage.api.operations import OPERATIONS
from moorage.auth.authenticator import Authenticator
from moorage.auth.nonces import NonceFile
from moorage.auth.rate_limit import TrustedProxies
from moorage.auth.tokens import ManageTokens
from moorage.auth.wallet import ContractWallets
from moorage.errors import AuthMissing, InvalidField, MoorageError, NonceReused, SignatureUnbound
from moorage.storage.database import Database
from support.books.records_fixture import add_project
from support.clients.typed_request import content_digest_of, signed_typed_data
from support.gateway.believed import limiters_of, request_of
from support.gateway.clock import MovableClock

KEY = "0x" + "11" * 32
OWNER = Account.from_key(KEY).address
PATH = "/agent/projects/my-app/adopt"
NONCE = "8d2f7a31-5b0e-4c6a-9f3d-2e1c0b9a8f7e"
Headers = dict[str, str]


class Gate:
    def __init__(self, db: Database, clock: MovableClock, nonces: NonceFile) -> None:
        self.clock = clock
        self.tokens = ManageTokens(db=db, clock=clock)
        self.front = SimpleNamespace(
            db=db,
            clock=clock,
            host="gateway.example",
            public_url="https://gateway.example",
            authenticator=Authenticator(
                nonces, contracts=cast("ContractWallets", SimpleNamespace(accept=_no, asked=str))
            ),
            manage_tokens=self.tokens,
            paid_wallets=SimpleNamespace(has_paid=_yes),
            limiters=limiters_of(clock, limit=100),
            trusted_proxies=TrustedProxies(()),
        )

    def first_version(self) -> Headers:
        stamp = self.clock.now_ms()
        text = encode_defunct(text=f"{OWNER}:{stamp}:{NONCE}")
        return self._named(stamp) | {"x-signature": hexed(Account.sign_message(text, KEY))}

    def second_version(self, *, path: str = PATH, method: str = "POST") -> Headers:
        stamp = self.clock.now_ms()
        signature = signed_typed_data(
            KEY,
            wallet=OWNER,
            host="gateway.example",
            method=method,
            path=path,
            body_digest=sha256(b"").digest(),
            timestamp=stamp,
            nonce=NONCE,
        )
        return self._named(stamp) | {
            "x-signature": signature,
            "x-signature-version": "2",
            "content-digest": content_digest_of(b""),
        }

    def _named(self, stamp: int) -> Headers:
        return {"x-wallet-address": OWNER, "x-timestamp": str(stamp), "x-nonce": NONCE}

    async def ask(
        self, headers: Headers, *, path: str = PATH, key: str | None = "key", **scope: object
    ) -> Caller:
        keyed = headers if key is None else headers | {"idempotency-key": key}
        request = request_of(path=path, method="POST", headers=keyed, projectId="my-app")
        route = SimpleNamespace(path="/agent/projects/{projectId}/adopt")
        request.scope.update(raw_path=path.encode(), route=route, **scope)
        return await authenticate(cast("Front", self.front), Request(request.scope))

    async def refused(self, headers: Headers, **asked: Any) -> type[MoorageError]:
        with pytest.raises(MoorageError) as error:
            await self.ask(headers, **asked)
        return error.type


def hexed(signed: Any) -> str:
    return "0x" + bytes(signed.signature).hex()


async def _no(*_: object, **__: object) -> bool:
    return False


async def _yes(_: str) -> bool:
    return True


@pytest.fixture
async def gate(db: Database, clock: MovableClock, tmp_path: Path) -> AsyncIterator[Gate]:
    nonces = NonceFile(tmp_path, clock=clock, boot="boot")
    yield Gate(db, clock, nonces)
    await nonces.close()


async def test_signature_of_the_very_request_moves_power_once(gate: Gate) -> None:
    signed = gate.second_version()
    assert (await gate.ask(signed)).wallet == OWNER.lower()
    assert await gate.refused(signed) is NonceReused


FORMS: dict[str, Callable[[Gate], Headers]] = {
    "version 1": lambda gate: gate.first_version(),
    "version 1 that says so": lambda gate: gate.first_version() | {"x-signature-version": "1"},
    "a version of the future": lambda gate: gate.second_version() | {"x-signature-version": "3"},
    "sign-in-with-x": lambda _: {"sign-in-with-x": "e30="},
    "sign-in beside a version": lambda _: {"sign-in-with-x": "e30=", "x-signature-version": "2"},
}


@pytest.mark.parametrize("form", FORMS)
async def test_what_could_be_handed_on_moves_no_power(gate: Gate, form: str) -> None:
    assert await gate.refused(FORMS[form](gate)) is SignatureUnbound


@pytest.mark.parametrize("beside", [False, True], ids=["in its header", "beside a credential"])
async def test_manage_token_moves_no_power(gate: Gate, db: Database, beside: bool) -> None:
    project = await add_project(db, OWNER.lower(), "my-app")
    token = await gate.tokens.make(project.id)
    headers = {} if beside else {"authorization": f"Bearer {token}"}
    scope = {TOKEN: token} if beside else {}
    assert await gate.refused(headers | {"x-signature-version": "2"}, **scope) is SignatureUnbound


async def test_session_moves_power_only_when_its_wallet_has_just_confirmed(gate: Gate) -> None:
    person = Person(OWNER.lower())
    assert await gate.refused({}, **{PERSON: person}) is SignatureUnbound
    confirmed: dict[str, Any] = {PERSON: person._replace(has_confirmed=True)}
    assert (await gate.ask({}, **confirmed)).wallet == OWNER.lower()
    assert await gate.refused({}, key=None, **confirmed) is InvalidField


async def test_nobody_is_told_to_sign(gate: Gate) -> None:
    assert await gate.refused({}) is AuthMissing


@pytest.mark.parametrize("other", ["/agent/projects/other/adopt", "/agent/projects/my-app/tokens"])
async def test_signature_of_another_request_moves_no_power(gate: Gate, other: str) -> None:
    assert (await gate.refused(gate.second_version(path=other))).__name__ == "SignatureInvalid"


async def test_without_a_key_nothing_is_done_and_the_nonce_stays_good(gate: Gate) -> None:
    signed = gate.second_version()
    with pytest.raises(InvalidField) as error:
        await gate.ask(signed, key=None)
    assert error.value.field == "Idempotency-Key"
    assert (await gate.ask(signed)).wallet == OWNER.lower()


async def test_what_moves_no_power_takes_either_version_and_no_key(gate: Gate) -> None:
    caller = await gate.ask(gate.first_version(), path="/agent/projects/my-app/rollback", key=None)
    assert caller.wallet == OWNER.lower()


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if each.bound],
    ids=lambda each: f"{each.method} {each.path}",
)
def test_no_payment_and_no_token_stands_for_what_is_bound(operation: Any) -> None:
    assert operation.signed
    assert not operation.paid
    assert not operation.of_a_project
    assert not {Payer, Polled} & set(needs(operation.handler))
