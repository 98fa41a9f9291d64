"""Stand-ins for the parts whose faults can't be provoked otherwise: a runtime, routes, a chain."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from moorage.chains.chain import Chain, Token
from moorage.errors import DeployFailed, FailureCause
from moorage.payments.transfer import Transfer
from moorage.runtimes.runtime import AppExit, BuildSpec, Instance, InstanceSpec, LogKind


class FakeRuntime:
    """A `Runtime` in memory that fails, blocks and loses apps as the test says.

    `faults` holds what the next call of a method raises, by the method's name; a callable there is
    called instead. `gates` holds events that a method's calls wait for.
    """

    def __init__(self) -> None:
        self.built: dict[str, BuildSpec] = {}
        self.apps: dict[str, Instance] = {}
        self.calls: list[tuple[str, str]] = []
        self.faults: dict[str, list[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.exits: dict[str, AppExit] = {}
        self.logs: dict[tuple[str, LogKind], str] = {}
        self.port: int | None = None
        self.on_call: Callable[[str, str], None] = lambda method, subject: None

    def called(self, method: str) -> list[str]:
        """The deployments that a method was called for, in order."""
        return [subject for name, subject in self.calls if name == method]

    def die(self, deployment_id: str, *, exit_code: int = 1) -> None:
        """An app ends by itself."""
        del self.apps[deployment_id]
        self.exits[deployment_id] = AppExit(exit_code=exit_code, out_of_memory=False)

    async def open(self) -> str:
        return "fake"

    async def check(self) -> None:
        await self._enter("check", "")

    async def close(self, *, stop_apps: bool) -> None:
        if stop_apps:
            self.apps.clear()

    async def build(self, spec: BuildSpec) -> None:
        await self._enter("build", spec.deployment_id)
        assert spec.source.is_dir()
        self.built[spec.deployment_id] = spec

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        await self._enter("start", spec.deployment_id)
        if spec.deployment_id not in self.built:
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to start")
        self.exits.pop(spec.deployment_id, None)
        return self.apps.setdefault(spec.deployment_id, self._instance(spec))

    async def stop(self, deployment_id: str) -> None:
        await self._enter("stop", deployment_id)
        self.apps.pop(deployment_id, None)

    async def remove(self, deployment_id: str) -> None:
        await self._enter("remove", deployment_id)
        self.apps.pop(deployment_id, None)
        self.built.pop(deployment_id, None)

    async def running(self) -> dict[str, Instance]:
        found = dict(self.apps)
        await self._enter("running", "")
        return found

    async def known(self) -> set[str]:
        await self._enter("known", "")
        return {*self.built, *self.apps}

    async def exit_reason(self, deployment_id: str) -> AppExit | None:
        return self.exits.get(deployment_id)

    def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        return self.logs.get((deployment_id, kind), "")

    async def _enter(self, method: str, subject: str) -> None:
        self.calls.append((method, subject))
        self.on_call(method, subject)
        await asyncio.sleep(0)
        if method in self.gates:
            await self.gates[method].wait()
        if self.faults.get(method):
            raise self.faults[method].pop(0)

    def _instance(self, spec: InstanceSpec) -> Instance:
        return Instance(
            deployment_id=spec.deployment_id,
            socket=Path("/run/apps") / f"{spec.deployment_id}.sock",
            port=self.port or spec.plan.port,
        )


class FakeRoutes:
    """Where hosts lead, and every change of it."""

    def __init__(self) -> None:
        self.table: dict[str, Path] = {}
        self.changes: list[tuple[str, Path | None]] = []

    def point(self, host: str, socket: Path) -> None:
        if self.table.get(host) != socket:
            self.table[host] = socket
            self.changes.append((host, socket))

    def remove(self, host: str) -> None:
        if self.table.pop(host, None) is not None:
            self.changes.append((host, None))

    def socket(self, host: str) -> Path | None:
        return self.table.get(host)


class FakeVerifier:
    """A chain on which transactions hold what the test put there.

    A hash that is not in `transfers` raises `missing`; `gate` is waited for by every call.
    """

    def __init__(self) -> None:
        self.transfers_of: dict[str, tuple[Transfer, ...]] = {}
        self.missing: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.asked = 0

    def pays(self, *transfers: Transfer) -> str:
        """Have a transaction hold these transfers; its hash."""
        (tx_hash,) = {transfer.tx_hash for transfer in transfers}
        self.transfers_of[tx_hash] = transfers
        return tx_hash

    async def transfers(self, *, chain: Chain, token: Token, tx_hash: str) -> tuple[Transfer, ...]:
        self.asked += 1
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        found = tuple(
            transfer
            for transfer in self.transfers_of.get(tx_hash, ())
            if (transfer.chain_id, transfer.token_address) == (chain.chain_id, token.key)
        )
        if not found:
            assert self.missing is not None
            raise self.missing
        return found
