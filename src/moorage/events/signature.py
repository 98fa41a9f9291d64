"""The signature of a message: the symmetric scheme `v1` of Standard Webhooks 1.0.0."""

import base64
import hashlib
import hmac
import secrets

SECRET_PREFIX = "whsec_"  # noqa: S105 (what secrets begin with)
_SECRET_BYTES = 32  # the specification requires 24 to 64


def new_secret() -> str:
    """Returns a new secret: `whsec_` and base64."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def is_secret(text: str) -> bool:
    """Returns whether `signed_headers` takes it: the prefix, and 24 to 64 bytes as base64."""
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:
        return False
    return text.startswith(SECRET_PREFIX) and 24 <= len(key) <= 64


def signed_headers(
    *, secret: str, message_id: str, timestamp_seconds: int, body: bytes
) -> dict[str, str]:
    """Returns the headers: the message's id, this attempt's time, and the signature over all."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    content = f"{message_id}.{timestamp_seconds}.".encode() + body
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_seconds),
        "webhook-signature": f"v1,{signature}",
    }
