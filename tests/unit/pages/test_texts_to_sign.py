"""Texts that pages have signed are good for pages alone, and pages take no others."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from starlette.requests import Request

from moorage.auth.authenticator import Authenticator, SignIn
from moorage.auth.nonces import NonceFile
from moorage.auth.wallet import ContractWallets
from moorage.clock import iso_utc
from moorage.errors import SignatureInvalid
from moorage.pages.sessions.sign_in import Signing
from support.gateway.clock import MovableClock

KEY = "0x" + "11" * 32
ADDRESS = Account.from_key(KEY).address
URL = "https://gateway.example.com"
STATEMENT = "Sign in to look after your apps. This costs nothing and moves no money."


class Gateway:
    """One of several gateways: its API, and its pages, which share a secret with the others'."""

    def __init__(self, nonces: NonceFile, clock: MovableClock) -> None:
        self.clock = clock
        self._api = Authenticator(
            nonces,
            contracts=cast("ContractWallets", None),  # a key's signature asks no chain
        )
        self.pages = Signing(
            secret=b"of all gateways", authenticator=self._api, client=lambda _: "", clock=clock
        )

    async def takes_for_a_request(self, sign_in: dict[str, Any]) -> None:
        """Raises SignatureInvalid unless it stands for the four headers of a request."""
        await self._api.verify_sign_in(
            base64.b64encode(msgspec.json.encode(sign_in)).decode(),
            public_url=URL,
            now_ms=self.clock.now_ms(),
            client=lambda: "",
        )

    async def opens_pages(self, form: dict[str, str], statement: str = STATEMENT) -> None:
        """Raises SignatureInvalid unless pages take what a form carries."""
        await self.pages.check(cast("Request", None), form, statement, url=URL)


@pytest.fixture
async def gateways(tmp_path: Path, clock: MovableClock) -> AsyncIterator[tuple[Gateway, Gateway]]:
    one, two = (NonceFile(tmp_path / name, clock=clock, boot="boot") for name in ("one", "two"))
    yield Gateway(one, clock), Gateway(two, clock)
    await one.close()
    await two.close()


def signature_of(text: str) -> str:
    return "0x" + bytes(Account.sign_message(encode_defunct(text=text), KEY).signature).hex()


@pytest.mark.parametrize("statement", [STATEMENT, "Delete the project hello."])
async def test_text_of_pages_signs_in_there_and_stands_for_no_request_of_any_gateway(
    gateways: tuple[Gateway, Gateway], statement: str
) -> None:
    asked = {"address": ADDRESS, "chain": "8453"}
    text, nonce, issued_at = gateways[0].pages.challenge(asked, statement, url=URL)
    form = asked | {"nonce": nonce, "issued_at": issued_at, "signature": signature_of(text)}
    uri = next(line for line in text.splitlines() if line.startswith("URI: ")).removeprefix("URI: ")
    header = {
        "domain": "gateway.example.com",
        "address": ADDRESS,
        "statement": statement,
        "uri": uri,
        "version": "1",
        "chainId": "eip155:8453",
        "type": "eip191",
        "nonce": nonce,
        "issuedAt": iso_utc(int(issued_at)),
        "signature": form["signature"],
    }
    assert msgspec.convert(header, SignIn).text.decode() == text  # it is what was signed
    for gateway in gateways:
        await gateway.opens_pages(form, statement)
        with pytest.raises(SignatureInvalid, match="good there alone"):
            await gateway.takes_for_a_request(header)


async def test_sign_in_for_a_request_opens_no_pages(gateways: tuple[Gateway, Gateway]) -> None:
    """Even one that has the statement of pages, signed with a nonce of the wallet's own."""
    issued_ms = gateways[0].clock.now_ms()
    members = {
        "domain": "gateway.example.com",
        "address": ADDRESS,
        "statement": STATEMENT,
        "uri": f"{URL}/",
        "version": "1",
        "chainId": "eip155:8453",
        "type": "eip191",
        "nonce": "32891756a1b2c3d4" * 3,
        "issuedAt": iso_utc(issued_ms),
    }
    text = msgspec.convert(members | {"signature": "0x"}, SignIn).text.decode()
    await gateways[1].takes_for_a_request(members | {"signature": signature_of(text)})
    form = {
        "address": ADDRESS,
        "chain": "8453",
        "nonce": members["nonce"],
        "issued_at": str(issued_ms),
        "signature": signature_of(text),
    }
    for gateway in gateways:
        with pytest.raises(SignatureInvalid, match="not of this gateway"):
            await gateway.opens_pages(form)
