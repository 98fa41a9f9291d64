"""The endpoints of a project's manage tokens; its wallet alone may call them."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Front, owned_project
from moorage.api.http.problems import json_response
from moorage.wire.projects import ManageTokenMade, ManageTokensRevoked


@dataclass(frozen=True, kw_only=True)
class TokenRoom(Front):
    """What the handlers of manage tokens need."""


async def make_manage_token(room: TokenRoom, request: Request) -> Response:
    """`POST /agent/projects/{projectId}/tokens`: a new token for this project alone."""
    project = await owned_project(room, request)
    token = await room.manage_tokens.make(project.id)
    return json_response(
        ManageTokenMade(project_id=project.id, manage_token=token),
        headers=[("Cache-Control", "no-store")],
    )


async def revoke_manage_tokens(room: TokenRoom, request: Request) -> Response:
    """`DELETE /agent/projects/{projectId}/tokens`: make all its tokens invalid."""
    project = await owned_project(room, request)
    revoked = await room.manage_tokens.revoke(project.id)
    return json_response(ManageTokensRevoked(project_id=project.id, revoked=revoked))
