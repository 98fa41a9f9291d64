"""What is wrong with a small body, by the field's name and in our words."""

import pytest

from moorage.api.http.small_body import parse_small
from moorage.errors import InvalidField
from moorage.wire.credits import TopUpBody
from moorage.wire.deployments import RollbackBody
from moorage.wire.domains import DomainBody
from moorage.wire.events import WebhookBody
from moorage.wire.links import LinkBody

TAKES = "is not known here; this takes deploymentId"
LONG = "deploymentId: must be a string of at most 64 characters"


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        (DomainBody, b'{"domain": 5}', "domain: must be a string"),
        (DomainBody, b'{"other": 1}', "domain: is required and must be a string"),
        (DomainBody, b"[]", "body: must be a JSON object"),
        (DomainBody, b"{", "body: must be JSON"),
        (DomainBody, b"\xff", "body: must be JSON"),
        (DomainBody, b'{"domain": "a", "x": ' + b"[" * 5_000, "body: must be JSON"),
        (DomainBody, b'{"domain": 5} and more', "body: must be JSON"),
        (WebhookBody, b'{"url": null}', "url: must be a string"),
        (RollbackBody, b'{"deploymentId": 5}', LONG),
        (RollbackBody, b'{"deploymentId": "%b"}' % (b"x" * 65), LONG),
        (RollbackBody, b'{"foo": 1}', "foo: " + TAKES),
        (RollbackBody, b'{"%b": 1}' % (b"y" * 70), "y" * 64 + ": " + TAKES),
        (TopUpBody, b'{"amount_usd": []}', "amount_usd: must be a number"),
        (TopUpBody, b'{"amount_usd": "much"}', "amount_usd: must be a number"),
        (LinkBody, b'{"once": 5}', "once: must be true or false"),
        (LinkBody, b'{"days": 91}', "days: must be a whole number from 1 to 90"),
        (LinkBody, b'{"days": "7"}', "days: must be a whole number from 1 to 90"),
        (LinkBody, b'{"label": 5}', "label: must be a string of at most 100 characters"),
        (dict[str, object], b'"text"', "body: must be a JSON object"),
        (dict[str, object], b'{"a": "\xff"}', "body: must be JSON"),
        (DomainBody, b'{"domain": "\xff"}', "domain: must be a string"),
    ],
)  # fmt: skip
def test_wrong_body_is_told_by_the_field_and_without_the_decoders_words(
    kind: type, body: bytes, said: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        parse_small(body, kind)
    assert refused.value.message == said
    assert refused.value.field == said.split(":", maxsplit=1)[0]


def test_unknown_fields_are_taken_where_the_body_may_have_them() -> None:
    assert parse_small(b'{"domain": "a.example", "note": 1}', DomainBody).domain == "a.example"
