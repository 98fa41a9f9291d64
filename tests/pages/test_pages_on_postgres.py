"""On a PostgreSQL server each page stands as well: every link on every page leads to one."""

import asyncio
import html
import re
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
from browsing import operators_link
from furnished import Furnished, furnished
from touring import PATHS, Site

from support.books.postgres_fixture import PostgresServer
from support.gateway.gateway_fixture import DevGateway, running

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]

_ADDRESS = re.compile(r'(?:href|hx-get)="(/[^"#]*)')
_MOST_PAGES = 400
_UNLINKED = ("/stream", "/watch", "/outcome", "/pay", "/search", "/table", "/webhook", "/glance")
"""What a script, a form or a payment leads to."""


class Session(NamedTuple):
    """Somebody who may look at a site."""

    http: aiohttp.ClientSession
    home: str  # where the site answers, without a path

    async def get(self, path: str) -> tuple[int, str, str]:
        """What a page answers: its status, its media type and its text."""
        async with self.http.get(self.home + path, allow_redirects=False) as answer:
            return answer.status, answer.content_type, await answer.text()


@pytest.fixture(scope="module")
def gateway(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DevGateway]:
    """Its books are on a server from the beginning."""
    name = postgres_server.create()
    directory = tmp_path_factory.mktemp("served") / "data"
    url = postgres_server.url(name)
    with running(directory, requests_per_minute="100000", database_url=url) as gateway:
        yield gateway
    assert not (directory / "moorage.db").exists()
    postgres_server.drop(name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def things(gateway: DevGateway) -> Furnished:
    return await furnished(gateway)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sessions(gateway: DevGateway, things: Furnished) -> AsyncIterator[dict[Site, Session]]:
    """One session of the wallet and one of the operator, opened by links."""
    made = await things.wallet.call_bound("POST", "/agent/links", json={"once": True})
    of_operator = await asyncio.to_thread(operators_link, gateway)
    jars = [aiohttp.CookieJar(unsafe=True) for _ in range(2)]
    async with (
        aiohttp.ClientSession(cookie_jar=jars[0]) as first,
        aiohttp.ClientSession(cookie_jar=jars[1]) as second,
    ):
        yield {
            "wallet": await opened(first, made.body["url"]),
            "operator": await opened(second, of_operator),
        }


async def opened(http: aiohttp.ClientSession, url: str) -> Session:
    home = url.removesuffix(urlsplit(url).path)
    async with http.post(url, headers={"Origin": home}) as answer:
        assert answer.status == 200, await answer.text()
    return Session(http, home)


def addresses(page: str, site: Site) -> set[str]:
    """Where a page leads to, of its own site."""
    found = {html.unescape(each) for each in _ADDRESS.findall(page)}
    return {each for each in found if re.match(rf"/{site}(/|\?|\.|$)", each)}


def fault(status: int, kind: str, text: str, path: str) -> str:
    """What is wrong with an answer; "" is nothing."""
    if status != 200:
        return f"{path}: {status}"
    if kind == "text/html" and "<html" in text and text.count("<h1") != 1:
        return f"{path}: {text.count('<h1')} headings"
    return "" if "<main" in text or "<html" not in text else f"{path}: no landmark"


@pytest.mark.parametrize("site", list(PATHS))
async def test_every_link_of_every_page_leads_to_a_page(
    sessions: dict[Site, Session], things: Furnished, site: Site
) -> None:
    waiting = {things.path(each) for each in PATHS[site] if not each.endswith(_UNLINKED)}
    seen: dict[str, str] = {}
    while waiting and len(seen) < _MOST_PAGES:
        path = waiting.pop()
        status, kind, text = await sessions[site].get(path)
        seen[path] = fault(status, kind, text, path)
        if kind == "text/html":
            waiting |= addresses(text, site) - seen.keys()
    assert not waiting
    assert [each for each in seen.values() if each] == []
    assert len(seen) > len(PATHS[site])
