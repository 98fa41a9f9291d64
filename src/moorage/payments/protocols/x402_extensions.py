"""What PAYMENT-REQUIRED says beside the price: the resource, and how to call it (`bazaar`).

What is for those who look for services, and for whom nothing names yet, is left out for a known
wallet: headers are read by proxies whose room is small.

Sources: x402's extensions `bazaar`, `payment-identifier` and `sign-in-with-x`.
"""

from collections.abc import Iterable
from typing import Any

from moorage.signing import host_of

SERVICE_NAME = "Moorage"
TAGS = ("hosting", "deploy", "web")
_SCHEMA = "https://json-schema.org/draft/2020-12/schema"
_BODIES: dict[str, dict[str, Any]] = {
    "deploy": {
        "uniqueName": "my-app",
        "displayName": "My app",
        "upload": {
            "type": "files",
            "files": [{"path": "index.html", "content": "PGgxPkhpPC9oMT4="}],
        },
    },
    "credits": {"amount_usd": 5},
}
_ANSWERS: dict[str, dict[str, Any]] = {
    "deploy": {"projectId": "…", "deploymentId": "…", "status": "deploying"},
    "credits": {"credited_usd": 5, "balance_usd": 5},
}


def resource(url: str, description: str, *, introduced: bool) -> dict[str, Any]:
    """Returns the resource at `url`; `description` is what the payment is for.

    `introduced` adds what a list of services tells of it.
    """
    told = {"url": url, "description": description, "mimeType": "application/json"}
    return told | ({"serviceName": SERVICE_NAME, "tags": TAGS} if introduced else {})


def extensions(url: str, *, introduced: bool) -> dict[str, Any]:
    """Returns the extensions of the endpoint at `url`, with `bazaar` if it is `introduced`."""
    bazaar = _BAZAARS.get(url.rpartition("/")[2]) if introduced else None
    return {"payment-identifier": _IDENTIFIER} | ({"bazaar": bazaar} if bazaar else {})


def sign_in(url: str, chain_ids: Iterable[int], *, nonce: str, issued_at: str) -> dict[str, Any]:
    """Returns the extension that offers to name the wallet by SIGN-IN-WITH-X at `url`.

    `nonce` has letters and digits, `issued_at` is in ISO 8601; the sign-in repeats both.
    """
    return {
        "sign-in-with-x": {
            "info": {
                "domain": host_of(url),
                "uri": url,
                "version": "1",
                "nonce": nonce,
                "issuedAt": issued_at,
            },
            "supportedChains": [
                {"chainId": f"eip155:{chain_id}", "type": "eip191"} for chain_id in chain_ids
            ],
            "schema": _SIGNED_IN,
        }
    }


def _bazaar(body: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "info": {
            "input": {"type": "http", "method": "POST", "bodyType": "json", "body": body},
            "output": {"type": "json", "example": answer},
        },
        "schema": {
            "$schema": _SCHEMA,
            "type": "object",
            "properties": {
                "input": {
                    "type": "object",
                    "properties": {
                        "type": {"const": "http"},
                        "method": {"const": "POST"},
                        "bodyType": {"const": "json"},
                        "body": {"type": "object", "required": _required(body)},
                    },
                    "required": ["type", "method", "bodyType", "body"],
                },
                "output": {
                    "type": "object",
                    "properties": {
                        "type": {"const": "json"},
                        "example": {"type": "object", "required": list(answer)},
                    },
                },
            },
            "required": ["input"],
        },
    }


def _required(body: dict[str, Any]) -> list[str]:
    return [name for name in body if name != "amount_usd"]


_IDENTIFIER = {
    "info": {"required": False},
    "schema": {
        "$schema": _SCHEMA,
        "type": "object",
        "properties": {
            "required": {"type": "boolean"},
            "id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{16,128}$"},
        },
        "required": ["required"],
    },
}
_SIGNED_IN = {
    "$schema": _SCHEMA,
    "type": "object",
    "required": [
        *("domain", "address", "uri", "version", "chainId", "type", "nonce", "issuedAt"),
        "signature",
    ],
}
_BAZAARS = {name: _bazaar(body, _ANSWERS[name]) for name, body in _BODIES.items()}
