"""Payments in `_meta`: as headers of the API's request, and back from those of its answer.

Sources: x402 version 2, its MCP transport; draft-payment-transport-mcp-00.
"""

import re
from base64 import b64decode, urlsafe_b64decode
from collections.abc import Mapping
from typing import Any

import msgspec
from mcp.shared.exceptions import MCPError

from moorage.api.http.in_process import ApiAnswer, Header
from moorage.mcp.tools.arguments import ArgumentsInvalid
from moorage.mcp.tools.outcome import Outcome
from moorage.mcp.tools.wording import in_tool_words
from moorage.payments.protocols.authorization import canonical_json, encode_base64, encode_base64url

X402_PAYMENT = "x402/payment"
X402_RESPONSE = "x402/payment-response"
MPP_CREDENTIAL = "org.paymentauth/credential"
MPP_RECEIPT = "org.paymentauth/receipt"
MPP_REQUIRED = "org.paymentauth/payment-required"
MPP_PREFIX = "org.paymentauth/"

PAYMENT_REQUIRED = -32042
VERIFICATION_FAILED = -32043

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


def payment_headers(meta: Mapping[str, Any]) -> list[Header]:
    """Returns the headers of the payment in a call's `_meta`. Raises ArgumentsInvalid."""
    headers: list[Header] = []
    if (payment := meta.get(X402_PAYMENT)) is not None:
        headers.append(("payment-signature", encode_base64(_encoded(X402_PAYMENT, payment))))
    if (credential := meta.get(MPP_CREDENTIAL)) is not None:
        written = _encoded(MPP_CREDENTIAL, _as_sent(credential))
        headers.append(("authorization", f"Payment {encode_base64url(written)}"))
    if len(headers) > 1:
        raise ArgumentsInvalid(f"_meta holds {X402_PAYMENT} and {MPP_CREDENTIAL}: send one")
    return headers


def demanded(answer: ApiAnswer, meta: Mapping[str, Any]) -> Outcome:
    """Returns a 402 in the forms of both protocols.

    Raises MCPError, as the draft has it, for a client that shows by its `_meta` that it speaks MPP.
    A client of x402 reads the structured content; mppx reads the draft's data in `_meta` as well.
    """
    body = answer.body
    data = {
        "httpStatus": answer.status,
        "challenges": [_challenge(header) for header in answer.all_of("www-authenticate")],
        "problem": body,
    }
    if any(name.startswith(MPP_PREFIX) for name in meta):
        was_refused = MPP_CREDENTIAL in meta and body.get("code") != "payment_required"
        code = VERIFICATION_FAILED if was_refused else PAYMENT_REQUIRED
        raise MCPError(code, str(body.get("error")), data)
    required = answer.header("payment-required")
    x402 = {} if required is None else _decoded(b64decode(required))
    return Outcome(
        {**in_tool_words(body), **x402},
        is_error=True,
        meta={**receipts(answer), **({MPP_REQUIRED: data} if data["challenges"] else {})},
    )


def receipts(answer: ApiAnswer) -> dict[str, Any]:
    """Returns the receipts that came with an answer, by their names in `_meta`."""
    found = {}
    if (response := answer.header("payment-response")) is not None:
        found[X402_RESPONSE] = _decoded(b64decode(response))
    if (receipt := answer.header("payment-receipt")) is not None:
        found[MPP_RECEIPT] = _decoded(urlsafe_b64decode(receipt + "=" * (-len(receipt) % 4)))
    return found


def _challenge(header: str) -> dict[str, Any]:
    """Returns a challenge as JSON has it: `request` is an object."""
    parameters: dict[str, Any] = dict(_PARAMETER.findall(header))
    request = parameters["request"]
    parameters["request"] = _decoded(urlsafe_b64decode(request + "=" * (-len(request) % 4)))
    return parameters


def _as_sent(credential: Any) -> Any:
    """Returns a credential with its challenge's `request` encoded as in the header."""
    match credential:
        case {"challenge": {"request": dict() as request, **challenge}, **rest}:
            encoded = encode_base64url(canonical_json(request))
            return {**rest, "challenge": {**challenge, "request": encoded}}
    return credential


def _encoded(name: str, payment: Any) -> bytes:
    if not isinstance(payment, dict):
        raise ArgumentsInvalid(f'_meta["{name}"] must be an object')
    return msgspec.json.encode(payment)


def _decoded(content: bytes) -> dict[str, Any]:
    return msgspec.json.decode(content, type=dict[str, Any])
