"""Requests that carry a manage token (`Authorization: Bearer …`): what such a token covers."""

from starlette.requests import Request

from moorage.errors import TokenScope
from moorage.storage.apps.manage_tokens import ManagedProject

MANAGED = "moorage.managed"
"""The scope's key for the `ManagedProject` of a request's token."""

_SCHEME = "bearer "
_OF_A_BODY = ("/agent/deploy", "/agent/quote", "/deploy")
"""Their body names the project."""

_OF_A_PROJECT = ("/agent/deploy/", "/agent/projects/", "/agent/uploads/")
_OF_A_WALLET = "/tokens"  # whoever has a token makes no other


def bearer_token(request: Request) -> str | None:
    """Returns the request's token; wallet headers go before it."""
    authorization = request.headers.get("authorization", "")
    if authorization[: len(_SCHEME)].lower() != _SCHEME or "x-wallet-address" in request.headers:
        return None
    return authorization[len(_SCHEME) :].strip(" ")


def is_covered_path(path: str) -> bool:
    """Whether tokens cover this path, or template of a path, as far as the path itself tells."""
    if path.endswith(_OF_A_WALLET):
        return False
    return path in _OF_A_BODY or path.startswith(_OF_A_PROJECT)


def require_covered(request: Request, project: ManagedProject) -> None:
    """Raises TokenScope for a request that the project's token does not cover."""
    named = request.path_params.get("projectId", project.id).lower()
    if named not in (project.id, project.unique_name) or not is_covered_path(request.scope["path"]):
        raise TokenScope


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
