"""Every page: accessible in both themes, on small phones, light and quiet, also without scripts."""

import pytest
from browsing import Theme, faults_of_load, findings_of_axe, overflow
from playwright.async_api import Page, expect
from touring import PATHS, Site, Tours

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("site", list(PATHS)),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_each_page_is_accessible(tours: Tours, site: Site, theme: Theme) -> None:
    assert await tours.seen(site, findings_of_axe, theme=theme) == []


async def test_no_page_is_wider_than_a_small_phone(tours: Tours, site: Site) -> None:
    assert await tours.seen(site, overflow, width=320) == []


@pytest.mark.parametrize("width", [375, 1440])
async def test_no_page_moves_while_it_loads_and_each_is_small(
    tours: Tours, site: Site, width: int
) -> None:
    assert await tours.seen(site, faults_of_load, width=width) == []


async def test_each_page_is_there_without_scripts(tours: Tours, site: Site) -> None:
    async def lacks(page: Page) -> str:
        headings, title = await page.locator("h1").count(), await page.title()
        return "" if headings == 1 and "Moorage" in title else f"{headings} h1, {title}"

    assert await tours.seen(site, lacks, scripts=False) == []


async def test_the_first_tab_leads_to_the_content(tours: Tours, site: Site) -> None:
    person = await tours.visitor(site)
    page = await person.open(f"/{site}")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await expect(page.locator(".skip")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()


async def test_navigation_shows_on_a_phone_where_the_reader_is(tours: Tours, site: Site) -> None:
    person = await tours.visitor(site, width=320)
    page = await person.open({"wallet": "/wallet/links", "operator": "/operator/log"}[site])
    await expect(page.locator(".nav [aria-current]")).to_be_in_viewport(ratio=0.9)
