"""What a fault is played on: a chain, a proxy before its node, a gateway that can be stopped."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

import light_gateway

from moorage.chains.chain import KNOWN_CHAINS, Chain
from moorage.chains.local.devchain import DevChain, dev_wallets, find_anvil
from moorage.operate.audit.report import run_audit
from moorage.operate.audit.rows import Finding
from moorage.settings import load_settings
from support.chains.rpc_proxy import RpcProxy
from support.gateway.forked import FORKS
from support.gateway.gateway_fixture import REPOSITORY, DevGateway
from support.gateway.ports import quiet_port
from support.gateway.waiting import until

PATIENCE_SECONDS = 180.0  # only to end a hung test: the longest takes 7 s on a quiet machine
BETWEEN_LOOKS_SECONDS = 0.03
"""Pause between looks at what lasts once it has come, where a look costs more than a pause."""

CHAIN = "arbitrum"
MOUNT = ("mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "faults")
"""A disk of its own for the records, small enough to be filled."""

Act = Callable[[], Awaitable[object]]


class Prompt:
    """The line from the gateway. At each step it waits for what the test has planned there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: list[str] = []
        self.url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._plans: dict[str, Act | None] = {}  # None: die

    def at(self, step: str, act: Act | None) -> None:
        """Act once, the next time it comes to `step`; None has it die there."""
        self._plans[step] = act

    def forget(self) -> None:
        """Plan nothing any more."""
        self._plans.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one process until it ends."""
        while line := await reader.readline():
            said = json.loads(line)
            if "up" in said and not self.url.done():  # again when it takes over the apps
                self.url.set_result(said["up"])
            dies = "step" in said and await self._dies_at(said["step"])
            writer.write(b"k" if dies else b"g")
        writer.close()

    async def _dies_at(self, step: str) -> bool:
        self.steps.append(step)
        if step not in self._plans:
            return False
        act = self._plans.pop(step)
        if act is not None:
            await act()
        return act is None


class LightGateway(DevGateway):
    """A light gateway, which can be stopped at each step, as a process of its own."""

    prompt: Prompt

    def __init__(self, data_dir: Path, *, log: Path) -> None:
        super().__init__(data_dir)
        self._log = log
        self.port = quiet_port()  # its address outlives it: nobody is given it in between

    @property
    def url(self) -> str:
        """Where it answers itself, whatever it says."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged in all, half a character at the end perhaps; on a disk of its own."""
        return self._log.read_text(errors="replace")

    @property
    def runs(self) -> bool:
        """Whether its process has not ended."""
        return self._gateway.is_alive()

    def variables(self) -> dict[str, str]:
        """Its settings."""
        raise NotImplementedError

    async def listen(self, opened: AsyncExitStack, path: Path) -> None:
        """Opens the line from it."""
        self.prompt = Prompt(path)
        server = await asyncio.start_unix_server(self.prompt.serve, path)
        opened.callback(server.close)

    async def run(self) -> None:
        """Start the gateway and wait until it answers."""
        self.prompt.url = asyncio.get_running_loop().create_future()
        self._gateway = FORKS.Process(
            target=light_gateway.run,
            args=(self.variables(), self.prompt.path, self._log),
        )
        self._gateway.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.prompt.url.done():
                assert self._gateway.is_alive(), self.log
                await asyncio.sleep(0.01)
        self.info["gateway"] = self.prompt.url.result()

    def kill(self) -> None:
        """End it as a crash would."""
        self._gateway.kill()
        self._gateway.join()

    async def recover(self) -> None:
        """Be as new, whatever a test before this one left undone."""
        self.prompt.forget()
        if not self._gateway.is_alive():
            await self.run()

    async def until_dead(self) -> None:
        """Return when it has died at a step."""
        await asyncio.to_thread(self._gateway.join, PATIENCE_SECONDS)
        assert self._gateway.exitcode == -signal.SIGKILL, self.log

    async def end(self) -> None:
        """End it as an operator does, if it still runs."""
        self._gateway.terminate()
        await asyncio.to_thread(self._gateway.join, PATIENCE_SECONDS)
        assert self._gateway.exitcode == 0, self.log


class Stage(LightGateway):
    """A light gateway over a chain of its own, whose node it reaches through `rpc`."""

    rpc: RpcProxy

    def __init__(
        self, directory: Path, *, database_url: str = "", books_url: str = "", name: str = ""
    ) -> None:
        """With `database_url` its books are on a server; `books_url` leads there as well.

        With `name` others may run beside it.
        """
        super().__init__(directory / "data", log=directory / "gateway.log")
        self._name = name
        self._proxy_port = quiet_port()
        self._database_url = database_url
        self.books_url = books_url
        self._directory = directory
        self._wallets = dev_wallets(directory / "wallets.json")
        self._relayer_key = directory / "relayer.key"
        self._relayer_key.touch(mode=0o600)
        self._relayer_key.write_text(self._wallets.relayer.private_key)
        self.recipients = [self._wallets.pay_to.address]  # what `pay_to` was, today's last
        self._chain = DevChain(
            KNOWN_CHAINS[CHAIN],
            directory=directory / "chain",
            anvil=find_anvil([REPOSITORY / "node_modules"]),
            wallets=self._wallets,
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            chain = await self._chain.start()
            opened.push_async_callback(self._chain.stop)
            mining = asyncio.create_task(self._chain.keep_mining())
            opened.callback(mining.cancel)
            self.rpc = await opened.enter_async_context(RpcProxy(chain.rpc_urls[0]))
            await self.listen(opened, self._directory / "prompt.sock")
            self.data_dir.mkdir()
            subprocess.run([*MOUNT, self.data_dir], check=True)
            opened.callback(_unmount, self.data_dir)
            self.info = {"pay_to": self.recipients[-1], "chains": {CHAIN: _told(chain)}}
            opened.push_async_callback(self.end)
            await self.run()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    @property
    def refund_key(self) -> str:
        """The key that refunds are sent from: that of the first `pay_to`."""
        return self._wallets.pay_to.private_key

    @property
    def database(self) -> Path:
        """Its file."""
        return self.data_dir / "moorage.db"

    async def run_with(self, pay_to: str) -> None:
        """Start a gateway that asks for payments to another address."""
        self.recipients.append(pay_to)
        self.info["pay_to"] = pay_to
        await self.run()

    async def audit(self) -> list[Finding]:
        """What is wrong with the books, by `moorage operator audit`, once it says that it knows.

        It asks the node itself. After a reorganisation it does not know, until the gateway has
        looked again.
        """
        node = {CHAIN: {"rpc_urls": [self.info["chains"][CHAIN]["rpc_url"]]}}
        environment = self.variables() | {"MOORAGE_CHAINS": json.dumps(node)}
        settings = load_settings(file=None, environ=environment, rpc_timeout_seconds=30)
        findings: list[Finding] = []

        async def knows() -> bool:
            report = await run_audit(settings, from_block=0, search=True)
            findings[:] = report.findings
            return report.unknown == {} and report.pending == []

        await until(knows, pause_seconds=BETWEEN_LOOKS_SECONDS)
        return findings

    def variables(self) -> dict[str, str]:
        given = {
            "data_dir": str(self.data_dir),
            "database_url": self._database_url,
            "run_dir": str(self._directory / "run"),
            "pay_to": self.recipients[-1],
            "chains": json.dumps({CHAIN: {"rpc_urls": [self.rpc.url]}}),
            "relayer_key_file": str(self._relayer_key),
            "listen": f"127.0.0.1:{self.port}",
            "operator_listen": "127.0.0.1:0",
            "disk_reserve_mib": "0",
            "requests_per_minute": "1000000",
            "rpc_timeout_seconds": "1",
            "payment_wait_seconds": "1",
        }
        if self._name:
            given |= {
                "gateway_name": self._name,
                "public_url": self.url,
                "proxy_listen": f"127.0.0.1:{self._proxy_port}",
            }
        return {f"MOORAGE_{name.upper()}": value for name, value in given.items()}


class Second(LightGateway):
    """Another gateway beside that of a stage, which has a name."""

    def __init__(self, stage: Stage, directory: Path) -> None:
        super().__init__(stage.data_dir, log=directory / "second.log")
        self._stage = stage
        self.info = dict(stage.info)

    def variables(self) -> dict[str, str]:
        """As that of the stage, but for its own name and address."""
        own = {"MOORAGE_GATEWAY_NAME": "second", "MOORAGE_LISTEN": f"127.0.0.1:{self.port}"}
        return self._stage.variables() | own


def _unmount(directory: Path) -> None:
    subprocess.run(["umount", directory], check=True)


def _told(chain: Chain) -> dict[str, object]:
    """A chain as `dev.json` describes it."""
    return {
        "chain_id": chain.chain_id,
        "rpc_url": chain.rpc_urls[0],
        "tokens": {token.name: token.address for token in chain.tokens},
    }
