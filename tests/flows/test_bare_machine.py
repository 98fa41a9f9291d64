"""Whoever has a new Debian 13, and what the pages name, gets what the pages promise."""

import json
import re
import tomllib
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from bare_machine import BareMachine, RunningLine
from bookish import real_node

from support.chains.chain_fixture import LocalChains
from support.chains.paying import mine, rpc
from support.clients import book
from support.gateway.ports import quiet_port
from support.gateway.waiting import until, until_read

pytestmark = [pytest.mark.root, pytest.mark.long]

NOT_NAMED = ("node", "npm", "cc", "gcc", "pip", "python3.11", "python3.12", "haproxy", "bwrap")
SET_UP_SECONDS = 900  # only to end a hung test
CONFIG = "/etc/moorage/moorage.toml"


ANY_PORTS = 'ARGS="--port=0 --proxy-port=0 --operator-port=0"'


@pytest.fixture
async def machine(tmp_path: Path) -> BareMachine:
    machine = BareMachine(tmp_path / "root")
    assert not [program for program in NOT_NAMED if machine.has(program)]
    assert (await machine.run("python3 --version")).startswith("Python 3.13")
    return machine


async def status_of(url: str, host: str | None = None) -> int:
    """0 if nobody listens there."""
    headers = {"Host": host} if host else {}
    try:
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status
    except aiohttp.ClientConnectorError:
        return 0


async def until_healthy(line: RunningLine, url: str) -> None:
    """Asks for a gateway's health until it has it; fails once what was typed has ended."""

    async def status() -> int:
        assert line.seconds()
        return await status_of(f"{url}/health")

    await until_read(status, lambda found: found == 200)


async def test_first_command_of_the_readme_serves_an_app(
    machine: BareMachine, record_property: Callable[[str, object], None]
) -> None:
    await machine.run("git clone --quiet /srv/moorage.bundle /srv/moorage")
    told = machine.inside("/srv/moorage/.moorage/dev.json")
    with machine.running(f"cd /srv/moorage && exec make dev {ANY_PORTS}") as line:
        await until(lambda: line.seconds() > 0 and told.exists(), seconds=SET_UP_SECONDS)
        served = json.loads(told.read_text())
        await until_healthy(line, served["gateway"])
        record_property("seconds_to_health", line.seconds())
        deploy = ".venv/bin/moorage deploy examples/hello-node --name hello --yes"
        assert "hello is live" in await machine.run(f"cd /srv/moorage && {deploy}")
        assert await status_of(served["proxy"], "hello.localhost") == 200
    assert "Stopped." in line.printed()


async def test_page_of_the_first_day_leads_to_a_first_app(
    machine: BareMachine, local_chains: LocalChains
) -> None:
    for line in page_lines("Install"):
        await machine.run(line.replace("FOLDER", "/srv/moorage.bundle"))
    async with AsyncExitStack() as stack:
        await write_settings(stack, machine, local_chains)
        (check,) = page_lines("Configure")
        await fill_relayer(await machine.run(f"{check} || true"), local_chains)
        assert "MISSING" not in await machine.run(check)
        for line in page_lines("Start"):
            await machine.run(line.replace(" --now", ""))  # systemd does not run there
        unit = "/etc/systemd/system/multi-user.target.wants/moorage.service"
        (starts,) = re.findall(r"^ExecStart=(.+)$", await machine.run(f"cat {unit}"), re.MULTILINE)
        settings = tomllib.loads(machine.inside(CONFIG).read_text())
        gateway = settings["api"]["public_url"]
        with machine.running(f"exec {starts}") as serving:
            await until_healthy(serving, gateway)
            key = f"MOORAGE_PRIVATE_KEY={local_chains.wallets.wallets[0].private_key}"
            deploy = "moorage deploy /opt/moorage/examples/hello-node --name hello --yes"
            assert "hello is live" in await machine.run(f"{key} {deploy} --gateway {gateway}")
            proxy = settings["proxy"]["proxy_listen"]
            assert await status_of(f"http://{proxy}", "hello.localhost") == 200


def page_lines(section: str) -> list[str]:
    return [line.text for line in book.lines("first-day") if line.section == section]


async def write_settings(stack: AsyncExitStack, machine: BareMachine, chains: LocalChains) -> None:
    """The page's file, with the local chains, and without names and certificates of the world."""
    page = (book.DOCUMENTS / "first-day.md").read_text()
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    api, proxy, operator = (f"127.0.0.1:{quiet_port()}" for _ in range(3))
    others = {
        "https://gateway.example.com": f"http://{api}",
        "[api]": f'[api]\nlisten = "{api}"\noperator_listen = "{operator}"',
        "0.0.0.0:8080": proxy,
        "apps.example.com": "localhost",
        "tls = true": "tls = false",
    }
    for name, chain in (("arbitrum", chains.arbitrum), ("base", chains.base)):
        others[f"https://{name}.node.example"] = await real_node(stack, chain.rpc_urls[0])
        await mine(chain.rpc_urls[0])  # a node whose newest block is old has not caught up
    text = text.replace(', "https://arbitrum.other.example"', "")
    for word, other in others.items():
        assert word in text
        text = text.replace(word, other)
    machine.inside(CONFIG).write_text(text)


async def fill_relayer(checked: str, chains: LocalChains) -> None:
    """Sends the relayer the ether that the page names, where the check says."""
    (line,) = [line for line in checked.splitlines() if "relayer key" in line]
    (address,) = re.findall(r"0x[0-9a-fA-F]{40}", line)
    for chain in (chains.arbitrum, chains.base):
        await rpc(chain.rpc_urls[0], "anvil_setBalance", address, hex(2 * 10**15))
