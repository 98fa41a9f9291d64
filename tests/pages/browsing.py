"""A real browser that looks at pages, and what no page may ever do in it."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Page, Playwright
from playwright.async_api import Request as PageRequest
from wallet_in_page import WalletInPage

from support.gateway.gateway_fixture import DevGateway, moorage

AXE = Path(__file__).parent.parent / "clients/node_modules/axe-core/axe.min.js"
CHROMIUM = Path(__file__).with_name("undisturbed_chromium")
WIDTHS = {375: 800, 768: 1024, 1440: 900}
"""A phone, a tablet and a desk, with how high each is."""

Theme = Literal["light", "dark"]

_SHIFTS = """
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (!entry.hadRecentInput) window.moorageShift = (window.moorageShift ?? 0) + entry.value;
  }
}).observe({ type: "layout-shift", buffered: true });
"""


MAX_FIRST_LOAD_BYTES = 100_000
_TRANSFERRED = """
performance.getEntries().map((each) => each.transferSize ?? 0).reduce((sum, each) => sum + each, 0)
"""

_WIDER = """
() => {
  const screen = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= screen) return [];
  const wide = [...document.body.querySelectorAll("*")].filter((each) =>
    each.getBoundingClientRect().right > screen + 0.5 && !each.closest(".scroll, .unseen"));
  return wide.map((each) => each.outerHTML.slice(0, 80));
}
"""


async def launch(playwright: Playwright) -> Browser:
    """Starts Debian's Chromium without windows; as root, so without its own sandbox."""
    arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    return await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)


@dataclass(eq=False)
class Visitor:
    """One person's browser: its pages share cookies, and a wallet if there is one."""

    context: BrowserContext
    home: str  # where a gateway answers, without a slash at the end
    wallet: WalletInPage | None = None
    faults: list[str] = field(default_factory=list)

    async def open(self, path: str) -> Page:
        """Opens a path of the gateway in a page of its own."""
        page = await self.new_page()
        await page.goto(self.home + path)
        return page

    async def new_page(self) -> Page:
        """Returns an empty page, whose faults are noticed wherever it goes."""
        page = await self.context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", self._failed)
        page.on("request", self._requested)
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        page = message.page
        is_refused_page = message.text.startswith("Failed to load resource") and (
            page is not None and message.location["url"] == page.url
        )
        if not is_refused_page:  # a page that answers 4xx on purpose
            self.faults.append(f"console: {message.text}")

    def _failed(self, error: Error) -> None:
        self.faults.append(f"error: {error.message}")

    def _requested(self, request: PageRequest) -> None:
        there = urlsplit(request.url)
        if there.scheme in {"http", "https"} and not request.url.startswith(self.home + "/"):
            self.faults.append(f"request to another host: {request.url}")


NewVisitor = Callable[..., Awaitable[Visitor]]
"""Takes what `visitor` takes, without browser and home."""

SignedIn = Callable[..., Awaitable[Visitor]]
"""Takes the wallet to sign in with, and what `visitor` takes."""

LinkedIn = SignedIn
"""Takes the wallet whose agent made the link, and what `visitor` takes."""

AsOperator = Callable[..., Awaitable[Visitor]]
"""Takes what `visitor` takes, without browser and home."""


async def visitor(
    browser: Browser,
    home: str,
    *,
    wallet: WalletInPage | None = None,
    theme: Theme = "light",
    width: int = 1440,
    scripts: bool = True,
    zone: str = "UTC",
) -> Visitor:
    """Returns a new person's browser, without cookies."""
    context = await browser.new_context(
        viewport={"width": width, "height": WIDTHS.get(width, 800)},
        color_scheme=theme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
        timezone_id=zone,
        locale="en-GB",
    )
    await context.add_init_script(_SHIFTS)
    if wallet is not None:
        await wallet.into(context)
    return Visitor(context, home, wallet)


def operators_link(gateway: DevGateway) -> str:
    """The URL of a link to the operator's pages, made on the gateway's machine."""
    words = ("operator", "link", "--json", f"--data-dir={gateway.data_dir}")
    made = moorage(*words, env=gateway.environment())
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["url"])


async def findings_of_axe(page: Page, *rules: str) -> list[str]:
    """What axe-core finds against a page's accessibility: by some rules, or by all it has."""
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    results: dict[str, Any] = await page.evaluate("(how) => axe.run(document, how)", options)
    return [_finding(violation) for violation in results["violations"]]


def _finding(violation: dict[str, Any]) -> str:
    places = [node["html"][:120] for node in violation["nodes"][:3]]
    return f"{violation['id']}: {violation['help']}: {places}"


async def faults_of_load(page: Page) -> list[str]:
    """By how much a page has moved by itself (CLS), and what it weighs, if either is much."""
    shift, size = await layout_shift(page), await page.evaluate(_TRANSFERRED)
    moved = [f"moves by {shift:.3f}"] if shift > 0.01 else []
    return moved + ([f"{size} bytes"] if size > MAX_FIRST_LOAD_BYTES else [])


async def layout_shift(page: Page) -> float:
    """By how much a page's parts have moved by themselves (CLS); 0 is none."""
    return float(await page.evaluate("window.moorageShift ?? 0"))


async def overflow(page: Page) -> list[str]:
    """What is wider than the screen, so that a page must be moved sideways; [] is nothing."""
    found: list[str] = await page.evaluate(_WIDER)
    return found
