"""The wallet that tests put into pages signs with its own key, and what it sends is mined."""

import pytest
from browsing import NewVisitor
from eth_account import Account
from eth_account.messages import encode_defunct
from playwright.async_api import Page
from wallet_in_page import WalletInPage

from support.chains.paying import calldata, rpc
from support.clients.wallet import Wallet
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIND = """
async ([method, params]) => {
  const found = new Promise((resolve) => window.addEventListener(
    "eip6963:announceProvider", (event) => resolve(event.detail), { once: true }));
  window.dispatchEvent(new Event("eip6963:requestProvider"));
  try { return await (await found).provider.request({ method, params }); }
  catch (error) { return { code: error.code }; }
}
"""


async def ask(page: Page, method: str, *params: object) -> object:
    return await page.evaluate(FIND, [method, list(params)])


async def test_a_page_finds_a_wallet_that_signs(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = Wallet(dev_gateway)
    person = await new_visitor(wallet=WalletInPage(wallet))
    page = await person.open("/")
    assert await ask(page, "eth_requestAccounts") == [wallet.address]
    signature = await ask(page, "personal_sign", "0x" + b"hello".hex(), wallet.address)
    assert Account.recover_message(encode_defunct(text="hello"), signature=signature) == (
        wallet.address
    )


async def test_a_wallet_whose_user_refuses_says_so(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    person = await new_visitor(wallet=WalletInPage(Wallet(dev_gateway), refuses={"personal_sign"}))
    page = await person.open("/")
    assert await ask(page, "personal_sign", "0x00", "") == {"code": 4001}


async def test_what_a_page_has_sent_is_mined_on_the_chain_it_chose(
    new_visitor: NewVisitor, dev_gateway: DevGateway
) -> None:
    wallet = await Wallet(dev_gateway).fund(chain="base")
    person = await new_visitor(wallet=WalletInPage(wallet))
    page = await person.open("/")
    base = dev_gateway.info["chains"]["base"]
    wish = {"chainId": hex(base["chain_id"])}
    assert await ask(page, "wallet_switchEthereumChain", wish) is None
    data = calldata("transfer(address,uint256)", dev_gateway.info["pay_to"], 1_000_000)
    to = base["tokens"]["usdc"]
    sent = await ask(page, "eth_sendTransaction", {"from": wallet.address, "to": to, "data": data})
    receipt = await rpc(base["rpc_url"], "eth_getTransactionReceipt", sent)
    assert receipt["status"] == "0x1"
    assert await ask(page, "eth_getTransactionReceipt", sent) == receipt
