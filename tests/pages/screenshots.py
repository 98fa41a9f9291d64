"""Pictures of every page in both themes and three widths: `make screenshots`, then look at them."""

import re

import pytest
from browsing import WIDTHS, NewVisitor
from playwright.async_api import Page
from touring import PATHS, Tours

from support.gateway.gateway_fixture import REPOSITORY

pytestmark = pytest.mark.asyncio(loop_scope="session")

DIRECTORY = REPOSITORY / "screenshots"
LOOKS = [(theme, width) for theme in ("light", "dark") for width in WIDTHS]


@pytest.mark.parametrize(("theme", "width"), LOOKS)
async def test_take_all(tours: Tours, new_visitor: NewVisitor, theme: str, width: int) -> None:
    taken = set()

    async def take(page: Page) -> None:
        path = re.sub(r"0x[0-9a-f]+|[0-9a-f]{8}-[0-9a-f-]+|app-[0-9a-f]+", "one", page.url)
        name = path.partition("//")[2].partition("/")[2].replace("/", "-") or "public"
        taken.add(name)
        await page.screenshot(path=DIRECTORY / f"{name}-{theme}-{width}.png", full_page=True)

    stranger = await new_visitor(theme=theme, width=width)
    for path in ("/", "/sign-in", "/wallet/nowhere"):
        await take(await stranger.open(path))
    for site in PATHS:
        assert await tours.seen(site, take, theme=theme, width=width) == []
    assert len(taken) > len(PATHS["wallet"])
