"""The endpoints of what lets others in: links to pages, tokens of a project, delegates."""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front, require_bound
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.problems import json_response
from moorage.api.http.request import named_project, parse_small, read_whole
from moorage.auth.tokens import DAY_MS, ONCE_MS, LinkOrder, Links
from moorage.clock import iso_utc
from moorage.errors import InvalidField, InvalidRequest
from moorage.records.access import Link, Scope, StoredDelegation
from moorage.records.project import Project
from moorage.signing import NO_BODY, Delegation
from moorage.storage.money import accounts
from moorage.storage.page_access import ManageToken
from moorage.wire.delegates import (
    DelegateBody,
    DelegateEnded,
    DelegateItem,
    DelegateList,
    DelegatesEnded,
)
from moorage.wire.projects import ManageTokenBody, ManageTokenMade, ManageTokensRevoked
from moorage.wire.public import LinkBody, LinkItem, LinkList, LinkMade, LinkRemoved


@dataclass(frozen=True, kw_only=True)
class PowerRoom(Front):
    """What the handlers need that give others power, and take it."""

    idempotency: Idempotency


async def make_manage_token(
    room: PowerRoom, request: Request, caller: Caller, project: Project
) -> Response:
    """`POST /agent/projects/{projectId}/tokens`: a new token for this project alone.

    Its text is stored nowhere. The same request again, whose answer was lost, has another in place
    of it.
    """
    content = await read_whole(request)
    body = parse_small(content or b"{}", ManageTokenBody)
    async with room.idempotency.attempt(
        request, sha256(content).hexdigest(), ManageToken, wallet=caller.wallet
    ) as keyed:
        if keyed.answer is None:
            made = await room.manage_tokens.make(
                project.id,
                scopes=Scope if body.scopes is UNSET else body.scopes,
                lifetime_ms=None if body.days is UNSET else body.days * DAY_MS,
                claim=keyed.claim,
            )
            keyed.answered(made.stored)
        else:
            lost = msgspec.json.decode(bytes(keyed.answer.body), type=ManageToken)
            made = await room.manage_tokens.make_again(lost)
    expires_ms = made.stored.expires_ms
    return json_response(
        ManageTokenMade(
            project_id=project.id,
            manage_token=made.token,
            scopes=[Scope(each) for each in made.stored.scopes.split()],
            expires_at=UNSET if expires_ms is None else iso_utc(expires_ms),
        ),
        headers=[("Cache-Control", "no-store")],
    )


async def revoke_manage_tokens(room: Front, project: Project) -> ManageTokensRevoked:
    """`DELETE /agent/projects/{projectId}/tokens`: make all its tokens invalid."""
    revoked = await room.manage_tokens.revoke(project.id)
    return ManageTokensRevoked(project_id=project.id, revoked=revoked)


async def make_delegate(room: PowerRoom, request: Request, caller: Caller) -> DelegateItem:
    """`POST /agent/delegates`: let another wallet act for the one that signed this."""
    body = parse_small(await read_whole(request), DelegateBody)
    typed = msgspec.convert(msgspec.to_builtins(body.typed), Delegation)
    owner, delegate = typed.owner.lower(), typed.delegate.lower()
    if caller.wallet not in (owner, delegate):  # nobody else has a use for it
        raise InvalidField("typed.owner", "must be the wallet that asks, or let that act for it")
    await _require_account(room, owner)
    signed = _SIGNATURE.fullmatch(body.signature)
    if signed is None:
        raise InvalidField("signature", "must be 0x and 65 bytes in hex")
    typed = msgspec.structs.replace(typed, owner=owner, delegate=delegate)
    return _delegate(await room.delegates.take(typed, bytes.fromhex(signed[1])))


async def _require_account(room: PowerRoom, owner: str) -> None:
    """Raises InvalidRequest for a wallet that never had credits: keys are free, rows are not."""
    if await accounts.balance(room.db, owner) > 0 or await room.paid_wallets.has_paid(owner):
        return
    raise InvalidRequest("The owner has no credits here, so nobody can act for it: pay first.")


async def list_delegates(room: PowerRoom, caller: Caller) -> DelegateList:
    """`GET /agent/delegates`: who may act for the wallet, and what the next one is signed for."""
    epoch, found = await room.delegates.listed(caller.wallet)
    shown = [_delegate(each) for each in found]
    return DelegateList(epoch=epoch, host=room.host, delegates=shown)


async def end_delegate(room: PowerRoom, request: Request, caller: Caller) -> DelegateEnded:
    """`DELETE /agent/delegates/{delegationId}`: end a delegation for good."""
    delegation_id = request.path_params["delegationId"]
    await room.delegates.end(delegation_id, owner=caller.wallet)
    return DelegateEnded(id=delegation_id)


async def end_delegates(room: PowerRoom, request: Request, caller: Caller) -> Response:
    """`POST /agent/delegates/epoch`: end all delegations, those that were not shown yet as well."""
    await _require_account(room, caller.wallet)
    async with room.idempotency.attempt(
        request, NO_BODY.hex(), DelegatesEnded, wallet=caller.wallet
    ) as keyed:
        if keyed.answer is not None:
            return keyed.answer
        return keyed.answered(await room.delegates.end_all(caller.wallet, claim=keyed.claim))


def _delegate(stored: StoredDelegation) -> DelegateItem:
    return DelegateItem(
        id=stored.id,
        owner=checksum_address(stored.owner),
        delegate=checksum_address(stored.delegate),
        project=stored.project,
        scopes=[Scope(each) for each in stored.scopes.split()],
        limit_usd_month=stored.limit_usd_month,
        expires_at=iso_utc(stored.not_after * 1000),
        created_at=iso_utc(stored.created_at_ms),
    )


_SIGNATURE = re.compile(r"(?:0[xX])?([0-9a-fA-F]{130})")
_USUAL_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class LinkRoom(Front):
    """What the handlers of links need."""

    links: Links


async def make_link(room: LinkRoom, request: Request, caller: Caller) -> Response:
    """`POST /agent/links`: a link to the wallet's pages, for a person."""
    body = parse_small(await read_whole(request) or b"{}", LinkBody)
    if body.once:
        require_bound(request, caller)  # it opens a session that may change things
    made = await room.links.make(await _order(room, caller.wallet, body))
    url = f"{room.public_url}/links/{made.secret}"
    return json_response(
        LinkMade(**_members(made.link), url=url), headers=[("Cache-Control", "no-store")]
    )


async def list_links(room: LinkRoom, caller: Caller) -> LinkList:
    """`GET /agent/links`: the wallet's read-only links, and when each was last opened."""
    found = await room.links.listed(caller.wallet)
    return LinkList(links=[LinkItem(**_members(link)) for link in found])


async def remove_link(room: LinkRoom, request: Request, caller: Caller) -> LinkRemoved:
    """`DELETE /agent/links/{linkId}`: end a link, and whatever it has opened."""
    link_id = request.path_params["linkId"]
    await room.links.revoke(link_id, who=caller.wallet)
    return LinkRemoved(id=link_id)


async def _order(room: LinkRoom, wallet: str, body: LinkBody) -> LinkOrder:
    if body.once and body.days is not UNSET:
        raise InvalidField("days", "a link that opens once is good for 10 minutes; leave it out")
    project_id = None
    if body.project_id is not UNSET:
        project_id = (await named_project(room.db, body.project_id, wallet=wallet)).id
        if body.once:
            raise InvalidField("projectId", "a link that opens once is for the whole wallet")
    days = _USUAL_DAYS if body.days is UNSET else body.days
    return LinkOrder(
        who=wallet,
        project_id=project_id,
        may_change=body.once,
        once=body.once,
        label=body.label,
        lifetime_ms=ONCE_MS if body.once else days * DAY_MS,
    )


def _members(link: Link) -> dict[str, Any]:
    return {
        "id": link.id,
        "project_id": link.project_id,
        "label": link.label,
        "created_at": iso_utc(link.created_at_ms),
        "expires_at": iso_utc(link.expires_ms),
        "used_at": None if link.used_ms is None else iso_utc(link.used_ms),
    }
