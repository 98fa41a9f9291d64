"""A wallet in a page's browser that really signs, with a test's key, and sends to local chains."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from playwright.async_api import BrowserContext, Page

from support.chains.paying import send_transaction
from support.clients.wallet import Wallet

SCRIPT = Path(__file__).with_suffix(".js").read_text()

REFUSED = {"code": 4001, "message": "The user refused."}
UNKNOWN_CHAIN = {"code": 4902, "message": "The wallet does not know this chain."}


@dataclass(eq=False)
class WalletInPage:
    """What stands behind the injected provider, as EIP-1193 describes it."""

    wallet: Wallet
    chain: str = "arbitrum"
    refuses: set[str] = field(default_factory=set)  # methods whose user says no
    asked: list[str] = field(default_factory=list)  # methods, in their order

    async def into(self, context: BrowserContext) -> None:
        """Puts it into every page of a context."""
        await context.expose_function("moorageTestWallet", self._answer)
        await context.add_init_script(SCRIPT)

    async def emit(self, page: Page, event: str, value: object) -> None:
        """Tells the page of another account or chain, which a wallet's user has chosen."""
        await page.evaluate(
            "([event, value]) => moorageTestWalletEmit(event, value)", [event, value]
        )

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        method, params = request["method"], request["params"]
        self.asked.append(method)
        if method in self.refuses:
            return {"error": REFUSED}
        match method:
            case "eth_requestAccounts" | "eth_accounts":
                return {"result": [self.wallet.address]}
            case "eth_chainId":
                return {"result": hex(self._chain["chain_id"])}
            case "wallet_switchEthereumChain":
                return self._switch(int(params[0]["chainId"], 16))
            case "wallet_addEthereumChain":
                return {"result": None}
            case "personal_sign":
                return {"result": self._personal_sign(params[0])}
            case "eth_signTypedData_v4":
                return {"result": self._sign_typed(params[1])}
            case "eth_sendTransaction":
                return await self._send(params[0])
        return await self._node(method, params)

    @property
    def _chain(self) -> dict[str, Any]:
        return dict(self.wallet.gateway.info["chains"][self.chain])

    def _switch(self, chain_id: int) -> dict[str, Any]:
        for name, chain in self.wallet.gateway.info["chains"].items():
            if chain["chain_id"] == chain_id:
                self.chain = name
                return {"result": None}
        return {"error": UNKNOWN_CHAIN}

    def _personal_sign(self, data: str) -> str:
        signable = (
            encode_defunct(hexstr=data) if data.startswith("0x") else encode_defunct(text=data)
        )
        return str(Account.sign_message(signable, self.wallet.key).signature.to_0x_hex())

    def _sign_typed(self, data: str | dict[str, Any]) -> str:
        message = json.loads(data) if isinstance(data, str) else data
        signable = encode_typed_data(full_message=message)
        return str(Account.sign_message(signable, self.wallet.key).signature.to_0x_hex())

    async def _send(self, wished: dict[str, str]) -> dict[str, Any]:
        """Fills in what a wallet does, signs, and sends; the node mines it at once."""
        sent = await send_transaction(
            self._chain["rpc_url"],
            self.wallet.key,
            to=wished["to"],
            data=wished.get("data", "0x"),
            value=int(wished.get("value", "0x0"), 16),
        )
        return {"result": sent}

    async def _node(self, method: str, params: list[Any]) -> dict[str, Any]:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._chain["rpc_url"], json=request) as response,
        ):
            answer = await response.json()
        return {"error": answer["error"]} if "error" in answer else {"result": answer["result"]}
