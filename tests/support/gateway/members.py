"""Two gateways on one database and one data directory, each a process of its own."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from moorage.failpoints import armed, crash_at
from moorage.gateway.running import GatewayAddresses, GatewayRun, stop_on_signals
from moorage.operate.audit.report import run_audit
from moorage.operate.audit.rows import Finding
from moorage.settings import Settings, load_settings
from moorage.storage.opening import Purpose
from moorage.whole_file import replace_file
from support.chains.chain_fixture import LocalChains
from support.gateway.gateway_fixture import PAID_ON, SMALL, START_SECONDS, DevGateway, start_program
from support.gateway.ports import quiet_port
from support.gateway.waiting import until


class Member(DevGateway):
    """One of the gateways; `info` is what it told of itself last."""

    script = __file__

    def __init__(self, name: str, settings: Mapping[str, str], info: Mapping[str, object]) -> None:
        super().__init__(Path(settings["MOORAGE_DATA_DIR"]))
        self.name = name
        self._about = dict(info)
        self._port = quiet_port()
        own = {"MOORAGE_GATEWAY_NAME": name, "MOORAGE_LISTEN": f"127.0.0.1:{self._port}"}
        self._settings = {**settings, **own}
        self._told = self.data_dir / f"{name}.json"
        self.stops_apps = False

    @property
    def url(self) -> str:
        """Where it answers itself; both say that they answer where the balancer would be."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """What it has logged in all."""
        return self._log_file.read_text(errors="replace")

    @property
    def _log_file(self) -> Path:
        return self.data_dir / f"{self.name}.log"

    @property
    def keeps(self) -> bool:
        """Whether it said that it keeps the apps."""
        return str(json.loads(self._told.read_text())["isolation"]).startswith("root")

    def start(self, **settings: str) -> None:
        """Run it, and wait until it answers."""
        self._told.unlink(missing_ok=True)
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process = start_program(
            [self.script, str(self._told), "stop apps"[: 9 * self.stops_apps]],
            is_python=True,
            env=self._settings | {f"MOORAGE_{k.upper()}": v for k, v in settings.items()},
            output=self._log_file,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._told.exists():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        self.info = self._about | json.loads(self._told.read_text())

    @property
    def operator(self) -> str:
        """Where its operator's port is now."""
        return str(json.loads(self._told.read_text())["operator"])

    @property
    def runs(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def starts(self) -> bool:
        """Whether it has not told yet where it answers."""
        return not self._told.exists()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    async def until_keeps(self) -> None:
        """Wait until it has taken over the apps."""
        await until(lambda: self.keeps, seconds=START_SECONDS)


class Pair:
    """Two gateways, of which the first keeps the apps at first, and the books of both."""

    member = Member

    def __init__(
        self,
        data_dir: Path,
        *,
        url: str,
        chains: LocalChains,
        settings: Mapping[str, str],
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` are those of both that differ from the usual, `variables` further ones."""
        key = data_dir.parent / "relayer.key"
        key.touch(mode=0o600)
        key.write_text(chains.wallets.relayer.private_key)
        of = {"arbitrum": chains.arbitrum, "base": chains.base}
        usual = {
            "data_dir": str(data_dir),
            "database_url": url,
            "chains": json.dumps({k: {"rpc_urls": chain.rpc_urls} for k, chain in of.items()}),
            "pay_to": "0x" + secrets.token_hex(20),
            "relayer_key_file": str(key),
            "webhook_allow_networks": "127.0.0.0/8",
            "requests_per_minute": "100000",
            "rpc_timeout_seconds": "30",
            "watch_seconds": "1",
            "toolchains": "false",
            "offer_first": PAID_ON,
            "public_url": f"http://127.0.0.1:{quiet_port()}",
            **dict.fromkeys(("proxy_listen", "operator_listen"), "127.0.0.1:0"),
            **{name: str(value) for name, value in SMALL.items()},
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MOORAGE_")}
        given = {f"MOORAGE_{k.upper()}": v for k, v in (usual | {**settings}).items()}
        environment = inherited | dict(variables or {}) | given
        self.books = load_settings(file=None, environ=environment)
        info = {
            "base_domain": self.books.base_domain,
            "pay_to": self.books.pay_to,
            "chains": {
                name: {
                    "chain_id": chain.chain_id,
                    "rpc_url": chain.rpc_urls[0],
                    "tokens": {token.name: token.address for token in chain.tokens},
                }
                for name, chain in of.items()
            },
        }
        self.members = self.first, self.second = tuple(
            self.member(each, environment, info) for each in ("one", "two")
        )

    async def audit(self) -> list[Finding]:
        """What is wrong with the books, once nothing is pending."""
        findings: list[Finding] = []

        async def knows() -> bool:
            report = await run_audit(self.books, from_block=0, search=False)
            findings[:] = report.findings
            return report.pending == []

        await until(knows, pause_seconds=0.2)
        return findings


@contextlib.contextmanager
def running_pair(
    data_dir: Path, *, url: str, chains: LocalChains, **settings: str
) -> Iterator[Pair]:
    """Both run; at the end none does, and no app."""
    pair = Pair(data_dir, url=url, chains=chains, settings=settings)
    try:
        pair.first.start()
        pair.second.start()
        yield pair
    finally:
        for member in (pair.second, pair.first):
            member.stop()
        pair.first.stops_apps = True
        pair.first.start()  # it takes over the apps, and keeps none at its end
        pair.first.stop()


async def serve(settings: Settings, told: Path, *, stop_apps: bool) -> None:
    """Run a gateway that tells where it answers."""

    def tell(addresses: GatewayAddresses) -> None:
        replace_file(told, msgspec.json.encode(vars(addresses)))

    with armed(crash_at(os.environ.get("MOORAGE_CRASH_AT", ""))):
        gateway = GatewayRun(
            settings=settings,
            chains={name: chain.chain(name) for name, chain in settings.chains.items()},
            pay_to=settings.pay_to,
            on_ready=tell,
            stop_apps=stop_apps,
            purpose=Purpose.DEV,
        )
        await gateway.until(stop_on_signals())


if __name__ == "__main__":
    asyncio.run(serve(load_settings(file=None), Path(sys.argv[1]), stop_apps=bool(sys.argv[2])))
