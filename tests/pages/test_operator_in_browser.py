"""An operator in a real browser: money that is held and sent back, apps that stop, an audit."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
import pytest_asyncio
from browsing import NewVisitor, Visitor, operators_link
from playwright.async_api import Page, expect

from support.chains.paying import mine, token_balance
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway, running
from support.gateway.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="session")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevGateway]:
    """A gateway that looks for payments each second."""
    directory = tmp_path_factory.mktemp("operated")
    with running(directory / "data", requests_per_minute="100000", watch_seconds="1") as gateway:
        yield gateway


@pytest.fixture
def home(gateway: DevGateway) -> str:
    """The operator's port."""
    return str(gateway.info["operator"])


@pytest_asyncio.fixture(loop_scope="session")
async def operator(new_visitor: NewVisitor, gateway: DevGateway) -> AsyncIterator[Visitor]:
    """Somebody who opened the link that `moorage operator link` prints."""
    yield await let_in(await new_visitor(), gateway)


async def let_in(person: Visitor, gateway: DevGateway) -> Visitor:
    url = await asyncio.to_thread(operators_link, gateway)
    page = await person.open(url.removeprefix(person.home))
    await page.get_by_role("button", name="Open").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    await page.close()
    return person


@pytest_asyncio.fixture(loop_scope="session")
async def wallet(gateway: DevGateway) -> Wallet:
    return await Wallet(gateway).fund()


async def tokens(wallet: Wallet) -> int:
    chain = wallet.gateway.info["chains"]["arbitrum"]
    return await token_balance(chain["rpc_url"], chain["tokens"]["usdc"], wallet.address)


async def make_safe(gateway: DevGateway) -> None:
    for _ in range(2):
        await mine(gateway.info["chains"]["arbitrum"]["rpc_url"])


async def fill(page: Page, button: str, reason: str) -> None:
    """Say why, mean it, and press the button of a form."""
    form = page.locator("form").filter(has=page.get_by_role("button", name=button, exact=True))
    await form.get_by_label("Why").fill(reason)
    for box in await form.get_by_role("checkbox").all():
        await box.check()
    await form.get_by_role("button", name=button, exact=True).click()


async def open_payment(operator: Visitor, tx_hash: str) -> Page:
    page = await operator.open(f"/operator/payments?q={tx_hash}")
    await page.get_by_role("table").get_by_role("link").last.click()
    return page


async def test_a_refund_sends_tokens_back_once(
    operator: Visitor, gateway: DevGateway, wallet: Wallet
) -> None:
    deployed = await wallet.deploy_paid(fresh_name())
    await wallet.settled(deployed)
    await make_safe(gateway)
    had = await tokens(wallet)
    page = await open_payment(operator, deployed.body["payment"]["tx"])
    stale = await open_payment(operator, deployed.body["payment"]["tx"])
    await page.get_by_label("How many tokens").fill("0.25")
    await fill(page, "Send it back", "it was slow")
    await expect(page.get_by_text("The refund is on its way")).to_be_visible()

    async def came_back() -> bool:
        return await tokens(wallet) == had + 250_000

    await until(came_back)
    await stale.get_by_label("How many tokens").fill("0.10")
    await fill(stale, "Send it back", "it was slow")
    await expect(stale.get_by_text("It was refunded meanwhile")).to_be_visible()
    assert await tokens(wallet) == had + 250_000
    acts = await operator.open("/operator/acts")
    await expect(acts.get_by_text("it was slow")).to_have_count(1)
    report = await operator.open("/operator/reports")
    await report.get_by_role("button", name="Show", exact=True).click()
    await expect(report.get_by_text("The ledger is read whole")).to_be_visible()
    await expect(report.get_by_role("table")).to_contain_text("0.250000", timeout=60_000)


async def test_a_project_is_deleted_once_its_name_is_typed_and_kept_until_then(
    operator: Visitor, gateway: DevGateway, wallet: Wallet
) -> None:
    name = fresh_name()
    deployed = await wallet.deploy_paid(name)
    await wallet.settled(deployed)
    project = deployed.body["projectId"]
    exports = gateway.data_dir / "exports"
    exports.mkdir(mode=0o700, exist_ok=True)
    (exports / f".{project}").write_text("a file where the archive would be made")
    page = await operator.open(f"/operator/projects/{name}")
    order = page.get_by_role("button", name="Order its deletion")
    typed = page.get_by_label(f"Type “{name}”")
    why = page.get_by_role("textbox", name="Why").and_(page.locator("#evict-reason"))
    await expect(order).to_be_disabled()
    await why.fill("it was not paid for")
    await typed.fill(f"{name}-not")
    await expect(order).to_be_disabled()
    await typed.fill(name)
    await order.click()
    await expect(page.get_by_text("Its owner is told")).to_be_visible()
    await expect(page.get_by_role("heading", name="It is to be deleted")).to_be_visible()

    async def told() -> set[str]:
        events = (await wallet.call("GET", "/agent/events?limit=200")).body["events"]
        about = [each for each in events if each["data"].get("project_id") == project]
        return {each["type"] for each in about}

    assert "project.evicted" in await told()
    await fill(page, "Keep it after all", "they paid")
    await expect(page.get_by_text("It is not to be deleted any more")).to_be_visible()

    await page.get_by_label("Days until then").fill("0")
    await why.fill("they asked for it")
    await typed.fill(name)
    await order.click()
    await expect(page.get_by_text("Its owner is told")).to_be_visible()

    async def is_told_to_wait() -> bool:
        await page.reload()
        return await page.get_by_text("Nothing of it is deleted").is_visible()

    await until(is_told_to_wait, seconds=180, pause_seconds=0.5)
    await expect(page.get_by_text("It could not be exported")).to_be_visible()
    await page.get_by_text("Without an archive", exact=True).click()
    await why.fill("they need no archive")
    await typed.fill(name)
    await page.get_by_role("button", name="Delete it without an archive").click()
    await expect(page.get_by_text("Its owner is told")).to_be_visible()

    async def is_gone() -> bool:
        return "project.deleted" in await told()

    await until(is_gone, seconds=180, pause_seconds=0.2)


async def test_the_public_host_has_no_operators_pages(gateway: DevGateway) -> None:
    async with aiohttp.ClientSession() as session:
        for path in ("/operator", "/operator/sign-in", "/operator/payments"):
            async with session.get(gateway.url + path, allow_redirects=False) as answer:
                assert answer.status == 404


async def test_without_scripts_forms_work(
    new_visitor: NewVisitor, gateway: DevGateway, wallet: Wallet
) -> None:
    person = await let_in(await new_visitor(scripts=False), gateway)
    await wallet.settled(await wallet.deploy_paid(fresh_name()))
    page = await person.open(f"/operator/wallets/{wallet.address.lower()}")
    await page.get_by_label("How much").fill("2.50")
    await fill(page, "Give credits", "an outage")
    await expect(page.get_by_text(re.compile("The credits are given"))).to_be_visible()
