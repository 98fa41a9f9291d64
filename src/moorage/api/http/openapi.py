"""The OpenAPI 3.1 document, made from the route table and the types of the bodies."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from moorage import __version__
from moorage.api.http.operation import Operation
from moorage.wire.problems import PaymentDemand, PaymentUsed, Problem

_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")

WALLET_HEADERS = {
    "X-Wallet-Address": "the wallet, 0x and 40 hex digits, in any letter case",
    "X-Signature": "hex of 65 bytes, EIP-191 personal_sign of `{wallet}:{timestamp}:{nonce}`; "
    "of as many as a contract wallet needs (ERC-1271, ERC-6492), 8192 at most; "
    "or of version 2",
    "X-Timestamp": "Unix time in milliseconds, within 60 s of the gateway's clock",
    "X-Nonce": "a UUID, used once",
}
SIGNATURE_HEADERS = {
    "X-Signature-Version": "1 by default; 2: EIP-712, bound to host, method, path and body; "
    "domain `EIP712Domain(string name,string version)` with Moorage and 2, message "
    "`Request(address wallet,string host,string method,string path,bytes32 bodyDigest,"
    "uint256 timestamp,string nonce)`",
    "Content-Digest": "version 2, with a body: its SHA-256 as RFC 9530 writes it",
    "X-Wallet-Chain": "the chain that a contract wallet is on; arbitrum by default",
}
PAYMENT_HEADERS = {
    "X-Payment-Tx": "hash of an ERC-20 transfer that pays",
    "X-Payment-Chain": "the chain it was made on; arbitrum by default",
    "X-Payment-Token": "the token used; usdc by default",
    "X-Use-Existing-Credits": "true: share credits with active projects",
    "Idempotency-Key": "a repeat with the same key and body gets the same answer, for 24 hours",
    "X-Dry-Run": "true: all checks and the price, no side effect",
}
_MEANS_HEADERS = ("X-Payment-Chain", "X-Payment-Token")
_PROBLEMS: dict[int, tuple[type[Problem], ...]] = {
    402: (PaymentDemand, Problem),  # a plain problem while a payment is pending
    409: (PaymentUsed,),
}
_SIGNED_PROBLEMS = (400, 401, 429, 502)  # 400 and 502 are about contract wallets


def openapi_document(operations: Sequence[Operation], *, server_url: str) -> dict[str, Any]:
    """Returns the whole document."""
    types = {kind for operation in operations for kind in _types(operation)}
    _, components = msgspec.json.schema_components(
        sorted(types, key=lambda kind: kind.__name__), ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Moorage",
            "version": __version__,
            "description": "Deploy an app by paying for it: sign with a wallet, pay a 402, poll.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {"schemas": components},
    }


def _types(operation: Operation) -> list[type]:
    named = [Problem, *_answers(operation), *(kind for f in operation.fails for kind in _failed(f))]
    return [*named, operation.body] if operation.body is not None else named


def _answers(operation: Operation) -> tuple[type, ...]:
    return (operation.answer, *((operation.or_answer,) if operation.or_answer else ()))


def _failed(status: int) -> tuple[type[Problem], ...]:
    return _PROBLEMS.get(status, (Problem,))


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.handler.__name__,
        "summary": _summary(operation),
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": _content((operation.body,))}
    return described


def _summary(operation: Operation) -> str:
    """Returns the first line of the handler's docstring, without its method and path."""
    first_line = (operation.handler.__doc__ or "").strip().splitlines()[0]
    said = first_line.partition("`: ")[2] or first_line
    return said[:1].upper() + said[1:]


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        *(_parameter("path", name, "", required=True) for name in _names(operation.path)),
        *(_parameter("query", name, text) for name, text in operation.query.items()),
        *_headers(WALLET_HEADERS if operation.signed else {}, required=True),
        *_headers(SIGNATURE_HEADERS if operation.signed else {}, required=False),
        *_headers(_payment_headers(operation), required=False),
    ]


def _payment_headers(operation: Operation) -> dict[str, str]:
    if operation.paid:
        return PAYMENT_HEADERS
    named = _MEANS_HEADERS if operation.priced else ()
    return {name: PAYMENT_HEADERS[name] for name in named}


def _names(path: str) -> list[str]:
    return _PARAMETER.findall(path)


def _headers(headers: dict[str, str], *, required: bool) -> list[dict[str, Any]]:
    return [_parameter("header", name, text, required=required) for name, text in headers.items()]


def _parameter(place: str, name: str, text: str, *, required: bool = False) -> dict[str, Any]:
    described = {"name": name, "in": place, "required": required, "schema": {"type": "string"}}
    return described | ({"description": text} if text else {})


def _responses(operation: Operation) -> dict[str, Any]:
    fails = sorted({*operation.fails, *(_SIGNED_PROBLEMS if operation.signed else ())})
    responses = {"200": {"description": "Done", "content": _content(_answers(operation))}}
    for status in fails:
        kinds = _failed(status)
        responses[str(status)] = {
            "description": (kinds[0].__doc__ or "").strip(),
            "content": _content(kinds),
        }
    return responses


def _content(kinds: tuple[type, ...]) -> dict[str, Any]:
    refs = [{"$ref": _REF.format(name=kind.__name__)} for kind in kinds]
    return {"application/json": {"schema": refs[0] if len(refs) == 1 else {"anyOf": refs}}}
