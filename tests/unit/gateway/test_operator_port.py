"""The operator's port answers by its own names, and by no name of somebody else's."""

import pytest
from starlette.types import Message

from moorage.gateway.operator_port import operator_app


async def status_at(host: str | None, path: str) -> int:
    async def receive() -> Message:
        raise AssertionError("nobody reads the body")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [] if host is None else [(b"host", host.encode())],
    }
    app = operator_app({}, names=("moorage-operator",))
    await app(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.parametrize("path", ["/ready", "/metrics"])
async def test_port_answers_by_its_own_names_alone(path: str) -> None:
    """A name that an attacker leads to this machine is in `Host`, whatever address it has."""
    for own in ("127.0.0.1:8403", "[::1]:8403", "10.0.0.7:8403", "localhost", "LOCALHOST:8403"):
        assert await status_at(own, path) == 200
    assert await status_at("moorage-operator:8403", path) == 200
    for other in ("evil.example:8403", "127.0.0.1.evil.example", "localhost.evil.example", "", "["):
        assert await status_at(other, path) == 421


async def test_port_answers_probes_that_send_no_host() -> None:
    """HTTP/1.0 has none, and no browser leaves it out."""
    assert await status_at(None, "/ready") == 200
