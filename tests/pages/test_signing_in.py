"""How people come in: by a wallet of their browser, or by a link; and who does not."""

import json
import re
from typing import Any

import aiohttp
import pytest
from browsing import NewVisitor, SignedIn, Visitor
from eth_account import Account
from eth_account.messages import encode_defunct
from playwright.async_api import Page, expect
from wallet_in_page import WalletInPage

from support.chains.contract_wallet import deployed_wallet
from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import DevGateway, moorage

pytestmark = pytest.mark.asyncio(loop_scope="session")

BUTTON = re.compile("Sign with Test Wallet")
SESSION = "moorage"  # the cookie on loopback, where there is no TLS
HOSTILE_WALLET = """
window.addEventListener("eip6963:requestProvider", () => window.dispatchEvent(new CustomEvent(
  "eip6963:announceProvider", { detail: {
    info: { uuid: "1", rdns: "evil", name: "<img src=x onerror='document.title=\\"taken\\"'>",
            icon: "javascript:document.title='taken'" },
    provider: { request: async () => { throw { code: 4900 }; } } } })));
"""
NEIGHBOUR = "http://127.0.0.1:9"
"""Another origin of the same site, as an app's is; the test answers in its place."""


async def cookies(person: Visitor) -> dict[str, dict[str, Any]]:
    return {str(each["name"]): dict(each) for each in await person.context.cookies()}


async def is_signed_in(person: Visitor) -> bool:
    page = await person.open("/wallet")
    found = page.url.endswith("/wallet")
    await page.close()
    return found


async def link_of(wallet: Wallet, **body: Any) -> dict[str, Any]:
    made = await wallet.call_bound("POST", "/agent/links", json=body)
    assert made.status == 200, made.body
    return made.body


def path_of(made: dict[str, Any], gateway: DevGateway) -> str:
    return str(made["url"]).removeprefix(gateway.url)


async def test_person_signs_in_with_the_wallet_of_their_browser_and_out_again(
    signed_in: SignedIn, dev_gateway: DevGateway
) -> None:
    wallet = Wallet(dev_gateway)
    person = await signed_in(wallet)
    cookie = (await cookies(person))[SESSION]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    page = await person.open("/wallet")
    await expect(page.locator("header")).to_contain_text(wallet.address[:8].lower())
    assert person.wallet is not None
    assert person.wallet.asked == ["eth_requestAccounts", "eth_chainId", "personal_sign"]
    await page.get_by_role("button", name="Sign out").click()
    await page.wait_for_url(re.compile("/sign-in$"))
    assert SESSION not in await cookies(person)
    value = str(cookie["value"])
    await person.context.add_cookies([{"name": SESSION, "value": value, "url": person.home}])
    assert not await is_signed_in(person)  # the session itself has ended


async def test_person_who_declines_is_told_so_and_not_signed_in(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    person = await new_visitor(wallet=WalletInPage(Wallet(dev_gateway), refuses={"personal_sign"}))
    page = await person.open("/sign-in")
    await page.get_by_role("button", name=BUTTON).click()
    await expect(page.get_by_role("status")).to_contain_text("You declined in the wallet")
    await expect(page.get_by_role("button", name=BUTTON)).to_be_enabled()
    assert SESSION not in await cookies(person)


async def test_person_whose_wallet_shows_another_account_is_signed_out(
    signed_in: SignedIn, dev_gateway: DevGateway
) -> None:
    wallet = WalletInPage(Wallet(dev_gateway))
    person = await signed_in(wallet.wallet)
    page = await person.open("/sign-in")  # a tab of its own has not signed in with the wallet
    await page.wait_for_url(re.compile("/wallet$"))
    await page.evaluate("sessionStorage.setItem('moorage-wallet', 'com.example.wallet')")
    await page.reload()
    await wallet.emit(page, "accountsChanged", ["0x" + "99" * 20])
    await page.wait_for_url(re.compile("/sign-in$"))
    assert not await is_signed_in(person)


async def test_wallets_name_and_picture_are_nothing_but_a_name_and_a_picture(
    new_visitor: NewVisitor,
) -> None:
    person = await new_visitor()
    await person.context.add_init_script(HOSTILE_WALLET)
    page = await person.open("/sign-in")
    button = page.get_by_role("button", name=re.compile("Sign with <img"))
    await expect(button).to_be_visible()
    await expect(button.locator("img")).to_have_count(0)
    await button.click()
    await expect(page.get_by_role("status")).to_contain_text("not connected to any chain")
    assert await page.title() == "Sign in · Moorage"


async def test_session_that_somebody_planted_is_not_the_one_that_is_signed_in(
    new_visitor: NewVisitor, signed_in: SignedIn, dev_gateway: DevGateway
) -> None:
    attacker = await signed_in(Wallet(dev_gateway))
    planted = (await cookies(attacker))[SESSION]["value"]
    person = await new_visitor(wallet=WalletInPage(Wallet(dev_gateway)))
    await person.context.add_cookies([{"name": SESSION, "value": "A" * 43, "url": person.home}])
    page = await person.open("/sign-in")
    await person.context.add_cookies([{"name": SESSION, "value": planted, "url": person.home}])
    await page.get_by_role("button", name=BUTTON).click()
    await page.wait_for_url(re.compile("/wallet$"))
    assert (await cookies(person))[SESSION]["value"] not in (planted, "A" * 43)


async def test_link_is_opened_by_a_button_once_and_a_preview_uses_up_nothing(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    path = path_of(await link_of(Wallet(dev_gateway), once=True), dev_gateway)
    async with (
        aiohttp.ClientSession() as preview,
        preview.get(dev_gateway.url + path) as seen,
    ):
        assert seen.status == 200
        assert seen.headers["Referrer-Policy"] == "no-referrer"
        assert seen.headers["Cache-Control"] == "no-store"
    person, late = await new_visitor(scripts=False), await new_visitor(scripts=False)
    page = await person.open(path)
    late_page = await late.open(path)
    await page.get_by_role("button", name="Open").click()
    await page.wait_for_url(re.compile("/wallet$"))
    await late_page.get_by_role("button", name="Open").click()
    await expect(late_page.get_by_role("heading", level=1)).to_contain_text(
        "opens nothing any more"
    )
    assert not await is_signed_in(late)
    assert path.rpartition("/")[2] not in dev_gateway.log


SIGN_OUT_ALL = """
async () => {
  const form = document.querySelector("form[action='/sign-out']");
  const body = new URLSearchParams(new FormData(form));
  body.set("all", "true");
  await fetch("/sign-out", { method: "POST", body });
}
"""


async def test_guest_signs_out_nobody_but_themselves(
    signed_in: SignedIn, new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = Wallet(dev_gateway)
    owner, guest = await signed_in(wallet), await new_visitor()
    page = await guest.open(path_of(await link_of(wallet), dev_gateway))
    await page.get_by_role("button", name="Open").click()
    await page.wait_for_url(re.compile("/wallet$"))
    await page.evaluate(SIGN_OUT_ALL)
    assert not await is_signed_in(guest)
    assert await is_signed_in(owner)


async def test_command_prints_the_address_of_the_pages(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    """As an agent runs it, for the person whose apps these are."""
    made = command(dev_gateway, "dashboard")
    person = await new_visitor(scripts=False)
    page = await person.open(path_of(made, dev_gateway))
    await page.get_by_role("button", name="Open").click()
    await page.wait_for_url(re.compile("/wallet$"))
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()


async def test_commands_make_list_and_remove_a_link(dev_gateway: DevGateway) -> None:
    made = command(dev_gateway, "links", "add", "--label", "Ann", "--days", "30")
    listed = command(dev_gateway, "links")["links"]
    assert [each["label"] for each in listed if each["id"] == made["id"]] == ["Ann"]
    assert command(dev_gateway, "links", "remove", made["id"])["status"] == "removed"
    assert made["id"] not in [each["id"] for each in command(dev_gateway, "links")["links"]]


def command(gateway: DevGateway, *arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    words = (*arguments, "--json", f"--data-dir={gateway.data_dir}")
    done = moorage(*words, env=gateway.environment())
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


async def test_owner_makes_and_revokes_a_link_on_a_page(
    signed_in: SignedIn, new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    owner = await signed_in(Wallet(dev_gateway))
    page = await owner.open("/wallet/links")
    await page.get_by_label("Who is it for?").fill("<b>Ann & Co</b>")
    await page.get_by_role("button", name="Make the link").click()
    url = await page.locator(".copyable code").inner_text()
    await page.get_by_role("link", name="Done").click()
    await expect(page.get_by_role("cell", name="<b>Ann & Co</b>", exact=True)).to_be_visible()
    guest = await new_visitor()
    opened = await guest.open(url.removeprefix(guest.home))
    await opened.get_by_role("button", name="Open").click()
    await opened.wait_for_url(re.compile("/wallet$"))
    await page.get_by_role("button", name="Revoke").click()
    await expect(page.get_by_text("opens nothing any more")).to_be_visible()
    await opened.reload()
    await opened.wait_for_url(re.compile("/sign-in$"))


async def test_link_that_lets_others_in_is_made_only_with_the_wallets_signature(
    signed_in: SignedIn, new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = Wallet(dev_gateway)
    owner = await signed_in(wallet)
    page = await owner.open("/wallet/links")
    await page.get_by_role("button", name="Make a link that opens once").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("wallet's signature")
    await page.get_by_role("button", name=BUTTON).click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("The link is there")
    url = await page.locator(".copyable code").inner_text()
    device = await new_visitor(wallet=WalletInPage(Wallet(dev_gateway)))  # with another wallet
    opened = await device.open(url.removeprefix(device.home))
    await opened.get_by_role("button", name="Open").click()
    await opened.wait_for_url(re.compile("/wallet$"))
    await opened.goto(f"{device.home}/wallet/links")
    await opened.get_by_role("button", name="Make a link that opens once").click()
    await opened.get_by_role("button", name=BUTTON).click()
    await expect(opened.get_by_role("status")).to_contain_text("The wallet shows the account")


FORGED = """
<form id="out" method="post" action="{home}/sign-out"><input name="all" value="true"></form>
<form id="link" method="post" action="{home}/wallet/links"><input name="days" value="90"></form>
<iframe src="{home}/wallet"></iframe>
"""


@pytest.mark.parametrize("form", ["out", "link"])
async def test_page_of_an_app_neither_changes_anything_nor_frames_a_page(
    signed_in: SignedIn, dev_gateway: DevGateway, form: str
) -> None:
    """An app's page is of the same site, so the browser sends the cookie along."""
    wallet = Wallet(dev_gateway)
    person = await signed_in(wallet)
    page = await neighbour(person)
    assert page.frames[1].url.startswith("chrome-error:")
    async with page.expect_navigation():
        await page.evaluate(f"document.getElementById('{form}').submit()")
    await expect(page.get_by_text("no page of this gateway sent it")).to_be_visible()
    assert await is_signed_in(person)
    assert (await wallet.call("GET", "/agent/links")).body["links"] == []


async def neighbour(person: Visitor) -> Page:
    page = await person.context.new_page()
    content = FORGED.format(home=person.home)
    await page.route(
        f"{NEIGHBOUR}/**", lambda route: route.fulfill(body=content, content_type="text/html")
    )
    await page.goto(f"{NEIGHBOUR}/")
    return page


class Hand:
    """Signs in without a browser, as its script does."""

    def __init__(self, gateway: DevGateway, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session
        self.headers = {"Origin": gateway.url}

    async def signed(self, address: str, key: str, chain_id: int) -> dict[str, str]:
        """The fields of the form, signed."""
        fields = {"address": address, "chain": str(chain_id)}
        told = await self._post("/sign-in/text", fields)
        text = (await told.json())["text"]
        signature = Account.sign_message(encode_defunct(text=text), key).signature.to_0x_hex()
        told_back = {each: (await told.json())[each] for each in ("nonce", "issued_at")}
        return {**fields, **told_back, "signature": signature}

    async def sign_in(self, fields: dict[str, str]) -> int:
        """The status; 303 leads to the wallet's pages."""
        return (await self._post("/sign-in", fields)).status

    async def _post(self, path: str, fields: dict[str, str]) -> aiohttp.ClientResponse:
        return await self.session.post(
            self.gateway.url + path, data=fields, headers=self.headers, allow_redirects=False
        )


async def test_contract_wallet_signs_in_by_its_code_on_the_chain(dev_gateway: DevGateway) -> None:
    owner = Account.create()
    chain = dev_gateway.info["chains"]["base"]
    address = await deployed_wallet(chain["rpc_url"], owner.address)
    async with aiohttp.ClientSession() as session:
        hand = Hand(dev_gateway, session)
        fields = await hand.signed(address, owner.key.hex(), chain["chain_id"])
        assert await hand.sign_in(fields) == 303
        elsewhere = dev_gateway.info["chains"]["arbitrum"]["chain_id"]
        fields = await hand.signed(address, owner.key.hex(), elsewhere)
        assert await hand.sign_in(fields) == 401


async def test_address_in_a_mail_leads_whoever_is_signed_in_to_the_page(
    signed_in: SignedIn, dev_gateway: DevGateway
) -> None:
    """The browser comes from another site, so it leaves the cookie out at first."""
    person = await signed_in(Wallet(dev_gateway))
    page = await person.context.new_page()
    await page.route(
        "http://mail.example/**",
        lambda route: route.fulfill(
            body=f'<a href="{person.home}/wallet/links">here</a>', content_type="text/html"
        ),
    )
    await page.goto("http://mail.example/")
    await page.get_by_role("link", name="here").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Links")


async def test_operators_pages_answer_at_their_own_port_and_to_a_link_of_the_machine(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{dev_gateway.url}/operator", allow_redirects=False) as public,
    ):
        assert public.status == 404
    url = command(dev_gateway, "operator", "link")["url"]
    operator = await new_visitor()
    operator.home = dev_gateway.info["operator"]
    page = await operator.open("/operator")
    await page.wait_for_url(re.compile("/operator/sign-in$"))
    await expect(page.get_by_text("moorage operator link")).to_be_visible()
    await expect(page.get_by_role("button", name=re.compile("Sign with"))).to_have_count(0)
    await page.goto(url)
    await page.get_by_role("button", name="Open").click()
    await page.wait_for_url(re.compile("/operator$"))
    assert set(await cookies(operator)) == {"moorage-operator"}
