"""Recovery of a wallet whose key is lost: an address that it named takes it over after a wait.

A change of the address waits, and so does a claim by it. Meanwhile the wallet is told, and may
object. So a signature that was stolen for a moment takes nothing over unseen.
"""

from collections.abc import Callable

import msgspec
import structlog

from moorage.clock import Clock, iso_utc
from moorage.errors import RecoveryNotFound, RecoveryPending, RecoveryRefused, WalletRecovered
from moorage.records.access import Recovery, Role
from moorage.records.event import EventData, EventKind
from moorage.storage import delegations, events, page_access, recoveries
from moorage.storage.apps import transfers
from moorage.storage.database import Database, Source, Transaction
from moorage.storage.money import accounts

DAY_MS = 86_400_000
_AT_ONCE = 100
_TAKEN_OVER = "the wallet was taken over"
_TOLD_AGAIN_MS = 3_600_000  # whoever is named hears of changes no more often: it never asked

log = structlog.get_logger()


async def require_unclaimed(source: Source, wallet: str) -> None:
    """Raises RecoveryPending while somebody claims the wallet: what could empty it waits."""
    found = await recoveries.of_wallet(source, wallet)
    if found is not None and found.is_claimed:
        raise RecoveryPending


class Recoveries:
    """Keeps who may take wallets over; `billed_ms` is a time that no change of the clock moves."""

    def __init__(self, *, db: Database, clock: Clock, billed_ms: Callable[[], int]) -> None:
        self._db = db
        self._clock = clock
        self._billed_ms = billed_ms
        self._taken_over: dict[str, str] | None = None

    async def of_wallet(self, wallet: str) -> Recovery | None:
        """Returns who may take a wallet over, if it ever said so."""
        return await recoveries.of_wallet(self._db, wallet)

    async def put(self, wallet: str, *, address: str, wait_days: int) -> Recovery:
        """Names who may take the wallet over; "" is nobody.

        The first counts at once; a later change after a wait. The same change again alters nothing;
        the present address takes the change back. Raises RecoveryPending, RecoveryRefused.
        """
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            before = await self._locked(tx, wallet)
            if before is None or not before.address:
                if not address:
                    raise RecoveryRefused("There is no address that may take this wallet over.")
                after = Recovery(wallet=wallet, address=address, wait_days=wait_days)
            elif before.change_at_ms is not None and (address, wait_days) == (
                before.next_address,
                before.next_wait_days,
            ):
                return before  # sent again
            elif (address, wait_days) == (before.address, before.wait_days):
                after = msgspec.structs.replace(before, **_UNCHANGED)
            else:
                wait_ms = before.wait_days * DAY_MS
                after = msgspec.structs.replace(
                    before,
                    next_address=address,
                    next_wait_days=wait_days,
                    change_at_ms=now_ms + wait_ms,
                    change_billed_ms=self._billed_ms() + wait_ms,
                )
            concerned = {wallet}
            if before is not None and before.address and self._may_tell(before):
                after = msgspec.structs.replace(after, told_at_ms=now_ms)
                concerned.add(before.address)
            await recoveries.put(tx, after)
            await self._tell(tx, after, EventKind.RECOVERY_CHANGED, concerned)
        return after

    async def claim(self, wallet: str, *, by: str) -> Recovery:
        """Begins to take a wallet over, by the address that it named; again changes nothing.

        Raises RecoveryNotFound to all others, and RecoveryRefused soon after an objection.
        """
        now_ms = self._clock.now_ms()
        named = await recoveries.of_wallet(self._db, wallet)
        if named is None or named.address != by:  # keys are free: nobody's wallet is locked by them
            raise RecoveryNotFound
        async with self._db.transaction(durable=True) as tx:
            await accounts.ensure_wallet(tx, wallet, now_ms=now_ms)
            await accounts.lock(tx, wallet)
            found = await recoveries.of_wallet(tx, wallet)
            if found is None or not found.address or found.address != by:
                raise RecoveryNotFound
            if found.claim_at_ms is not None:
                return found
            if now_ms < found.claim_not_before_ms:
                when = iso_utc(found.claim_not_before_ms)
                raise RecoveryRefused(f"Its owner has objected: no other claim before {when}.")
            wait_ms = found.wait_days * DAY_MS
            claimed = msgspec.structs.replace(
                found,
                claim_at_ms=now_ms + wait_ms,
                claim_billed_ms=self._billed_ms() + wait_ms,
            )
            await recoveries.put(tx, claimed)
            await self._tell(tx, claimed, EventKind.RECOVERY_CLAIMED, {wallet, by})
        return claimed

    async def object(self, wallet: str) -> Recovery:
        """Ends a claim, as the wallet's owner. Raises RecoveryNotFound, WalletRecovered.

        The next claim must wait longer than a change takes, so that the owner can change the
        address meanwhile.
        """
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            await accounts.lock(tx, wallet)
            found = await recoveries.of_wallet(tx, wallet)
            if found is None or found.claim_at_ms is None:
                raise RecoveryNotFound
            if found.taken_over_at_ms is not None:
                raise WalletRecovered
            after = msgspec.structs.replace(
                found,
                claim_not_before_ms=now_ms + (found.wait_days + 1) * DAY_MS,
                **_UNCLAIMED,
            )
            await recoveries.put(tx, after)
            await self._tell(tx, after, EventKind.RECOVERY_OBJECTED, {wallet, after.address})
        return after

    async def tick(self) -> None:
        """Carries out the changes and claims whose wait is over."""
        now_ms, billed_ms = self._clock.now_ms(), self._billed_ms()
        for each in await recoveries.due(
            self._db, now_ms=now_ms, billed_ms=billed_ms, limit=_AT_ONCE
        ):
            async with self._db.transaction(durable=True) as tx:
                await accounts.lock(tx, each.wallet)
                now = await recoveries.of_wallet(tx, each.wallet)
                if now is None or now.taken_over_at_ms is not None:
                    continue
                if self._is_over(now.claim_at_ms, now.claim_billed_ms):
                    if (
                        await recoveries.holder_of(tx, now.address) == now.wallet
                    ):  # each has named the other
                        await recoveries.put(tx, msgspec.structs.replace(now, **_UNCLAIMED))
                        continue
                    await self._take_over(tx, now)
                elif now.claim_at_ms is None and self._is_over(
                    now.change_at_ms, now.change_billed_ms
                ):
                    await self._change(tx, now)
        await self.refresh()

    async def refresh(self) -> None:
        """Reads again which wallets were taken over."""
        self._taken_over = await recoveries.taken_over(self._db)

    async def require_own(self, wallet: str) -> None:
        """Raises WalletRecovered for a wallet that was taken over."""
        if await self.taken_over_by(wallet) is not None:
            raise WalletRecovered

    async def taken_over_by(self, wallet: str) -> str | None:
        """Returns who has taken a wallet over, as of some seconds ago; None: nobody.

        If that address was taken over too, it is the next holder.
        """
        if self._taken_over is None:
            await self.refresh()
        taken_over, holder = self._taken_over or {}, None
        while (wallet := taken_over.get(wallet, "")) != "":
            holder = wallet
        return holder

    def _may_tell(self, recovery: Recovery) -> bool:
        return self._clock.now_ms() - recovery.told_at_ms >= _TOLD_AGAIN_MS

    def _is_over(self, at_ms: int | None, billed_ms: int | None) -> bool:
        if at_ms is None or billed_ms is None:
            return False
        return at_ms <= self._clock.now_ms() and billed_ms <= self._billed_ms()

    async def _locked(self, tx: Transaction, wallet: str) -> Recovery | None:
        """Returns a wallet's row. Raises RecoveryPending while it is claimed, WalletRecovered."""
        await accounts.ensure_wallet(tx, wallet, now_ms=self._clock.now_ms())
        await accounts.lock(tx, wallet)
        found = await recoveries.of_wallet(tx, wallet)
        if found is not None and found.taken_over_at_ms is not None:
            raise WalletRecovered
        if found is not None and found.is_claimed:
            raise RecoveryPending
        return found

    async def _change(self, tx: Transaction, before: Recovery) -> None:
        after = msgspec.structs.replace(
            before,
            address=before.next_address,
            wait_days=before.next_wait_days or before.wait_days,
            **_UNCHANGED,
        )
        await recoveries.put(tx, after)
        concerned = {after.wallet, before.address}
        await self._tell(tx, after, EventKind.RECOVERY_CHANGED, concerned)

    async def _take_over(self, tx: Transaction, claimed: Recovery) -> None:
        """Gives the wallet to the address; ends all access that its key has given.

        That includes access to wallets that it had taken over.
        """
        now_ms = self._clock.now_ms()
        after = msgspec.structs.replace(claimed, taken_over_at_ms=now_ms, **_UNCHANGED)
        earlier = await recoveries.taken_over(tx)
        held = [each for each in earlier if await recoveries.holder_of(tx, each) == after.wallet]
        await recoveries.put(tx, after)
        for wallet in (after.wallet, *held):
            await page_access.end_sessions_of(tx, wallet, role=Role.WALLET, now_ms=now_ms)
            await page_access.revoke_all_tokens(tx, wallet)
            await delegations.begin_epoch(tx, wallet)
            await events.remove_webhook(tx, wallet, why=_TAKEN_OVER)
            await transfers.withdraw_all(tx, wallet, now_ms=now_ms)
        await self._tell(tx, after, EventKind.RECOVERY_DONE, {after.wallet, after.address})
        log.warning("wallet taken over", wallet=after.wallet, by=after.address)

    async def _tell(
        self, tx: Transaction, recovery: Recovery, kind: EventKind, concerned: set[str]
    ) -> None:
        """Records an event for the wallets that it concerns."""
        data: dict[str, str] = {"named_by": recovery.wallet, "address": recovery.address}
        if recovery.change_at_ms is not None:
            data |= {
                "next_address": recovery.next_address,
                "changes_at": iso_utc(recovery.change_at_ms),
            }
        if recovery.claim_at_ms is not None:
            data["takes_over_at"] = iso_utc(recovery.claim_at_ms)
        told: EventData = data
        for wallet in sorted(concerned):
            await accounts.ensure_wallet(tx, wallet, now_ms=self._clock.now_ms())
            await events.record(
                tx, wallet=wallet, kind=kind, data=told, now_ms=self._clock.now_ms()
            )


_UNCLAIMED = {"claim_at_ms": None, "claim_billed_ms": None}
_UNCHANGED = {
    "next_address": "",
    "next_wait_days": 0,
    "change_at_ms": None,
    "change_billed_ms": None,
}
