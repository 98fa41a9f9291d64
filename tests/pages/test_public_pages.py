"""What anybody sees without a session."""

import pytest
from browsing import NewVisitor, findings_of_axe, layout_shift, overflow
from playwright.async_api import expect

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_the_public_page_is_accessible(new_visitor: NewVisitor, theme: str) -> None:
    person = await new_visitor(theme=theme)
    page = await person.open("/")
    assert await findings_of_axe(page) == []
    assert await layout_shift(page) == 0


async def test_the_public_page_fits_a_small_phone(new_visitor: NewVisitor) -> None:
    person = await new_visitor(width=320)
    assert await overflow(await person.open("/")) == []


async def test_the_public_page_is_whole_without_scripts(new_visitor: NewVisitor) -> None:
    person = await new_visitor(scripts=False)
    page = await person.open("/")
    await expect(page.get_by_role("heading", name="Status")).to_be_visible()
    await expect(page.locator("script")).to_have_count(0)


async def test_the_public_page_costs_little_to_load(new_visitor: NewVisitor) -> None:
    person = await new_visitor()
    page = await person.open("/")
    sizes = "performance.getEntries().map((each) => each.transferSize ?? 0)"
    assert 0 < sum(await page.evaluate(sizes)) < 30_000
