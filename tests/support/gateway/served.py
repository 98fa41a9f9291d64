"""`moorage serve` on local chains, over a configuration file that a test may change."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from moorage import logs
from moorage.gateway.running import GatewayAddresses, run_serve
from moorage.settings import load_settings, tables
from moorage.whole_file import replace_file
from support.chains.chain_fixture import LocalChains
from support.gateway.gateway_fixture import (
    MOORAGE,
    PAID_ON,
    SMALL,
    START_SECONDS,
    DevGateway,
    moorage,
    start_program,
)
from support.gateway.ports import quiet_port
from support.gateway.waiting import until

_TESTS = Path(__file__).parents[2]


class ServedGateway(DevGateway):
    """One gateway over a directory that has its configuration file and its data."""

    def __init__(self, directory: Path, chains: LocalChains, **settings: Any) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        super().__init__(directory / "data")
        self._settings = {}  # all are in the file
        self.config = directory / "moorage.toml"
        self.inside: tuple[str, ...] = ()  # what all of it is run by, such as `nsenter`
        self._told = directory / "serves.json"
        key = directory / "relayer.key"
        key.touch(mode=0o600)
        key.write_text(chains.wallets.relayer.private_key)
        self._of = {"arbitrum": chains.arbitrum, "base": chains.base}
        self.written: dict[str, Any] = {
            "data_dir": str(self.data_dir),
            "chains": {k: {"rpc_urls": list(chain.rpc_urls)} for k, chain in self._of.items()},
            "pay_to": "0x" + secrets.token_hex(20),
            "relayer_key_file": str(key),
            "requests_per_minute": 100_000,
            "rpc_timeout_seconds": 30,
            "watch_seconds": 1,
            "toolchains": False,
            "offer_first": PAID_ON,
            "base_domain": "localhost",
            "listen": f"127.0.0.1:{quiet_port()}",
            "proxy_listen": f"127.0.0.1:{quiet_port()}",
            "operator_listen": "127.0.0.1:0",
            **SMALL,
            **settings,
        }
        self.write()

    def write(self, **settings: Any) -> None:
        """Change the file; None takes a setting out."""
        self.written = {k: v for k, v in (self.written | settings).items() if v is not None}
        of = tables()
        by_table: dict[str, list[str]] = {"": []}
        for name, value in self.written.items():
            title = [f"[{of[name]}]"] if of[name] else []
            by_table.setdefault(of[name], title).append(f"{name} = {_toml(value)}")
        self.config.write_text("\n".join(line for lines in by_table.values() for line in lines))

    def start(self, **settings: str) -> None:
        """Run it with these variables, and wait until it serves."""
        self._told.unlink(missing_ok=True)
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        log = self.data_dir / "gateway.log"
        log.touch()  # `program` may read it
        words, is_python = self.process()
        self._process = start_program(
            words,
            is_python=is_python,
            env={**self.environment(**settings), "PYTHONPATH": str(_TESTS)},  # if it isn't forked
            output=log,
        )
        deadline = time.monotonic() + START_SECONDS
        while (addresses := self.addresses()) is None:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        self.info = {
            **addresses,
            "base_domain": self.written["base_domain"],
            "pay_to": self.written["pay_to"],
            "chains": {
                name: {
                    "chain_id": chain.chain_id,
                    "rpc_url": chain.rpc_urls[0],
                    "tokens": {token.name: token.address for token in chain.tokens},
                }
                for name, chain in self._of.items()
            },
        }

    def process(self) -> tuple[list[str], bool]:
        """The words of its process, and whether they are a script of Python's and its arguments."""
        words = self.program()
        return ([*self.inside, sys.executable, *words], False) if self.inside else (words, True)

    def program(self) -> list[str]:
        """The script that is run, and its arguments."""
        return [__file__, str(self.config), str(self._told)]

    def addresses(self) -> dict[str, Any] | None:
        """Where it serves, once the process that was started last does."""
        return json.loads(self._told.read_text()) if self._told.exists() else None

    def move(self, data_dir: Path) -> None:
        """Has its data elsewhere from its next start on; what is at the old place is lost."""
        self.data_dir.rename(data_dir.with_name(f"{data_dir.name} lost"))
        self.data_dir = data_dir
        self.write(data_dir=str(data_dir))

    def restart(self, **settings: Any) -> None:
        """Change the file, end it, and run it again; apps go on meanwhile."""
        self.stop()
        self.write(**settings)
        self.start()

    def refused(self) -> str:
        """Run it where it must not serve; what it said before it ended."""
        said = len(self.log) if (self.data_dir / "gateway.log").exists() else 0
        with contextlib.suppress(AssertionError):
            self.start()
        assert self._process is not None
        assert self._process.poll() not in (None, 0), "it serves"
        return self.log[said:]

    def end(self) -> None:
        """Have nothing of it run any more."""
        self.stop()
        if not (self.data_dir / "apps").exists():
            return  # it never served, or is retired
        end = ("operator", "stop", "--config", str(self.config), "--reason", "the test is over")
        self._run(*end, env=self.environment()).check_returncode()

    async def reload(self, **settings: Any) -> None:
        """Change the file, and have it read again."""
        before = self.log.count("settings read again")
        self.write(**settings)
        os.kill(self.pid, signal.SIGHUP)
        await until(lambda: self.log.count("settings read again") > before)

    async def command(self, *arguments: str, **settings: str) -> tuple[int, Any]:
        """An operator's command: its exit code and its document."""
        words = (*arguments, "--config", str(self.config), "--json")
        done = await asyncio.to_thread(self._run, *words, env=self.environment(**settings))
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def _run(self, *arguments: str, env: dict[str, str]) -> "subprocess.CompletedProcess[str]":
        if not self.inside:
            return moorage(*arguments, env=env)
        words = [*self.inside, MOORAGE, *arguments]
        return subprocess.run(words, capture_output=True, text=True, check=False, env=env)


@contextlib.contextmanager
def served(directory: Path, chains: LocalChains, **settings: Any) -> Iterator[ServedGateway]:
    """A gateway that serves; at the end nothing of it runs."""
    gateway = ServedGateway(directory, chains, **settings)
    with ended(gateway):
        gateway.start()
        yield gateway


@contextlib.contextmanager
def ended(gateway: ServedGateway) -> Iterator[None]:
    """At the end nothing of it runs, whatever became of it."""
    try:
        yield
    finally:
        gateway.end()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(each)}' for key, each in value.items())}}}"
    return json.dumps(value)


def main(config: Path, told: Path) -> None:
    """Run it as `moorage serve` does; its nodes are local, which that would refuse."""

    def tell(addresses: GatewayAddresses) -> None:
        replace_file(told, msgspec.json.encode(vars(addresses)))

    load = partial(load_settings, file=config)
    settings = load()
    logs.configure(level=settings.log_level)
    asyncio.run(run_serve(settings, load=load, on_ready=tell, audit=()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
