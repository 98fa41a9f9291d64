"""Signatures, against the vector of the Standard Webhooks project and against its own library."""

import base64
import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from moorage.events.signature import new_secret, signed_headers

BODY = b'{"type":"credits.low","data":{"caf\xc3\xa9":1}}'


def test_signature_is_the_one_of_the_published_vector() -> None:
    # standard-webhooks, libraries: the test `sign function works`
    headers = signed_headers(
        secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp_seconds=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def signed_now(secret: str) -> dict[str, str]:
    return signed_headers(
        secret=secret, message_id="evt_1", timestamp_seconds=int(time.time()), body=BODY
    )


def test_receivers_own_library_accepts_what_is_signed() -> None:
    secret = new_secret()
    assert Webhook(secret).verify(BODY, signed_now(secret)) == json.loads(BODY)


def test_receivers_own_library_refuses_another_body_and_another_secret() -> None:
    secret = new_secret()
    headers = signed_now(secret)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(BODY + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, headers)


def test_secret_is_fresh_and_as_long_as_the_specification_wants() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert secret.startswith("whsec_")
        assert 24 <= len(base64.b64decode(secret[6:], validate=True)) <= 64
