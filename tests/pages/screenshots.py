"""Pictures of every page in both themes and three widths: `make screenshots`, then look at them.

The README's picture is one of them.
"""

import re

import pytest
from browsing import WIDTHS, LinkedIn, NewVisitor
from playwright.async_api import Page
from touring import PATHS, Tours

from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import REPOSITORY, DevGateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

DIRECTORY = REPOSITORY / "screenshots"
PICTURE = REPOSITORY / "docs/pictures/wallet.png"
MAX_PICTURE_BYTES = 120 * 1024
LOOKS = [(theme, width) for theme in ("light", "dark") for width in WIDTHS]


SERVER = "require('http').createServer((q, s) => s.end('hello')).listen(process.env.PORT)"


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


async def test_take_the_readmes(dev_gateway: DevGateway, linked_in: LinkedIn) -> None:
    wallet = await Wallet(dev_gateway).fund()
    for name, settings in {"newsletter": {"kind": "worker"}, "blog": {}, "shop": {}}.items():
        script = "setInterval(() => {}, 1e6)" if settings else SERVER
        deployed = await wallet.deploy_paid(
            name, {"index.js": script}, displayName=name.title(), settings=settings
        )
        assert (await wallet.settled(deployed))["status"] == "ready"

    page = await (await linked_in(wallet, width=1000)).open("/wallet")

    await page.screenshot(path=PICTURE, clip={"x": 0, "y": 0, "width": 1000, "height": 768})
    assert PICTURE.stat().st_size <= MAX_PICTURE_BYTES
