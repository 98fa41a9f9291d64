"""Somebody who has only docs/use: each line of its shell blocks does what the page says."""

import asyncio
import os
import re
import shlex
from pathlib import Path

import pytest

from support.clients import book
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import MOORAGE, DevGateway

pytestmark = [pytest.mark.root, pytest.mark.long]

WRITTEN = "a line of the app"
APP = {
    "app.py": (
        f"import http.server, os\nprint('{WRITTEN}', flush=True)\n"
        "address = ('', int(os.environ['PORT']))\n"
        "http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()\n"
    ),
    "manage.py": "import sys\nprint(sys.argv[1:])\n",
    "requirements.txt": "",
    "healthz": "well",
}


class User:
    """A directory with an app, a wallet, and the names of the examples in this gateway's words."""

    def __init__(self, directory: Path, wallet: Wallet) -> None:
        self.directory, self.wallet, self.name = directory, wallet, fresh_name()
        self.untyped = book.lines(documents=book.USERS)
        self.names = {
            r"(?<![\w./])(shop|my-app)(?![\w/-])": self.name,
            r"my-copy": fresh_name(),
            r"moorage deploy": "moorage deploy --yes",
            r"https://gateway\.example\.com": wallet.gateway.url,
        }
        for path, text in APP.items():
            (directory / "shop").mkdir(exist_ok=True)
            (directory / "shop" / path).write_text(text)
        (directory / "token.txt").write_text("secret")
        (directory / "op").write_text("#!/bin/sh\necho secret\n")
        (directory / "op").chmod(0o755)

    def environment(self, wallet: Wallet) -> dict[str, str]:
        chain = wallet.gateway.info["chains"]["arbitrum"]
        return {
            "PATH": f"{self.directory}:{Path(MOORAGE).parent}:{os.environ['PATH']}",
            "HOME": str(self.directory),
            "MOORAGE_GATEWAY": wallet.gateway.url,
            "MOORAGE_PRIVATE_KEY": wallet.key,
            "MOORAGE_RPC_URL_ARBITRUM": chain["rpc_url"],
        }

    async def types(
        self,
        page: str,
        *,
        count: int | None = None,
        by: Wallet | None = None,
        before: str = "",
        names: dict[str, str] | None = None,
        code: int = 0,
    ) -> list[str]:
        """What the page's next lines, or all that are left, print; a price is agreed to."""
        here = [line for line in self.untyped if line.page == page][:count]
        assert here, page
        self.untyped = [line for line in self.untyped if line not in here]
        printed = []
        for line in here:
            text = line.text
            for name, value in (self.names | (names or {})).items():
                text = re.sub(name, value, text)
            ended, out = await self._run(before + text, by or self.wallet)
            assert ended == code, (line, out)
            printed.append(out)
        return printed

    async def _run(self, text: str, wallet: Wallet) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", text),
            cwd=self.directory,
            env=self.environment(wallet),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(b"secret"), timeout=120)
        return process.returncode or 0, out.decode()


@pytest.fixture
async def user(dev_gateway: DevGateway, tmp_path: Path) -> User:
    return User(tmp_path, await Wallet(dev_gateway).fund())


def shell(wallet: Wallet, paid: str = "") -> str:
    signed = " ".join(
        f"-H {shlex.quote(f'{name}: {value}')}" for name, value in wallet.signed().items()
    )
    return f"gateway={wallet.gateway.url} signed=({signed}) hash={paid}; "


async def test_each_line_of_the_users_pages_does_what_it_says(user: User) -> None:
    wallet = user.wallet
    (asked,) = await user.types("paying", count=1, before=shell(wallet))
    assert '"code":"payment_required"' in asked
    paid = shell(wallet, await wallet.pay(5_000_000))
    (credited,) = await user.types("paying", before=paid)
    assert '"credited_usd":5' in credited

    await user.types("usage")
    await user.types("configuration")
    await wallet.until_answers(user.name)
    assert "succeeded" in (await user.types("runs"))[1]
    assert WRITTEN in (await user.types("logs", count=1))[0]
    (followed,) = await user.types("logs", count=1, before="timeout 5 ", code=124)
    assert WRITTEN in followed
    await user.types("logs")

    domain = {r"shop\.example": f"{user.name}.example"}
    await user.types("domains", count=1, names=domain)
    await user.types("domains", count=1, names=domain, code=1)  # no record is found
    assert f"{user.name}.example" in (await user.types("domains", count=1, names=domain))[0]
    await user.types("domains", names=domain)
    await user.types("exports")
    assert (user.directory / f"{user.name}.tar.key").exists()
    await user.types("webhooks")

    await user.types("pages", count=3)
    (link,) = (await wallet.call("GET", "/agent/links")).body["links"]
    await user.types("pages", names={"LINK": link["id"]})

    agent = await Wallet(wallet.gateway).fund()
    await user.types("signing", count=1, names={"0x…": agent.address})
    await user.types("signing", count=1, names={"0x…": wallet.address}, by=agent)
    assert agent.address.lower() in (await user.types("signing", count=1))[0].lower()
    (delegation,) = (await wallet.call("GET", "/agent/delegates")).body["delegates"]
    await user.types("signing", names={"ID": delegation["id"]})
    assert user.untyped == []
