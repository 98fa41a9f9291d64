"""An error answer of the gateway, read into the error a caller can branch on."""

from collections.abc import Mapping
from typing import Any

import msgspec

from moorage.sdk.answers import read_answer
from moorage.sdk.errors import (
    Forbidden,
    GatewayError,
    GatewayUnavailable,
    HashAlreadyUsed,
    NotAuthenticated,
    NotFound,
    PaymentRequired,
    RequestRefused,
    TooManyRequests,
)
from moorage.wire.problems import PaymentDemand

_BY_STATUS: dict[int, type[GatewayError]] = {
    400: RequestRefused,
    401: NotAuthenticated,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: HashAlreadyUsed,
    413: RequestRefused,
    429: TooManyRequests,
}
_RETRYABLE = frozenset({429, 500, 502, 503, 504})
_EXCERPT_CHARACTERS = 200


def read_refusal(*, status: int, content: bytes, headers: Mapping[str, str]) -> GatewayError:
    """The error an answer with `status` stands for.

    A body that is not the contract's (a proxy's page, say) still gives an error of that status,
    retryable as its status is. Fields come from the body, never from its sentence.
    """
    body = _json_object(content)
    family = _BY_STATUS.get(status, GatewayUnavailable if status >= 500 else GatewayError)
    error = family(
        status=status,
        code=_text(body, "code") or f"http_{status}",
        error=_text(body, "error") or _excerpt(status, content),
        retryable=body["retryable"] is True if "retryable" in body else status in _RETRYABLE,
        body=body,
        retry_after_seconds=_seconds(headers.get("Retry-After")),
    )
    if isinstance(error, PaymentRequired):
        error.quote = _quote(content)
    if isinstance(error, HashAlreadyUsed):
        error.project_id = _text(body, "projectId")
        error.deployment_id = _text(body, "deploymentId")
    return error


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _text(body: dict[str, Any], field: str) -> str | None:
    value = body.get(field)
    return value if isinstance(value, str) and value else None


def _excerpt(status: int, content: bytes) -> str:
    text = " ".join(content.decode(errors="replace").split())[:_EXCERPT_CHARACTERS]
    return f"the gateway answered {status}" + (f": {text}" if text else "")


def _seconds(header: str | None) -> int | None:
    return int(header) if header and header.isascii() and header.isdigit() else None


def _quote(content: bytes) -> PaymentDemand | None:
    try:
        return read_answer(content, PaymentDemand)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
