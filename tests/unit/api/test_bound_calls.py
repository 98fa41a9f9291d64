"""Signatures of the very request: what moves money or power takes no others, nor do delegates."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from starlette.requests import Request

from moorage.api.deploy import require_bound_purse
from moorage.api.http.caller import (
    PERSON,
    TOKEN,
    Caller,
    Front,
    Payer,
    Person,
    Polled,
    authenticate,
    may_still_read,
    needs,
    require_bound,
)
from moorage.api.http.request import named_project
from moorage.api.operations import OPERATIONS
from moorage.api.webhooks import WebhookRoom, list_events
from moorage.auth.authenticator import Authenticator, SignIn
from moorage.auth.delegates import Delegates
from moorage.auth.nonces import NonceFile
from moorage.auth.rate_limit import TrustedProxies
from moorage.auth.recovery import DAY_MS, Recoveries
from moorage.auth.tokens import ManageTokens
from moorage.auth.wallet import ContractWallets
from moorage.errors import (
    AuthMissing,
    ConfirmationMissing,
    DelegateScope,
    InvalidField,
    MoorageError,
    NonceReused,
    RateLimited,
    SignatureInvalid,
    SignatureUnbound,
    WalletRecovered,
)
from moorage.money import MicroUsd
from moorage.records.access import StoredDelegation
from moorage.records.event import EventKind
from moorage.storage import delegations, events
from moorage.storage.apps.transfers import give
from moorage.storage.database import Database
from moorage.storage.money import accounts
from moorage.uploads.request import PurseTerms
from support.books.records_fixture import BOB, add_project, delegation
from support.clients.typed_request import content_digest_of, signed_typed_data
from support.gateway.believed import limiters_of, request_of
from support.gateway.clock import MovableClock

KEY = "0x" + "11" * 32
OWNER = Account.from_key(KEY).address
AGENT_KEY = "0x" + "22" * 32
AGENT = Account.from_key(AGENT_KEY).address
PROJECTS = "/agent/projects/"
PATH = f"{PROJECTS}my-app/adopt"
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
            delegates=Delegates(db=db, clock=clock, host="gateway.example"),
            recoveries=Recoveries(db=db, clock=clock, billed_ms=clock.now_ms),
            paid_wallets=SimpleNamespace(has_paid=_yes),
            limiters=limiters_of(clock, limit=100),
            trusted_proxies=TrustedProxies(()),
        )

    def first_version(self, key: str = KEY) -> Headers:
        stamp, wallet = self.clock.now_ms(), Account.from_key(key).address
        text = encode_defunct(text=f"{wallet}:{stamp}:{NONCE}")
        signature = hexed(Account.sign_message(text, key))
        return self._named(stamp, wallet) | {"x-signature": signature}

    def second_version(
        self, *, path: str = PATH, method: str = "POST", key: str = KEY, owner: str = ""
    ) -> Headers:
        stamp, wallet = self.clock.now_ms(), Account.from_key(key).address
        signature = signed_typed_data(
            key,
            wallet=wallet,
            host="gateway.example",
            method=method,
            path=path,
            body_digest=sha256(b"").digest(),
            timestamp=stamp,
            nonce=NONCE,
            on_behalf_of=owner,
        )
        return self._named(stamp, wallet) | {
            "x-signature": signature,
            "x-signature-version": "2",
            "content-digest": content_digest_of(b""),
        }

    def signed_in(self) -> str:
        now = datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC)
        signed = SignIn(
            domain="gateway.example",
            address=OWNER,
            uri="https://gateway.example/",
            version="1",
            chain_id="eip155:1",
            type="eip191",
            nonce="abcdefgh",
            issued_at=now.isoformat(),
            signature="",
        )
        text = encode_defunct(signed.text)
        signature = hexed(Account.sign_message(text, KEY))
        encoded = msgspec.json.encode(msgspec.structs.replace(signed, signature=signature))
        return b64encode(encoded).decode()

    def _named(self, stamp: int, wallet: str) -> Headers:
        return {"x-wallet-address": wallet, "x-timestamp": str(stamp), "x-nonce": NONCE}

    async def ask(
        self,
        headers: Headers,
        *,
        method: str = "POST",
        path: str = PATH,
        key: str | None = "key",
        **scope: object,
    ) -> Caller:
        keyed = headers if key is None else headers | {"idempotency-key": key}
        named: dict[str, Any] = (
            {"projectId": path.split("/")[3]} if path.startswith(PROJECTS) else {}
        )
        request = request_of(path=path, method=method, headers=keyed, **named)
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


class Agent:
    """Signs as itself for the owner, once that has let it."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.headers = {"x-on-behalf-of": OWNER}

    async def is_allowed(self, scopes: str, *, project: str = "") -> None:
        db: Database = self.gate.front.db
        now_ms = self.gate.clock.now_ms()
        async with db.transaction(durable=True) as tx:
            await accounts.ensure_wallet(tx, OWNER.lower(), now_ms=now_ms)
            allowed = StoredDelegation(
                id=f"{scopes} {project}",
                owner=OWNER.lower(),
                delegate=AGENT.lower(),
                host="gateway.example",
                project=project,
                scopes=scopes,
                limit_usd_month=20,
                not_after=now_ms // 1000 + 3600,
                epoch=0,
                signature="",
                created_at_ms=now_ms,
            )
            await delegations.add(tx, allowed)

    def signed(self, method: str, path: str) -> Headers:
        signed = self.gate.second_version(method=method, path=path, key=AGENT_KEY, owner=OWNER)
        return signed | self.headers

    async def ask(self, method: str, path: str) -> Caller:
        return await self.gate.ask(self.signed(method, path), method=method, path=path)

    async def refused(self, method: str, path: str) -> type[MoorageError]:
        return await self.gate.refused(self.signed(method, path), method=method, path=path)


@pytest.fixture
async def agent(gate: Gate, db: Database) -> Agent:
    for name in ("shop", "blog"):
        await add_project(db, OWNER.lower(), name)
    await add_project(db, BOB, "bobs")
    return Agent(gate)


async def test_delegate_acts_for_its_owner_by_its_own_signature_and_nonce(
    agent: Agent, gate: Gate
) -> None:
    await agent.is_allowed("read")
    signed = agent.signed("GET", "/agent/credits")
    caller = await gate.ask(signed, method="GET", path="/agent/credits")
    assert (caller.wallet, caller.acted_by) == (OWNER.lower(), AGENT.lower())
    assert await gate.refused(signed, method="GET", path="/agent/credits") is NonceReused
    own = gate.second_version(method="GET", path="/agent/credits")  # the owner's, of that nonce
    caller = await gate.ask(own, method="GET", path="/agent/credits")
    assert (caller.wallet, caller.acted_by) == (OWNER.lower(), "")


async def test_request_for_one_owner_is_done_for_no_other_and_not_for_its_signer(
    agent: Agent, gate: Gate
) -> None:
    await agent.is_allowed("read")
    asked = {"method": "GET", "path": "/agent/credits"}
    signed = gate.second_version(**asked, key=AGENT_KEY)
    for other in (
        signed | {"x-on-behalf-of": OWNER},
        gate.second_version(**asked, key=AGENT_KEY, owner=BOB) | {"x-on-behalf-of": OWNER},
        gate.second_version(**asked, key=AGENT_KEY, owner=OWNER),
    ):
        assert await gate.refused(other, **asked) is SignatureInvalid
    with pytest.raises(SignatureInvalid, match=f"onBehalfOf {OWNER.lower()}"):
        await gate.ask(signed | {"x-on-behalf-of": OWNER}, **asked)
    assert (await gate.ask(signed, **asked)).wallet == AGENT.lower()


def test_deploy_that_fills_a_purse_takes_no_sign_in_that_only_names_a_version() -> None:
    purse = PurseTerms(MicroUsd(1), shared=False, limit=None)
    asked = cast("Any", SimpleNamespace(request=SimpleNamespace(purse=purse), managed=None))
    version = {"x-signature-version": "2"}
    require_bound_purse(request_of(headers={"x-wallet-address": OWNER, **version}), asked)
    with pytest.raises(SignatureUnbound):
        require_bound_purse(request_of(headers={"sign-in-with-x": "e30=", **version}), asked)


@pytest.mark.parametrize("form", ["version 1", "sign-in-with-x"])
async def test_delegate_acts_by_no_signature_that_could_be_handed_on(
    agent: Agent, gate: Gate, form: str
) -> None:
    await agent.is_allowed("read")
    forms = {"version 1": gate.first_version(AGENT_KEY), "sign-in-with-x": {"sign-in-with-x": "e"}}
    headers = forms[form] | agent.headers
    assert await gate.refused(headers, method="GET", path="/agent/credits") is SignatureUnbound


async def test_manage_token_acts_for_no_other_wallet(agent: Agent, gate: Gate) -> None:
    headers = {"authorization": "Bearer mgt_x"} | agent.headers
    assert await gate.refused(headers, method="GET", path="/agent/credits") is SignatureUnbound


SHOP, BLOG = f"{PROJECTS}shop", f"{PROJECTS}blog"


@pytest.mark.parametrize(
    ("scopes", "project", "allowed", "refused"),
    [
        ("", "", [], [("GET", "/agent/projects")]),
        (
            "read",
            "",
            [("GET", "/agent/projects"), ("GET", "/agent/credits"), ("GET", f"{SHOP}/logs")],
            [
                *(("POST", "/agent/deploy"), ("PATCH", SHOP), ("DELETE", SHOP)),
                *(("GET", "/agent/webhook"), ("GET", "/agent/links")),
            ],
        ),
        (
            "deploy",
            "",
            [("POST", "/agent/deploy"), ("POST", "/agent/quote"), ("PATCH", SHOP)],
            [
                ("GET", SHOP),
                ("DELETE", SHOP),
                ("POST", "/agent/credits"),
                ("POST", "/agent/links"),
            ],
        ),
        ("delete", "", [("DELETE", SHOP)], [("GET", SHOP), ("DELETE", f"{SHOP}/tokens")]),
        (
            "read deploy delete",
            "shop",
            [("GET", SHOP), ("POST", "/agent/deploy"), ("DELETE", SHOP)],
            [("GET", BLOG), ("GET", "/agent/projects"), ("GET", "/agent/credits"), ("PATCH", BLOG)],
        ),
        (
            "read deploy delete",
            "",
            [],
            [
                *(("POST", f"{SHOP}/{what}") for what in ("adopt", "tokens", "exports")),
                *(("POST", f"/agent/{what}") for what in ("delegates", "links")),
            ],
        ),
    ],
)
async def test_delegate_may_do_what_its_scopes_cover_and_no_more(
    agent: Agent,
    scopes: str,
    project: str,
    allowed: list[tuple[str, str]],
    refused: list[tuple[str, str]],
) -> None:
    if scopes:
        await agent.is_allowed(scopes, project=project)
    for each in refused:
        assert await agent.refused(*each) is DelegateScope, each
        agent.gate.clock.advance(1)
    for each in allowed:
        agent.gate.clock.advance(61_000)  # its nonce is good again
        assert (await agent.ask(*each)).wallet == OWNER.lower()


async def test_delegate_of_a_project_deploys_no_other(agent: Agent) -> None:
    await agent.is_allowed("deploy", project="shop")
    await agent.is_allowed("deploy", project="blog")
    caller = await agent.ask("POST", "/agent/deploy")
    assert [each.project for each in caller.about("blog").delegations] == ["blog"]
    with pytest.raises(DelegateScope):
        caller.about("other")


async def test_what_reads_a_log_reads_on_until_it_is_ended(
    gate: Gate, agent: Agent, db: Database
) -> None:
    shop = await named_project(db, "shop", wallet=OWNER.lower())
    token, path = await gate.tokens.make(shop.id), f"{SHOP}/logs"
    await agent.is_allowed("read")
    readers = {
        "itself": gate.second_version(method="GET", path=path),
        "delegate": agent.signed("GET", path),
        "token": {"authorization": f"Bearer {token.token}"},
    }
    asked = {}
    for who, headers in readers.items():
        request = request_of(path=path, method="GET", headers=headers, projectId="shop")
        request.scope.update(raw_path=path.encode())
        asked[who] = request, await authenticate(cast("Front", gate.front), request)

    async def reading() -> list[str]:
        front = cast("Front", gate.front)
        return [who for who, by in asked.items() if await may_still_read(front, *by, shop.id)]

    assert await reading() == ["itself", "delegate", "token"]
    await gate.tokens.revoke(shop.id)
    assert await reading() == ["itself", "delegate"]
    await gate.front.delegates.end_all(OWNER.lower(), claim=None)
    assert await reading() == ["itself"]
    async with db.transaction(durable=True) as tx:
        await give(tx, shop, taker=BOB)
    assert await reading() == []


@pytest.fixture
async def taken_over(gate: Gate, db: Database, clock: MovableClock) -> None:
    """The agent's wallet has taken the owner's over."""
    owner, recoveries = OWNER.lower(), gate.front.recoveries
    await recoveries.put(owner, address=AGENT.lower(), wait_days=7)
    await recoveries.claim(owner, by=AGENT.lower())
    clock.advance(7 * DAY_MS)
    await recoveries.tick()


@pytest.mark.usefixtures("taken_over")
async def test_lost_key_opens_nothing_once_the_wallet_was_taken_over(gate: Gate) -> None:
    for signed in (gate.first_version(), gate.second_version(method="GET", path="/agent/credits")):
        refused = await gate.refused(signed, method="GET", path="/agent/credits")
        assert refused is WalletRecovered
    assert await gate.refused(gate.second_version()) is WalletRecovered
    person = Person(OWNER.lower(), has_confirmed=True)
    assert await gate.refused({}, **{PERSON: person}) is WalletRecovered
    request = request_of(path=f"{SHOP}/logs", method="GET", headers={})
    reader = Caller(OWNER.lower(), None)
    assert not await may_still_read(cast("Front", gate.front), request, reader, "any")
    sign_in = {"sign-in-with-x": gate.signed_in()}
    refused = await gate.refused(sign_in, method="GET", path="/agent/credits")
    assert refused is WalletRecovered


@pytest.mark.usefixtures("taken_over")
async def test_lost_key_acts_for_no_other_wallet(gate: Gate, agent: Agent) -> None:
    """Neither as a delegate nor as who took another over."""
    owner, recoveries = OWNER.lower(), gate.front.recoveries
    path = "/agent/projects"
    await agent.is_allowed("read")
    await recoveries.put(AGENT.lower(), address=BOB, wait_days=7)
    await recoveries.claim(AGENT.lower(), by=BOB)
    gate.clock.advance(7 * DAY_MS)
    await recoveries.tick()
    assert await agent.refused("GET", path) is WalletRecovered
    request = request_of(path=f"{SHOP}/logs", method="GET", headers={})
    for before in (
        Caller(owner, None, recovered_by=AGENT.lower()),
        Caller(owner, None, delegations=(delegation(scopes="read"),)),
    ):
        assert not await may_still_read(cast("Front", gate.front), request, before, "any")
    assert await recoveries.taken_over_by(owner) == BOB


@pytest.mark.usefixtures("taken_over")
async def test_who_took_a_wallet_over_acts_for_it_in_all(gate: Gate) -> None:
    for method, path in (("GET", "/agent/credits"), ("POST", PATH)):
        signed = gate.second_version(method=method, path=path, key=AGENT_KEY, owner=OWNER)
        caller = await gate.ask(signed | {"x-on-behalf-of": OWNER}, method=method, path=path)
        assert (caller.wallet, caller.acted_by) == (OWNER.lower(), AGENT.lower())
        gate.clock.advance(61_000)  # its nonce is good again
    own = gate.second_version(method="GET", path="/agent/credits", key=AGENT_KEY)
    caller = await gate.ask(own, method="GET", path="/agent/credits")
    assert (caller.wallet, caller.acted_by) == (AGENT.lower(), "")


@pytest.mark.usefixtures("taken_over")
async def test_who_took_a_wallet_over_acts_by_no_signature_that_could_be_handed_on(
    gate: Gate,
) -> None:
    headers = gate.first_version(AGENT_KEY) | {"x-on-behalf-of": OWNER}
    refused = await gate.refused(headers, method="GET", path="/agent/credits")
    assert refused is SignatureUnbound


async def test_key_that_acts_for_whom_it_may_not_uses_up_the_rate_of_its_address(
    agent: Agent, gate: Gate
) -> None:
    """Its signature is good, and keys are free: it would be asked about without end."""
    gate.front.limiters = limiters_of(gate.clock, limit=1)
    assert await agent.refused("GET", "/agent/credits") is DelegateScope
    assert await agent.refused("GET", "/agent/credits") is RateLimited


async def test_delegate_uses_up_a_rate_of_its_own(agent: Agent, gate: Gate) -> None:
    await agent.is_allowed("read")
    gate.front.limiters = limiters_of(gate.clock, limit=1)
    assert (await agent.ask("GET", "/agent/credits")).wallet == OWNER.lower()
    own = gate.second_version(method="GET", path="/agent/credits")
    assert (await gate.ask(own, method="GET", path="/agent/credits")).acted_by == ""


@pytest.mark.parametrize(
    ("form", "passes"),
    [("version 1", False), ("version 2", True), ("page", False), ("confirmed", True)],
)
async def test_link_that_opens_a_session_is_made_by_the_wallet_itself_alone(
    gate: Gate, form: str, passes: bool
) -> None:
    path, person = "/agent/links", Person(OWNER.lower(), has_confirmed=form == "confirmed")
    headers = {
        "version 1": gate.first_version(),
        "version 2": gate.second_version(path=path),
    }.get(form, {})
    request = request_of(path=path, method="POST", headers=headers)
    request.scope.update(raw_path=path.encode(), route=SimpleNamespace(path=path))
    if not headers:
        request.scope[PERSON] = person
    caller = await authenticate(cast("Front", gate.front), request)
    with nullcontext() if passes else pytest.raises((SignatureUnbound, ConfirmationMissing)):
        require_bound(request, caller)


async def test_nobody_but_the_owner_sees_where_an_archive_of_a_project_is_fetched(
    db: Database, clock: MovableClock
) -> None:
    """No scope covers exports, and that path is one."""
    async with db.transaction(durable=True) as tx:
        await accounts.ensure_wallet(tx, OWNER.lower(), now_ms=clock.now_ms())
        await events.record(
            tx,
            wallet=OWNER.lower(),
            kind=EventKind.PROJECT_EXPORTED,
            data={"project_id": "p", "path": "/exports/secret"},
            now_ms=clock.now_ms(),
        )
    owner, room = Caller(OWNER.lower(), None), cast("WebhookRoom", SimpleNamespace(db=db))
    agent = owner._replace(delegations=(delegation(scopes="read"),))
    request = request_of(path="/agent/events", method="GET", headers={})
    assert "path" in (await list_events(room, request, owner)).events[0].data
    assert "path" not in (await list_events(room, request, agent)).events[0].data
