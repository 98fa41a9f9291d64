"""The endpoints of transfers: a project is offered to another wallet, which accepts it."""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.request import parse_small, read_whole, wallet_in
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.hosting.keeping.transfer import Transfers
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import hour_of
from moorage.money import NOTHING, credits_in, usd_number
from moorage.records.project import Project, ProjectStatus, Transfer, TransferState
from moorage.storage.apps import projects, transfers
from moorage.storage.money import accounts
from moorage.wire.projects import (
    AcceptBody,
    ProjectTransferred,
    TransferBody,
    TransferItem,
    TransferList,
)

_DAY_MS = 86_400_000
_USUAL_DAYS = 7
_MAX_DAYS = 30
_MAX_ITEMS = 100


@dataclass(frozen=True, kw_only=True)
class TransferRoom(Front):
    """What the handlers of transfers need."""

    transfers: Transfers
    metering: Metering
    idempotency: Idempotency


async def offer_project(
    room: TransferRoom, request: Request, caller: Caller, project: Project
) -> Response:
    """`POST /agent/projects/{projectId}/transfer`: offer a project to another wallet."""
    content = await read_whole(request)
    body = parse_small(content, TransferBody)
    taker = wallet_in("to", body.to)
    if taker == caller.wallet:
        raise InvalidField("to", "is the wallet that has the project")
    not_after_ms = _not_after_ms(body.not_after, now_ms=room.clock.now_ms())
    async with room.idempotency.attempt(
        request, sha256(content).hexdigest(), TransferItem, wallet=caller.wallet
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        transfer = await room.transfers.offer(
            project,
            taker=taker,
            with_purse=body.with_purse,
            with_variables=body.with_variables,
            not_after_ms=not_after_ms,
        )
        return keyed.answered(await _item(room, transfer, project))


def _not_after_ms(given: datetime | UnsetType, *, now_ms: int) -> int:
    if given is UNSET:
        return now_ms + _USUAL_DAYS * _DAY_MS
    not_after_ms = int(given.timestamp() * 1000)
    if not now_ms < not_after_ms <= now_ms + _MAX_DAYS * _DAY_MS:
        raise InvalidField("not_after", f"must be later than now, by at most {_MAX_DAYS} days")
    return not_after_ms


async def list_transfers(room: TransferRoom, caller: Caller) -> TransferList:
    """`GET /agent/transfers`: what the wallet has offered or was offered, the newest first."""
    found = await transfers.of_wallet(room.db, caller.wallet, limit=_MAX_ITEMS)
    items = []
    for transfer in found:
        project = await projects.by_id(room.db, transfer.project_id)
        if project is not None:
            items.append(await _item(room, transfer, project))
    return TransferList(transfers=items)


async def withdraw_offer(room: TransferRoom, request: Request, caller: Caller) -> TransferItem:
    """`DELETE /agent/transfers/{offerId}`: end an offer, as its giver or its taker."""
    offer_id = request.path_params["offerId"]
    transfer = await room.transfers.withdraw(offer_id, wallet=caller.wallet)
    project = await projects.by_id(room.db, transfer.project_id)
    return await _item(room, transfer, project)


async def accept_offer(room: TransferRoom, request: Request, caller: Caller) -> Response:
    """`POST /agent/transfers/{offerId}/accept`: take a project over, as the wallet it is for."""
    offer_id, content = request.path_params["offerId"], await read_whole(request)
    expect = parse_small(content or b"{}", AcceptBody).expect
    purse = NOTHING if expect is UNSET else credits_in("expect.purse_usd", expect.purse_usd)
    async with room.idempotency.attempt(
        request,
        sha256(content).hexdigest(),
        ProjectTransferred,
        wallet=caller.wallet,
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        project = await room.transfers.accept(offer_id, wallet=caller.wallet, expected=purse)
        return keyed.answered(_transferred(project))


def _transferred(project: Project) -> ProjectTransferred:
    message = "The project is yours: its address and data as they were, and what it burns."
    if project.status is ProjectStatus.SUSPENDED and project.blocked_reason is None:
        message += " It is suspended, and starts once your credits pay its next hour."
    return ProjectTransferred(
        project_id=project.id,
        name=project.unique_name,
        status=project.status,
        wallet=checksum_address(project.wallet),
        message=message,
    )


async def _item(room: TransferRoom, transfer: Transfer, project: Project | None) -> TransferItem:
    """Returns an offer; what its purse has only while it is open."""
    state = transfer.state(room.clock.now_ms())
    purse_usd: float | UnsetType = UNSET
    if transfer.with_purse and state is TransferState.OPEN:
        balance = await accounts.balance(room.db, accounts.purse_of(transfer.project_id))
        purse_usd = usd_number(balance)
    return TransferItem(
        offer=transfer.id,
        project_id=transfer.project_id,
        name="" if project is None else project.unique_name,
        from_=checksum_address(transfer.giver),
        to=checksum_address(transfer.taker),
        with_purse=transfer.with_purse,
        with_variables=transfer.with_variables,
        state=state,
        created_at=iso_utc(transfer.created_at_ms),
        not_after=iso_utc(transfer.not_after_ms),
        price_per_hour_usd=usd_number(
            hour_of() if project is None else hour_of(project.monthly_price_micro_usd)
        ),
        purse_usd=purse_usd,
    )
