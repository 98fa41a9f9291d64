"""The endpoint that stores an upload, which deploys and quotes then name by its digest."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.api.connections.server import ARRIVAL, Arrival
from moorage.api.http.caller import OPEN, Caller, Front, authenticate, managed_project
from moorage.api.http.problems import json_response
from moorage.api.http.request import content_length
from moorage.deploy.shared_uploads import SharedUploads
from moorage.uploads.description import read_sha256
from moorage.wire.deploy import DigestUpload, UploadStored


@dataclass(frozen=True, kw_only=True)
class UploadRoom(Front):
    """What the handler of uploads needs."""

    stored: SharedUploads


async def store_upload(room: UploadRoom, request: Request) -> Response:
    """`PUT /agent/uploads/{sha256}`: store an upload for an hour, by the SHA-256 of this body."""
    caller = await authenticate(room, request)
    arrival: Arrival = request.scope[ARRIVAL]
    stored = await room.stored.put(
        request.stream(),
        wallet=owner_of_uploads(request, caller),
        sha256=read_sha256("sha256", request.path_params["sha256"]),
        content_length=content_length(request),
        uploader=arrival.identify(),
        arriving=arrival,
    )
    return json_response(
        UploadStored(
            sha256=stored.sha256,
            bytes=stored.size,
            expires_at=stored.expires_at_ms // 1000,
            upload=DigestUpload(sha256=stored.sha256),
        )
    )


def owner_of_uploads(request: Request, caller: Caller) -> str:
    """Returns whose uploads a request stores and finds: its wallet's, or its token's own.

    A payment alone finds none: it reads nothing of its payer's.
    """
    if OPEN in request.scope:
        return ""
    project_id = managed_project(request)
    return caller.wallet if project_id is None else f"project {project_id}"
