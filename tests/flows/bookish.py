"""A machine on which an operator types what the book says, and a gateway that serves there."""

import asyncio
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from support.chains.rpc_proxy import RpcProxy
from support.clients import book
from support.gateway.gateway_fixture import MOORAGE, REPOSITORY
from support.gateway.served import ServedGateway

PASSWORD = "a password"


async def real_node(stack: AsyncExitStack, url: str) -> str:
    """The URL of a local chain's node, that names itself as a real one does."""
    proxy = await stack.enter_async_context(RpcProxy(url))
    proxy.alter = lambda method, result: "nitro/v3" if method == "web3_clientVersion" else result
    return proxy.url


class InstalledGateway(ServedGateway):
    """What the unit of systemd runs: `moorage serve`, on nodes that it takes for real ones."""

    _before = 0  # the starts that its log told of earlier

    def program(self) -> list[str]:
        """As the unit says."""
        self._before = len(self._serving())
        return [MOORAGE, "serve", "--config", str(self.config)]

    def addresses(self) -> dict[str, Any] | None:
        """As its log says."""
        started = self._serving()[self._before :]
        proxy = {"proxy": f"http://{self.written['proxy_listen']}"}
        return {**started[-1], "gateway": started[-1]["url"], **proxy} if started else None

    def _serving(self) -> list[dict[str, Any]]:
        lines = [line for line in self.log.splitlines() if '"event":"serving"' in line]
        return [json.loads(line) for line in lines if line.endswith("}")]


class Operator:
    """Types the book's lines, with what this machine has in the places of what they name."""

    def __init__(self, gateway: InstalledGateway, directory: Path) -> None:
        self.gateway = gateway
        self.untyped = book.lines()
        self.places = {
            "/opt/moorage": directory / "moorage",
            "/etc/moorage": gateway.config.parent,
            "/usr/local/bin": directory / "bin",
            "/var/backups": directory / "backups",
            "/var/lib/moorage": gateway.data_dir,
        }
        for name in ("bin", "backups"):
            (directory / name).mkdir()
        (directory / "moorage").symlink_to(REPOSITORY)  # whose path may have a space
        path = f"{directory / 'bin'}:{os.environ['PATH']}"
        self.environment = gateway.environment() | {"PATH": path}
        self._directory = directory
        self.root = directory / "root"  # of the units, as systemd does not run here
        self._services: dict[str, Callable[[], Any]] = {
            "enable --now moorage.service moorage-backup.timer": gateway.start,
            "start moorage": gateway.start,
            "restart moorage": gateway.restart,
            "reload moorage": lambda: os.kill(gateway.pid, signal.SIGHUP),
            "stop moorage": gateway.stop,
            "disable --now moorage": gateway.stop,
        }

    def leaves_out(self, texts: Collection[str]) -> None:
        """Types none of these lines; each must be in the book."""
        assert set(texts) <= {line.text for line in self.untyped}
        self.untyped = [line for line in self.untyped if line.text not in texts]

    async def types(
        self,
        page: str,
        section: str,
        *,
        next_lines: int | None = None,
        exits: int = 0,
        given: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Carries out a section's lines in order, or the next so many; what each printed.

        `given` has what is typed in the place of an example, by the example.
        """
        here = [line for line in self.untyped if (line.page, line.section) == (page, section)]
        here = here[:next_lines]
        assert here, (page, section)
        self.untyped = [line for line in self.untyped if line not in here]
        directory, printed = self._directory, []
        for line in here:
            text = self.filled(line.text, given)
            if text.startswith("moorage operator install "):
                text += f" --config {self.gateway.config} --root {self.root}"
            program, _, rest = text.partition(" ")
            if program == "cd":
                directory = Path(rest)
            elif program == "systemctl":
                for command in rest.split(" && systemctl "):
                    await self._systemctl(command)
            else:
                printed.append(await self.run(text, directory, exits=exits))
        return printed

    async def _systemctl(self, command: str) -> None:
        """Starts or ends the gateway; which units start at boot is changed below the root."""
        if command.startswith(("enable ", "disable ")):
            units = command.replace(" --now", "")
            await self.run(f"systemctl --root={self.root} {units}")
        if "@" not in command:
            await asyncio.to_thread(self._services[command])

    def starts_at_boot(self) -> dict[str, tuple[list[str], dict[str, str]]]:
        """The words and variables of each gateway that systemd starts at boot, by its unit."""
        found = {}
        for unit in (self.root / "etc/systemd/system/multi-user.target.wants").iterdir():
            text = Path(f"{self.root}{unit.readlink()}").read_text()
            text = text.replace("%i", unit.stem.partition("@")[2])
            variables = re.findall(r"^Environment=(.+)$", text, re.MULTILINE)
            for file in re.findall(r"^EnvironmentFile=(.+)$", text, re.MULTILINE):
                variables += Path(f"{self.root}{file}").read_text().splitlines()
            (words,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
            found[unit.name] = words.split(), dict(each.split("=", 1) for each in variables)
        return found

    def filled(self, text: str, given: Mapping[str, str] | None = None) -> str:
        """The text with what is here; what is filled in is not looked at again."""
        known = {name: str(path) for name, path in self.places.items()} | dict(given or {})
        names = sorted(known, key=len, reverse=True)
        return re.sub("|".join(map(re.escape, names)), lambda found: known[found[0]], text)

    async def run(self, text: str, directory: Path | None = None, *, exits: int = 0) -> str:
        """What a line of shell prints, whose exit code must be as said."""
        done = await asyncio.to_thread(
            subprocess.run,
            ["sh", "-c", text],
            cwd=directory or self._directory,
            env=self.environment,
            input=f"{PASSWORD}\n{PASSWORD}\n",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # without a terminal, passwords are read from the input
        )
        assert done.returncode == exits, (text, done.stdout, done.stderr)
        return done.stdout + done.stderr
