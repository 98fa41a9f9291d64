"""The project that a request's path names, for whoever may act on it."""

from starlette.requests import Request

from moorage.api.http.caller import authenticate
from moorage.api.services import Gateway
from moorage.errors import ProjectNotFound, WrongWallet
from moorage.records.project import Project
from moorage.storage.apps import projects


async def owned_project(gateway: Gateway, request: Request) -> Project:
    """The caller's project, of the path's `projectId`; the request is counted.

    Raises an AuthError, RateLimited, ProjectNotFound and WrongWallet.
    """
    wallet, _ = await authenticate(gateway, request)
    project = await projects.by_id(gateway.db, request.path_params["projectId"])
    if project is None:
        raise ProjectNotFound
    if project.wallet != wallet:
        raise WrongWallet
    return project
