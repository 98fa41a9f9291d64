"""Delegates: wallets that may act for another within what that has signed."""

import msgspec

from moorage.auth.authenticator import is_signer
from moorage.clock import Clock
from moorage.errors import DelegateNotFound, InvalidField, TooManyDelegates
from moorage.records.access import Scope, StoredDelegation
from moorage.signing import Delegation
from moorage.storage import delegations, idempotency, recoveries
from moorage.storage.database import Database
from moorage.storage.idempotency import Claim
from moorage.storage.money import accounts
from moorage.wire.delegates import DelegatesEnded

MAX_DELEGATES = 20
"""How many an owner has at most at a time."""

MAX_ROWS = 100
"""How many an owner has at most that have not expired, with those it ended."""

MAX_DAYS = 400
_DAY_SECONDS = 86_400
_NO_CONTRACT = (
    "is not the owner's key's. A contract wallet has no delegates: its keys may change, and what "
    "an earlier one signed would stay"
)


class Delegates:
    """Takes, finds and ends delegations; `host` is the gateway's, as they must name it."""

    def __init__(self, *, db: Database, clock: Clock, host: str) -> None:
        self._db = db
        self._clock = clock
        self.host = host

    async def take(self, typed: Delegation, signature: bytes) -> StoredDelegation:
        """Stores what an owner has signed; the same again changes nothing.

        Addresses in `typed` are in lower case. Raises InvalidField for one of another time or host,
        that was ended, or that the owner's key did not sign (for a wallet that was taken over, the
        key of its new holder); TooManyDelegates.
        """
        now_ms = self._clock.now_ms()
        self._check(typed, now_ms=now_ms)
        digest = typed.digest()
        if not is_signer(await recoveries.holder_of(self._db, typed.owner), digest, signature):
            raise InvalidField("signature", _NO_CONTRACT)  # keys are free: nobody is locked by them
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, typed.owner)
            if not is_signer(await recoveries.holder_of(tx, typed.owner), digest, signature):
                raise InvalidField("signature", _NO_CONTRACT)  # it was taken over just now
            if typed.epoch != await delegations.epoch_of(tx, typed.owner):
                raise InvalidField("typed.epoch", "must be the one of GET /agent/delegates")
            known = await delegations.by_id(tx, digest.hex())
            if known is not None and known.ended_at_ms is not None:
                raise InvalidField("typed", "was ended: sign a new one, with another notAfter")
            if known is not None:
                return known
            rows = await delegations.remove_expired(tx, typed.owner, now_ms=now_ms)
            living = await delegations.live_of(tx, typed.owner, now_ms=now_ms)
            if len(living) >= MAX_DELEGATES or rows >= MAX_ROWS:
                raise TooManyDelegates
            given = msgspec.structs.asdict(typed) | {"scopes": " ".join(typed.scopes)}
            stored = StoredDelegation(
                id=digest.hex(), signature=signature.hex(), created_at_ms=now_ms, **given
            )
            await delegations.add(tx, stored)
        return stored

    async def between(
        self, *, owner: str, delegate: str, scope: Scope
    ) -> tuple[StoredDelegation, ...]:
        """Returns those by which one wallet may do what has this scope for another, now."""
        found = await delegations.live_between(
            self._db, owner=owner, delegate=delegate, now_ms=self._clock.now_ms()
        )
        return tuple(each for each in found if each.covers(scope))

    async def listed(self, owner: str) -> tuple[int, list[StoredDelegation]]:
        """Returns an owner's epoch, and what is valid in it."""
        found = await delegations.live_of(self._db, owner, now_ms=self._clock.now_ms())
        return await delegations.epoch_of(self._db, owner), found

    async def end(self, delegation_id: str, *, owner: str) -> None:
        """Ends one of an owner's for good; again changes nothing. Raises DelegateNotFound."""
        async with self._db.transaction(durable=True) as tx:
            found = await delegations.by_id(tx, delegation_id)
            if found is None or found.owner != owner:
                raise DelegateNotFound
            await delegations.end(tx, delegation_id, now_ms=self._clock.now_ms())

    async def end_all(self, owner: str, *, claim: Claim | None) -> DelegatesEnded:
        """Voids all of an owner's, those that were not shown yet as well."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, owner)
            living = await delegations.live_of(tx, owner, now_ms=now_ms)
            await delegations.begin_epoch(tx, owner)
            ended = DelegatesEnded(epoch=await delegations.epoch_of(tx, owner), ended=len(living))
            await idempotency.carried_out(tx, claim, ended)
        return ended

    def _check(self, typed: Delegation, *, now_ms: int) -> None:
        if typed.host != self.host:
            raise InvalidField("typed.host", f"must be {self.host}")
        if typed.delegate == typed.owner:
            raise InvalidField("typed.delegate", "must be another wallet than the owner")
        if len(set(typed.scopes)) != len(typed.scopes):
            raise InvalidField("typed.scopes", "must name each scope once")
        ends_in = typed.not_after - now_ms // 1000
        if not 0 < ends_in <= MAX_DAYS * _DAY_SECONDS:
            raise InvalidField("typed.notAfter", f"must be within the next {MAX_DAYS} days")
