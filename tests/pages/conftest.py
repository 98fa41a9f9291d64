"""A browser for each worker, and people who look with it at a gateway's pages.

The browser lives in the event loop of the whole run, so tests that use it say
`pytestmark = pytest.mark.asyncio(loop_scope="session")`.
"""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from browsing import NewVisitor, SignedIn, Visitor, launch, visitor
from playwright.async_api import Browser, async_playwright
from wallet_in_page import WalletInPage

from gateway_fixture import DevGateway
from wallet import Wallet


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
