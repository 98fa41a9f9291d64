"""Delegations: what an owner's key signed for this gateway, for now, and did not end."""

from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from sqlalchemy import update

from moorage.auth.delegates import MAX_DELEGATES, MAX_ROWS, Delegates
from moorage.auth.recovery import DAY_MS, Recoveries
from moorage.errors import DelegateNotFound, InvalidField, TooManyDelegates
from moorage.operate.audit.rows import audit_books
from moorage.records.access import Scope
from moorage.signing import Delegation
from moorage.storage import delegations
from moorage.storage.access_schema import delegations as rows
from moorage.storage.database import Database, Statement
from moorage.storage.money import accounts
from moorage.wire.delegates import DelegationTyped
from support.gateway.clock import MovableClock

KEY = "0x" + "11" * 32
OWNER, DELEGATE = (str(Account.from_key(key).address) for key in (KEY, "0x" + "22" * 32))
FIELDS = {
    "owner": "address",
    "host": "string",
    "delegate": "address",
    "project": "string",
    "scopes": "string[]",
    "limitUsdMonth": "uint256",
    "notAfter": "uint256",
    "epoch": "uint256",
}
READ = Scope.READ


class Owner:
    """Signs by eth_account what docs/use/signing.md says, and shows it to a gateway."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.clock = clock
        self.gateway = Delegates(db=db, clock=clock, host="gateway.example")

    def message(self, **changed: Any) -> dict[str, Any]:
        usual: dict[str, Any] = {
            "owner": OWNER,
            "host": "gateway.example",
            "delegate": DELEGATE,
            "project": "",
            "scopes": ["read", "deploy"],
            "limitUsdMonth": 20,
            "notAfter": self.clock.now_ms() // 1000 + 3600,
            "epoch": 0,
        }
        return usual | changed

    async def shows(self, key: str = KEY, **changed: Any) -> str:
        return await self.shows_message(self.message(**changed), key=key)

    async def shows_message(self, message: dict[str, Any], *, key: str = KEY) -> str:
        typed = encode_typed_data(
            domain_data={"name": "Moorage", "version": "2"},
            message_types={
                "Delegation": [{"name": name, "type": kind} for name, kind in FIELDS.items()]
            },
            message_data=message,
        )
        signature = bytes(Account.sign_message(typed, key).signature)
        taken = await self.gateway.take(
            Delegation(
                owner=message["owner"].lower(),
                host=message["host"],
                delegate=message["delegate"].lower(),
                project=message["project"],
                scopes=message["scopes"],
                limit_usd_month=message["limitUsdMonth"],
                not_after=message["notAfter"],
                epoch=message["epoch"],
            ),
            signature,
        )
        return taken.id

    async def refused(self, **changed: Any) -> str:
        with pytest.raises(InvalidField) as error:
            await self.shows(**changed)
        return error.value.field

    async def may(self, scope: Scope = READ, delegate: str = DELEGATE) -> list[str]:
        found = await self.gateway.between(
            owner=OWNER.lower(), delegate=delegate.lower(), scope=scope
        )
        return [each.id for each in found]


@pytest.fixture
async def owner(db: Database, clock: MovableClock) -> Owner:
    async with db.transaction(durable=True) as tx:
        await accounts.ensure_wallet(tx, OWNER.lower(), now_ms=clock.now_ms())
    return Owner(db, clock)


async def test_delegate_may_do_what_the_owners_key_signed_and_nothing_else(owner: Owner) -> None:
    shown = await owner.shows()
    assert await owner.may(Scope.READ) == await owner.may(Scope.DEPLOY) == [shown]
    assert await owner.may(Scope.DELETE) == []
    assert await owner.may(delegate=OWNER) == []
    assert await owner.shows() == shown  # again
    assert await owner.may() == [shown]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"host": "other.example"}, "typed.host"),
        ({"epoch": 1}, "typed.epoch"),
        ({"delegate": OWNER}, "typed.delegate"),
        ({"scopes": ["read", "read"]}, "typed.scopes"),
        ({"key": "0x" + "22" * 32}, "signature"),  # a contract wallet's owner signs so
    ],
)
async def test_what_is_not_for_here_and_now_or_not_the_owners_is_refused(
    owner: Owner, changed: dict[str, Any], field: str
) -> None:
    assert await owner.refused(**changed) == field
    assert await owner.may() == []


@pytest.mark.parametrize("seconds", [-1, 0, 400 * 86_400 + 1])
async def test_delegation_of_the_past_or_for_years_is_refused(owner: Owner, seconds: int) -> None:
    not_after = owner.clock.now_ms() // 1000 + seconds
    assert await owner.refused(notAfter=not_after) == "typed.notAfter"


async def test_delegation_expires(owner: Owner) -> None:
    await owner.shows()
    owner.clock.advance(3_599_000)
    assert len(await owner.may()) == 1
    owner.clock.advance(1_000)
    assert await owner.may() == []


async def test_ended_delegation_shown_again_opens_nothing(owner: Owner) -> None:
    message = owner.message()
    first, second = await owner.shows_message(message), await owner.shows(limitUsdMonth=5)
    for _ in range(2):
        await owner.gateway.end(first, owner=OWNER.lower())
    with pytest.raises(InvalidField, match="was ended"):
        await owner.shows_message(message)
    assert await owner.may() == [second]
    with pytest.raises(DelegateNotFound):
        await owner.gateway.end(second, owner=DELEGATE.lower())


async def test_new_epoch_ends_all_of_an_owner_also_those_never_shown(owner: Owner) -> None:
    await owner.shows()
    ended = await owner.gateway.end_all(OWNER.lower(), claim=None)
    assert (ended.epoch, ended.ended) == (1, 1)
    assert await owner.may() == []
    assert await owner.refused() == await owner.refused(limitUsdMonth=1) == "typed.epoch"
    assert await owner.may() == []
    again = await owner.shows(epoch=1)
    assert await owner.may() == [again]


async def test_number_of_delegations_is_bounded_with_those_that_ended(
    owner: Owner, db: Database
) -> None:
    for limit in range(MAX_DELEGATES):
        await owner.shows(limitUsdMonth=limit)
    with pytest.raises(TooManyDelegates):
        await owner.shows(limitUsdMonth=MAX_ROWS)
    for limit in range(MAX_DELEGATES, MAX_ROWS):
        await owner.gateway.end((await owner.may())[0], owner=OWNER.lower())
        await owner.shows(limitUsdMonth=limit)
    await owner.gateway.end((await owner.may())[0], owner=OWNER.lower())
    with pytest.raises(TooManyDelegates):
        await owner.shows(limitUsdMonth=MAX_ROWS)
    owner.clock.advance(3_600_000)  # all expire, and so can't be shown again
    await owner.shows()
    assert len(await delegations.every(db)) == 1


async def test_delegations_for_a_project_end_with_that_of_their_owner(
    owner: Owner, db: Database
) -> None:
    await owner.shows(project="shop")
    kept = await owner.shows(project="blog")
    async with db.transaction(durable=True) as tx:
        now_ms = owner.clock.now_ms()
        await delegations.end_of_project(tx, OWNER.lower(), "shop", now_ms=now_ms)
    assert await owner.may() == [kept]


async def test_lost_key_lets_nobody_in_once_the_wallet_was_taken_over(
    owner: Owner, db: Database
) -> None:
    """A delegation needs no request of its owner: the delegate can show what that key signed."""
    heir = str(Account.from_key("0x" + "33" * 32).address)
    recoveries = Recoveries(db=db, clock=owner.clock, billed_ms=owner.clock.now_ms)
    await recoveries.put(OWNER.lower(), address=heir.lower(), wait_days=7)
    await recoveries.claim(OWNER.lower(), by=heir.lower())
    owner.clock.advance(7 * DAY_MS)
    await recoveries.tick()
    assert await owner.refused(epoch=1) == "signature"
    assert await owner.may() == []
    assert await owner.shows(epoch=1, key="0x" + "33" * 32) in await owner.may()


@pytest.mark.parametrize("changed", [{"limit_usd_month": 1000}, {"scopes": "read deploy delete"}])
async def test_audit_finds_power_that_its_owner_did_not_sign(
    owner: Owner, db: Database, changed: dict[str, Any]
) -> None:
    shown = await owner.shows()

    async def found() -> list[str]:
        async with db.snapshot() as snapshot:
            _, findings = await audit_books(snapshot, [])
        return [each.row for each in findings]

    assert await found() == []
    async with db.transaction(durable=True) as tx:
        await tx.execute(Statement(update(rows).values(changed)))
    assert await found() == [f"delegation {shown}"]


@pytest.mark.parametrize("name", ["Shop", "shop/", "s", "a" * 100])
def test_delegation_for_what_no_project_can_be_called_is_refused(owner: Owner, name: str) -> None:
    """It would let nobody do anything, and not say so."""
    msgspec.convert(owner.message(project="shop"), DelegationTyped)
    with pytest.raises(msgspec.ValidationError, match="project"):
        msgspec.convert(owner.message(project=name), DelegationTyped)
