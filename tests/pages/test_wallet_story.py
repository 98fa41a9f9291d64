"""What a person does with a wallet's pages, in a real browser, while its agent deploys and pays."""

import re

import pytest
from browsing import NewVisitor, Visitor
from playwright.async_api import Page, expect
from wallet_in_page import WalletInPage

from support.clients.wallet import HELLO, Answer, Wallet
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SLOW_MS = 120_000  # only to end a hung test
TALKER = HELLO | {
    "package.json": '{"name": "talker", "version": "1.0.0", "scripts": '
    '{"build": "echo building the talker", "start": "node index.js"}}',
    "index.js": "for (let n = 0; n < 25000; n++) console.log(n);"
    "console.log('\\u001b[31mred\\u001b[0m'); console.log('the talker is up');" + HELLO["index.js"],
}


async def opened(new_visitor: NewVisitor, wallet: Wallet, **looks: object) -> Visitor:
    """Somebody who opened a one-time link that the wallet's agent made."""
    made = await wallet.call_bound("POST", "/agent/links", json={"once": True})
    assert made.status == 200, made.body
    person = await new_visitor(wallet=WalletInPage(wallet), **looks)
    page = await person.open(made.body["url"].removeprefix(person.home))
    await page.get_by_role("button", name="Open").click()
    await page.wait_for_url(re.compile(r"/wallet$"))
    await page.close()
    return person


def project_path(deployed: Answer, rest: str = "") -> str:
    return f"/wallet/projects/{deployed.body['projectId']}{rest}"


async def is_answered(wallet: Wallet, name: str, status: int) -> bool:
    return (await wallet.visit(name))[0] == status


async def copied_by_key(page: Page) -> None:
    """Copies the address without a mouse: the button says so, and keeps the focus."""
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("button[data-copy]").first
    wanted = await button.get_attribute("data-copy")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_text("Copied")
    await expect(button).to_be_focused()
    assert await page.evaluate("navigator.clipboard.readText()") == wanted


async def follow_live(person: Visitor, deployed: Answer) -> Page:
    """Opens the page of a deployment, and waits without touching it until it is ready."""
    page = await person.open(
        project_path(deployed, f"/deployments/{deployed.body['deploymentId']}")
    )
    await expect(page.get_by_text("It serves", exact=True)).to_be_visible(timeout=SLOW_MS)
    return page


async def test_person_watches_deploys_reads_logs_pauses_and_goes_back(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    person = await opened(new_visitor, wallet)
    overview = await person.open("/wallet")
    await expect(overview.get_by_role("heading", name="Nothing is deployed yet")).to_be_visible()
    first = await wallet.deploy_paid(name := f"story-{wallet.address[2:10].lower()}", TALKER)
    page = await follow_live(person, first)
    await expect(page.locator(".log")).to_contain_text("building the talker")
    second = await wallet.deploy(name, TALKER | {"more.txt": "more"})
    page = await follow_live(person, second)

    logs = await person.open(project_path(first, "/logs"))
    log = logs.locator(".log")
    await expect(log).to_contain_text("the talker is up", timeout=SLOW_MS)
    await expect(log).to_contain_text("red")
    assert "\x1b" not in (await log.text_content() or "")
    await logs.get_by_label("Search all lines").fill("TALKER is")
    await logs.get_by_role("button", name="Show", exact=True).click()
    await expect(logs.get_by_text("of 50,004 hold “TALKER is”")).to_be_visible(timeout=SLOW_MS)

    project = await person.open(project_path(first))
    await copied_by_key(project)
    await project.get_by_role("button", name="Pause", exact=True).click()
    await expect(project.get_by_text("Paused: the app stops within seconds")).to_be_visible()
    await until(lambda: is_answered(wallet, name, 503))
    assert (await wallet.deploy(name, TALKER | {"third.txt": "x"})).body["code"] == "project_paused"
    await project.get_by_role("button", name="Resume", exact=True).click()
    await expect(project.get_by_text("Resumed: the app starts within seconds")).to_be_visible()
    await until(lambda: is_answered(wallet, name, 200))
    await project.get_by_role("button", name="Go back to the version before").click()
    await expect(project.get_by_text("It serves", exact=True)).to_be_visible(timeout=SLOW_MS)
    await expect(project.get_by_text("An earlier version, to be served again")).to_be_visible()


async def test_person_tops_up_by_a_transfer_of_the_wallet_in_the_browser(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    person = await opened(new_visitor, wallet)
    page = await person.open("/wallet/top-up")
    await page.get_by_label("US dollars").fill("2.5")
    await page.get_by_role("button", name="Show how to pay").click()
    await page.get_by_role("button", name="Send the payment with Test Wallet").click()
    await page.wait_for_url(re.compile(r"/wallet/payments/0x"))
    await expect(page.get_by_text("The payment is part of your credits")).to_be_visible()
    told = await wallet.call("GET", "/agent/credits")
    assert told.body["balance_micro_usd"] == 2_500_000
    assert person.wallet is not None
    assert person.wallet.asked.count("eth_sendTransaction") == 1


async def test_person_tops_up_without_gas_by_a_signature(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund(chain="base")
    person = await opened(new_visitor, wallet)
    page = await person.open("/wallet/top-up/pay?amount=1&means=base/usdc")
    await page.get_by_role("button", name="without gas").click()
    await page.wait_for_url(re.compile(r"/wallet/payments/0x"))
    told = await wallet.call("GET", "/agent/credits")
    assert told.body["balance_micro_usd"] == 1_000_000


async def test_signature_of_a_wallet_that_holds_too_little_pays_nothing_and_says_so(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund()  # on another chain
    person = await opened(new_visitor, wallet)
    page = await person.open("/wallet/top-up/pay?amount=1&means=base/usdc")
    await page.get_by_role("button", name="without gas").click()
    await expect(page.get_by_text("Nothing was paid", exact=True)).to_be_visible(timeout=SLOW_MS)


async def test_page_waits_for_a_payment_from_a_phone(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    person = await opened(new_visitor, wallet)
    page = await person.open("/wallet/top-up/pay?amount=3&means=arbitrum/usdt")
    await expect(page.get_by_text("Waiting for your payment")).to_be_visible()
    await wallet.pay(3_000_000, token="usdt")
    await expect(page.get_by_text("$3.00 credited")).to_be_visible(timeout=SLOW_MS)


async def test_wallet_that_says_no_has_paid_nothing(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund()
    person = await opened(new_visitor, wallet)
    assert person.wallet is not None
    person.wallet.refuses.add("eth_sendTransaction")
    page = await person.open("/wallet/top-up/pay?amount=3&means=arbitrum/usdc")
    await page.get_by_role("button", name="Send the payment with Test Wallet").click()
    await expect(
        page.get_by_text("You refused it in your wallet. Nothing was paid.")
    ).to_be_visible()
    await expect(page.get_by_role("button", name="Send the payment")).to_be_enabled()
