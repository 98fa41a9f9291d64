"""The endpoints of links to pages, and of tokens that manage one project."""

from dataclasses import dataclass
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Caller, Front
from moorage.api.http.problems import json_response
from moorage.api.http.request import named_project, parse_small, read_whole
from moorage.auth.tokens import DAY_MS, ONCE_MS, LinkOrder, Links
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.records.access import Link
from moorage.records.project import Project
from moorage.wire.projects import ManageTokenMade, ManageTokensRevoked
from moorage.wire.public import LinkBody, LinkItem, LinkList, LinkMade, LinkRemoved


async def make_manage_token(room: Front, project: Project) -> Response:
    """`POST /agent/projects/{projectId}/tokens`: a new token for this project alone."""
    token = await room.manage_tokens.make(project.id)
    return json_response(
        ManageTokenMade(project_id=project.id, manage_token=token),
        headers=[("Cache-Control", "no-store")],
    )


async def revoke_manage_tokens(room: Front, project: Project) -> Response:
    """`DELETE /agent/projects/{projectId}/tokens`: make all its tokens invalid."""
    revoked = await room.manage_tokens.revoke(project.id)
    return json_response(ManageTokensRevoked(project_id=project.id, revoked=revoked))


_USUAL_DAYS = 7


@dataclass(frozen=True, kw_only=True)
class LinkRoom(Front):
    """What the handlers of links need."""

    links: Links


async def make_link(room: LinkRoom, request: Request, caller: Caller) -> Response:
    """`POST /agent/links`: a link to the wallet's pages, for a person."""
    body = parse_small(await read_whole(request) or b"{}", LinkBody)
    if body.once:
        caller.require_confirmed()
    made = await room.links.make(await _order(room, caller.wallet, body))
    url = f"{room.public_url}/links/{made.secret}"
    return json_response(
        LinkMade(**_members(made.link), url=url), headers=[("Cache-Control", "no-store")]
    )


async def list_links(room: LinkRoom, caller: Caller) -> Response:
    """`GET /agent/links`: the wallet's read-only links, and when each was last opened."""
    found = await room.links.listed(caller.wallet)
    return json_response(LinkList(links=[LinkItem(**_members(link)) for link in found]))


async def remove_link(room: LinkRoom, request: Request, caller: Caller) -> Response:
    """`DELETE /agent/links/{linkId}`: end a link, and whatever it has opened."""
    link_id = request.path_params["linkId"]
    await room.links.revoke(link_id, who=caller.wallet)
    return json_response(LinkRemoved(id=link_id))


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
