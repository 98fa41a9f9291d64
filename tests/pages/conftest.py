"""A browser for each worker, and people who look with it at a gateway's pages.

The browser lives in the event loop of the whole run, so tests that use it say
`pytestmark = pytest.mark.asyncio(loop_scope="session")`.
"""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from browsing import (
    AsOperator,
    LinkedIn,
    NewVisitor,
    SignedIn,
    Visitor,
    launch,
    operators_link,
    visitor,
)
from furnished import Furnished, furnished
from playwright.async_api import Browser, async_playwright
from touring import Tours
from wallet_in_page import WalletInPage

from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import DevGateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        yield browser
        await browser.close()


@pytest.fixture
def home(dev_gateway: DevGateway) -> str:
    """Where pages are looked at; a file with a gateway of its own has a fixture of this name."""
    return dev_gateway.url


@pytest_asyncio.fixture(loop_scope="session")
async def new_visitor(browser: Browser, home: str) -> AsyncIterator[NewVisitor]:
    """Makes visitors; none of their pages may have failed, or asked another host for anything."""
    visitors: list[Visitor] = []

    async def new(**looks: Any) -> Visitor:
        visitors.append(await visitor(browser, home, **looks))
        return visitors[-1]

    yield new
    for each in visitors:
        await each.context.close()
    assert [fault for each in visitors for fault in each.faults] == []


@pytest_asyncio.fixture(loop_scope="session")
async def signed_in(new_visitor: NewVisitor) -> SignedIn:
    """Makes visitors who have signed in with a wallet, as people do."""

    async def sign_in(wallet: Wallet, **looks: Any) -> Visitor:
        person = await new_visitor(wallet=WalletInPage(wallet), **looks)
        page = await person.open("/sign-in")
        await page.get_by_role("button", name=re.compile("Test Wallet")).click()
        await page.wait_for_url(re.compile(r"/wallet$"))
        await page.close()
        return person

    return sign_in


@pytest_asyncio.fixture(loop_scope="session")
async def linked_in(new_visitor: NewVisitor) -> LinkedIn:
    """Makes visitors who have opened a link that the wallet's agent made for them, to use once."""

    async def open_link(wallet: Wallet, **looks: Any) -> Visitor:
        made = await wallet.call_bound("POST", "/agent/links", json={"once": True})
        assert made.status == 200, made.body
        person = await new_visitor(**looks)
        page = await person.open(urlsplit(made.body["url"]).path)
        await page.get_by_role("button", name="Open").click()
        await page.wait_for_url(re.compile(r"/wallet$"))
        await page.close()
        return person

    return open_link


@pytest_asyncio.fixture(loop_scope="session")
async def as_operator(new_visitor: NewVisitor, dev_gateway: DevGateway) -> AsOperator:
    """Makes visitors of the operator's port, who have opened a link made on the machine."""

    async def open_link(**looks: Any) -> Visitor:
        link = operators_link(dev_gateway)
        person = await new_visitor(**looks)
        person.home = dev_gateway.info["operator"]
        page = await person.open(urlsplit(link).path)
        await page.get_by_role("button", name="Open").click()
        await page.wait_for_url(re.compile(r"/operator$"))
        await page.close()
        return person

    return open_link


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def things(dev_gateway: DevGateway) -> Furnished:
    """A wallet with something on each page, for tests that only look at it."""
    return await furnished(dev_gateway)


@pytest.fixture
def tours(things: Furnished, linked_in: LinkedIn, as_operator: AsOperator) -> Tours:
    """Leads visitors through all pages of a site."""
    return Tours(things, linked_in, as_operator)
