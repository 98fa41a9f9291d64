"""Every page: accessible in both themes, on small phones, light and quiet, also without scripts."""

import pytest
from browsing import WIDTHS, faults_of_load, findings_of_axe, overflow
from playwright.async_api import Page, expect
from touring import PATHS, Site, Tours

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("site", list(PATHS)),
]


async def test_each_page_is_accessible_and_light_and_stands_still(tours: Tours, site: Site) -> None:
    async def faults(page: Page) -> list[str]:
        heavy_or_moving = await faults_of_load(page)
        light = await findings_of_axe(page)
        await page.emulate_media(color_scheme="dark")
        dark = await findings_of_axe(page, "color-contrast")
        await page.emulate_media(color_scheme="light")
        return heavy_or_moving + light + dark

    assert await tours.seen(site, faults) == []


async def test_each_page_fits_a_phone_and_stands_still(tours: Tours, site: Site) -> None:
    async def faults(page: Page) -> list[str]:
        heavy_or_moving = await faults_of_load(page)
        await page.set_viewport_size({"width": 320, "height": 568})
        wide = await overflow(page)
        await page.set_viewport_size({"width": 375, "height": WIDTHS[375]})
        return heavy_or_moving + wide

    assert await tours.seen(site, faults, width=375) == []


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
