"""Requests that carry a manage token (`Authorization: Bearer …`): what such a token covers."""

from starlette.requests import Request

from moorage.errors import TokenScope
from moorage.storage.page_access import ManagedProject

MANAGED = "moorage.managed"
"""The scope's key for the `ManagedProject` of a request's token."""

TOKEN = "moorage.manage_token"  # noqa: S105 - a key
"""The scope's key for a token of a tool's call, whose header a credential of MPP takes."""

_SCHEME = "bearer "
_OF_A_BODY = ("/agent/deploy", "/agent/quote", "/deploy")
"""Their body names the project."""

_PAYS_IN = ("/agent/credits", "/credits")
"""What is paid there is for the project; reading what its wallet has there is not."""

_OF_A_PROJECT = ("/agent/deploy/", "/agent/projects/", "/agent/uploads/")
_OF_A_WALLET = ("/tokens", "/adopt")  # whoever has a token makes no other, and takes no credits


def bearer_token(request: Request) -> str | None:
    """Returns the request's token; wallet headers go before it."""
    if "x-wallet-address" in request.headers:
        return None
    if (beside := request.scope.get(TOKEN)) is not None:
        return str(beside)
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip(" ")


def is_covered(method: str, path: str) -> bool:
    """Whether tokens cover this method of a path, or of its template, as far as these tell."""
    if path.endswith(_OF_A_WALLET) or "/exports" in path:  # an export may have the variables
        return False
    if method == "POST" and path in _PAYS_IN:
        return True
    return path in _OF_A_BODY or path.startswith(_OF_A_PROJECT)


def require_covered(request: Request, project: ManagedProject) -> None:
    """Raises TokenScope for a request that the project's token does not cover."""
    named = request.path_params.get("projectId", project.id).lower()
    is_own = named in (project.id, project.unique_name)
    if not is_own or not is_covered(request.method, request.scope["path"]):
        raise TokenScope


def managed_project(request: Request) -> str | None:
    """Returns the id of the project whose token speaks, if one does."""
    project: ManagedProject | None = request.scope.get(MANAGED)
    return None if project is None else project.id


def require_own(request: Request, unique_name: str) -> str | None:
    """Returns the id of the token's project, if there is a token.

    Raises TokenScope for a deploy of another project.
    """
    project: ManagedProject | None = request.scope.get(MANAGED)
    if project is None:
        return None
    if project.unique_name != unique_name:
        raise TokenScope
    return project.id
