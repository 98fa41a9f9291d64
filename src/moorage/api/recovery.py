"""The endpoints of recovery: an address that takes a wallet over when its key is lost."""

from msgspec import UNSET, UnsetType
from starlette.requests import Request

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front
from moorage.api.http.request import parse_small, read_whole, wallet_in
from moorage.clock import iso_utc
from moorage.errors import InvalidField, RecoveryNotFound, RecoveryRefused
from moorage.records.access import Recovery
from moorage.wire.recovery import (
    USUAL_WAIT_DAYS,
    ClaimBody,
    NextRecovery,
    RecoveryBody,
    RecoveryShown,
)


async def show_recovery(room: Front, request: Request, caller: Caller) -> RecoveryShown:
    """`GET /agent/recovery`: who may take the wallet over; of another, to who may do that."""
    text = request.query_params.get("wallet")
    wallet = caller.wallet if text is None else wallet_in("wallet", text)
    found = await room.recoveries.of_wallet(wallet)
    if wallet != caller.wallet and (found is None or found.address != caller.wallet):
        raise RecoveryNotFound
    return _shown(found or Recovery(wallet=wallet, address="", wait_days=USUAL_WAIT_DAYS))


async def set_recovery(room: Front, request: Request, caller: Caller) -> RecoveryShown:
    """`PUT /agent/recovery`: name who may take the wallet over when its key is lost."""
    body = parse_small(await read_whole(request), RecoveryBody)
    if caller.stranger_at is not None:  # keys are free, and each could name somebody
        raise RecoveryRefused("A wallet that has paid nothing has nothing to recover.")
    address = "" if body.address is None else wallet_in("address", body.address)
    if address == caller.wallet:
        raise InvalidField("address", "must be another wallet than the one that may be lost")
    return _shown(
        await room.recoveries.put(caller.wallet, address=address, wait_days=body.wait_days)
    )


async def claim_wallet(room: Front, request: Request, caller: Caller) -> RecoveryShown:
    """`POST /agent/recovery/claim`: begin to take a wallet over, as the address that it named."""
    body = parse_small(await read_whole(request), ClaimBody)
    wallet = wallet_in("wallet", body.wallet)
    return _shown(await room.recoveries.claim(wallet, by=caller.wallet))


async def object_to_claim(room: Front, caller: Caller) -> RecoveryShown:
    """`DELETE /agent/recovery/claim`: end a claim of the wallet, as its owner."""
    return _shown(await room.recoveries.object(caller.wallet))


def _shown(found: Recovery) -> RecoveryShown:
    coming: NextRecovery | UnsetType = UNSET
    if found.change_at_ms is not None:
        coming = NextRecovery(
            address=_named(found.next_address),
            wait_days=found.next_wait_days,
            at=iso_utc(found.change_at_ms),
        )
    over, claimed = found.taken_over_at_ms, found.claim_at_ms
    return RecoveryShown(
        wallet=checksum_address(found.wallet),
        address=_named(found.address),
        wait_days=found.wait_days,
        next=coming,
        takes_over_at=UNSET if claimed is None or over is not None else iso_utc(claimed),
        taken_over_at=UNSET if over is None else iso_utc(over),
    )


def _named(address: str) -> str | None:
    return checksum_address(address) if address else None
