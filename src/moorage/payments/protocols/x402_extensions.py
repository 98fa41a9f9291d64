"""What PAYMENT-REQUIRED says beside the price: the resource, and how to call it (`bazaar`).

Sources: x402's extensions `bazaar` and `payment-identifier`.
"""

from typing import Any

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


def resource(url: str, description: str) -> dict[str, Any]:
    """Returns the resource at `url`; `description` is what the payment is for."""
    return {
        "url": url,
        "description": description,
        "mimeType": "application/json",
        "serviceName": SERVICE_NAME,
        "tags": TAGS,
    }


def extensions(endpoint: str) -> dict[str, Any]:
    """Returns the extensions of an endpoint, which is the last part of its path."""
    return _EXTENSIONS.get(endpoint, {})


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
_EXTENSIONS = {
    name: {"bazaar": _bazaar(body, _ANSWERS[name]), "payment-identifier": _IDENTIFIER}
    for name, body in _BODIES.items()
}
