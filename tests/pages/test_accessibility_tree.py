"""What Chromium tells a screen reader: names and roles, charts as tables, focus, and few words."""

import re
from collections import Counter
from typing import NamedTuple

import pytest
from playwright.async_api import Page, expect
from touring import Site, Tours

from support.gateway.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

LIVE = "[aria-live='polite'], [aria-live='assertive'], [role=status], [role=alert]"

_FOCUSED = "document.activeElement.innerText || document.activeElement.name"
_COUNT_SWAPS = """
() => {
  window.moorageSwaps = 0;
  document.addEventListener("htmx:after:swap", () => { window.moorageSwaps += 1; });
}
"""


class Node(NamedTuple):
    """What a screen reader says of one thing."""

    role: str
    name: str


async def tree(page: Page) -> Counter[Node]:
    """All that Chromium tells of a page; what it leaves out is left out."""
    session = await page.context.new_cdp_session(page)
    found = await session.send("Accessibility.getFullAXTree")
    await session.detach()
    return Counter(
        Node(node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in found["nodes"]
        if not node["ignored"]
    )


PINNED: dict[Site, dict[str, list[Node]]] = {
    "wallet": {
        "/wallet": [
            Node("navigation", "Main"),
            Node("link", "Top up"),
            Node("table", "Projects"),
            Node("columnheader", "State"),
            Node("button", "Sign out"),
        ],
        "/wallet/projects/{project_id}": [
            Node("navigation", "Breadcrumbs"),
            Node("link", "Open the app"),
            Node("button", "Restart"),
            Node("button", "Pause"),
            Node("link", "Delete…"),
            Node("table", "Deployments"),
        ],
        "/wallet/projects/{project_id}/logs": [
            Node("log", "Log"),
            Node("button", "Pause"),
            Node("button", "Wrap lines"),
            Node("searchbox", "Show only lines with"),
            Node("combobox", "From"),
        ],
        "/wallet/projects/{project_id}/variables": [
            Node("textbox", "Paste the lines of a .env file"),
            Node("button", "Remove GREETING"),
        ],
        "/wallet/projects/{project_id}/delete": [Node("button", "Delete it for good")],
        "/wallet/top-up": [
            Node("textbox", "US dollars"),
            Node("combobox", "Pay with"),
            Node("button", "Show how to pay"),
        ],
        "/wallet/links": [
            Node("textbox", "Who is it for? (optional)"),
            Node("spinbutton", "How many days does it last?"),
            Node("button", "Make the link"),
        ],
    },
    "operator": {
        "/operator": [
            Node("navigation", "Main"),
            Node("table", "Chains"),
            Node("meter", "Memory sold"),
            Node("table", "What operators did"),
        ],
        "/operator/payments/{chain_id}/{tx_hash}/{log_index}": [
            Node("textbox", "How many tokens (optional)"),
            Node("button", "Send it back"),
        ],
        "/operator/projects/{name}": [
            Node("button", "Suspend the project"),
            Node("spinbutton", "Days until then"),
            Node("checkbox", "Make no archive"),
            Node("button", "Order its deletion"),
        ],
        "/operator/notices": [
            Node("textbox", "What to tell"),
            Node("checkbox", "Tell everybody now; it cannot be taken back"),
            Node("button", "Begin maintenance"),
        ],
    },
}


@pytest.mark.parametrize("site", list(PINNED))
async def test_important_controls_have_their_roles_and_names(tours: Tours, site: Site) -> None:
    person = await tours.visitor(site)
    missing = []
    for pattern, nodes in PINNED[site].items():
        page = await person.open(tours.things.path(pattern))
        told = await tree(page)
        missing += [(pattern, node) for node in nodes if node not in told]
        unnamed = [node for node in told if node.name == "" and node.role in CONTROLS]
        assert (pattern, unnamed) == (pattern, [])
        await page.close()
    assert missing == []


CONTROLS = {"button", "link", "textbox", "searchbox", "combobox", "checkbox", "spinbutton", "meter"}


@pytest.mark.parametrize(
    ("site", "path"),
    [("wallet", "/wallet/projects/{project_id}/metrics"), ("operator", "/operator/trends")],
)
async def test_each_chart_is_told_as_a_table_as_well(tours: Tours, site: Site, path: str) -> None:
    person = await tours.visitor(site)
    page = await person.open(tours.things.path(path))
    charts = page.locator("figure.chart:has(.readout)")
    await expect(charts.first).to_be_visible()
    for chart in await charts.all():
        title = await chart.get_by_role("heading").inner_text()
        await expect(chart.get_by_role("group", name=f"{title}, as a chart")).to_have_count(1)
        await chart.get_by_text(f"{title} as a table").click()
        await expect(chart.get_by_role("table", name=title).get_by_role("row")).not_to_have_count(0)


@pytest.mark.parametrize(
    ("site", "path", "name"),
    [("wallet", "/wallet", "Where credits go"), ("operator", "/operator", "an audit")],
)
async def test_focus_stays_where_it_is_when_a_part_is_fetched_anew(
    tours: Tours, site: Site, path: str, name: str
) -> None:
    person = await tours.visitor(site)
    await person.context.clock.install()
    page = await person.open(path)
    link = page.get_by_role("link", name=name)
    await link.focus()
    await swapped(page)
    await expect(link).to_be_focused()
    assert await page.locator("main").locator(LIVE).count() == 0  # so nothing is read out


async def swapped(page: Page) -> None:
    """A part of the page is fetched anew, as it is every quarter of a minute."""
    await page.evaluate(_COUNT_SWAPS)
    await page.context.clock.fast_forward(16_000)

    async def has_swapped() -> bool:
        return bool(await page.evaluate("window.moorageSwaps > 0"))

    await until(has_swapped, pause_seconds=0.05)


async def test_log_that_is_paused_is_not_read_out_line_by_line(tours: Tours) -> None:
    person = await tours.visitor("wallet")
    page = await person.open(tours.things.path("/wallet/projects/{project_id}/logs"))
    await page.get_by_role("button", name="Pause").click()
    state = page.locator("[data-log-state]")
    await expect(state).to_have_text("Paused")
    await expect(page.locator("[data-log-held]")).not_to_have_attribute("role", re.compile("."))
    await expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")


async def test_all_can_be_done_by_keyboard_at_twice_the_size(tours: Tours) -> None:
    person = await tours.visitor("wallet", width=640)  # as 1280 pixels at 200 %
    page = await person.open("/wallet/links")
    reached = set()
    for _ in range(60):
        await page.keyboard.press("Tab")
        reached.add(str(await page.evaluate(_FOCUSED)).strip())
    assert {"Skip to the content", "Sign out", "label", "days", "Make the link"} <= reached
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")


async def test_times_are_told_in_the_readers_zone_on_a_press(tours: Tours) -> None:
    person = await tours.visitor("wallet", zone="Europe/Berlin")
    page = await person.open("/wallet/payments")
    first = page.locator("td time").first
    await expect(first).to_have_text(re.compile(r" UTC$"))
    written = await first.inner_text()
    await page.get_by_role("button", name="Show times in your time zone").click()
    await expect(first).to_have_text(re.compile(r" (GMT\+[12]|CES?T)$"))
    await expect(first).to_have_attribute("title", written)
    await page.reload()
    await expect(first).to_have_text(re.compile(r" (GMT\+[12]|CES?T)$"))
    await page.get_by_role("button", name="Show times in UTC").click()
    await expect(first).to_have_text(written)
