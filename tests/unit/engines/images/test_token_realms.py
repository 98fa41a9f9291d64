"""Where the tokens of a registry may be got."""

from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from moorage.engines.images.registry import Authorizations, Credentials

SCOPES = ("repository:team/app:pull",)


class Session:
    """Tells where it was sent, and answers with a refusal."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 403

    @asynccontextmanager
    async def get(self, url: str, **_: Any) -> Any:
        self.asked.append(url)
        yield self


@pytest.mark.parametrize(
    ("registry", "realm", "is_asked"),
    [
        ("registry.example", "https://auth.example/token", True),
        ("registry.example", "http://auth.example/token", False),
        ("registry.example", "http://127.0.0.1/token", False),
        ("127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("127.0.0.1:5000", "http://auth.example/token", False),
        ("127.0.0.1:5000", "http://auth.example@127.0.0.1.example/token", False),
    ],
)
async def test_credentials_are_sent_in_plain_text_to_no_other_machine(
    registry: str, realm: str, is_asked: bool
) -> None:
    session = Session()
    known = Authorizations(cast("Any", session), Credentials({registry: "dXNlcjpwYXNz"}))
    assert not await known.renew(registry, SCOPES, [f'Bearer realm="{realm}"'])
    assert session.asked == [realm] * is_asked
