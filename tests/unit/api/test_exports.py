"""Whoever has the link of an export may fetch it until its time is over."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Scope

from moorage.api.exports import exports_app
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.core import Core
from moorage.hosting.exports import ExportFiles
from moorage.records.project import Project
from moorage.storage.database import Database
from moorage.storage.operation import exports
from moorage.storage.operation.exports import Export
from moorage.storage.several.leases import Leases
from moorage.storage.vault import Vault
from support.books.records_fixture import GATEWAY, add_project
from support.gateway.clock import MovableClock

TOKEN = "ab" * 32
CONTENT = b"an archive"
LIMIT = 3


@pytest.fixture
async def project(db: Database) -> Project:
    return await add_project(db)


@pytest.fixture
async def app(db: Database, clock: MovableClock, project: Project, tmp_path: Path) -> ASGIApp:
    leases = Leases(db=db, holder=GATEWAY, clock=clock)
    core = Core(db=db, vault=Vault([bytes(32)]), leases=leases, clock=clock, data_dir=tmp_path)
    files = ExportFiles(core)
    archive = files.draft("x").with_suffix(".tar.gz")
    archive.write_bytes(CONTENT)
    made = Export(
        project_id=project.id,
        token=TOKEN,
        file_name="shop.tar.gz",
        size_bytes=len(CONTENT),
        is_last=True,
        until_ms=clock.now_ms() + 1000,
    )
    await files.put(made, archive)
    async with db.transaction(durable=True) as tx:
        await exports.put(tx, made)
    limiter = MemoryRateLimiter(clock=clock, limit=LIMIT)

    async def count(request: Request) -> None:
        assert request.client is not None
        await limiter.check(request.client.host)

    return exports_app(db, files, clock, count=count)


async def asked(
    app: ASGIApp, token: str, *, at: str = "192.0.2.1"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    scope: Scope = {
        "type": "http",
        "method": "GET",
        "path": f"/exports/{token}",
        "headers": [],
        "path_params": {"token": token},
        "client": (at, 1),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> Message:
        return await asyncio.Future()  # the visitor stays

    async def send(message: Message) -> None:
        sent.append(dict(message))

    await app(scope, receive, send)
    headers = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(each.get("body", b"") for each in sent[1:])


async def test_link_gives_the_archive_under_the_projects_name(app: ASGIApp) -> None:
    status, headers, body = await asked(app, TOKEN)
    assert (status, body) == (200, CONTENT)
    assert headers["content-disposition"] == 'attachment; filename="shop.tar.gz"'
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("token", ["ab" * 31, "..", "moorage.db", ""])
async def test_what_is_no_link_gives_nothing(app: ASGIApp, token: str) -> None:
    status, _, body = await asked(app, token)
    assert (status, b"not_found" in body) == (404, True)


async def test_link_gives_nothing_when_its_time_is_over(app: ASGIApp, clock: MovableClock) -> None:
    clock.advance(1000)
    assert (await asked(app, TOKEN))[0] == 404


async def test_guesses_at_links_are_counted_by_address(app: ASGIApp) -> None:
    for _ in range(LIMIT):
        assert (await asked(app, "0" * 64))[0] == 404
    status, headers, _ = await asked(app, TOKEN)
    assert (status, headers["retry-after"]) == (429, "60")
    assert (await asked(app, TOKEN, at="192.0.2.2"))[0] == 200
