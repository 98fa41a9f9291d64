"""Stand-ins for the parts whose faults can't be provoked otherwise: a runtime, routes, a chain."""

import asyncio
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Unpack, cast

from moorage.address import Address
from moorage.archive.tree import Tree, read_tree, write_tree
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.chains.chain import Chain, Token
from moorage.chains.eip3009 import TransferAuthorization
from moorage.clock import Clock
from moorage.engines.engine import (
    AppExit,
    AppState,
    BuildSpec,
    Capabilities,
    Incident,
    IncidentKind,
    Instance,
    InstanceSpec,
    Keep,
    Limits,
    Lines,
    LogLine,
    LogPage,
    NewVolume,
    Resources,
    Usage,
    WrittenFiles,
)
from moorage.engines.failure import volume_lost
from moorage.errors import DeployFailed, FailureCause, PaymentAlreadyUsed
from moorage.hosting.entrance.capacity import Capacity, Policy
from moorage.ledger.ledger import Transfer
from moorage.money import AtomicUnits
from moorage.payments.protocols.evidence import AuthorizationEvidence, PaymentMeans
from moorage.payments.relay.settlements import Settlements
from moorage.payments.taking.payment_required import Challenges, Seller
from moorage.payments.taking.paywall import Paywall
from moorage.payments.taking.screening import Screen, allow
from moorage.payments.taking.verification import Lookup, Lookups, Verifier
from moorage.records.deployment import LogKind, LogStream
from moorage.records.size import PriceList, Sizes
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, ARBITRUM, USDC, fresh_hash, transfer

SECRET, REALM = b"a secret of this test run's own", "gateway.example"
APP_LIMITS = Limits(
    memory_bytes=512 << 20, cpu_millis=500, pids=256, disk_bytes=1 << 30, volume_bytes=1 << 30
)
PAY_TO = "0x7ea5000000000000000000000000000000000000"


def authorizes(amount: int = 5, *, payer: str = ALICE) -> AuthorizationEvidence:
    """An authorization of `amount` atomic units of USDC, which `FakeSettlements` takes."""
    return AuthorizationEvidence(
        PaymentMeans(ARBITRUM, USDC),
        TransferAuthorization(
            chain_id=ARBITRUM.chain_id,
            token_address=USDC.key,
            payer=payer,
            recipient=PAY_TO,
            value=AtomicUnits(amount),
            valid_after=0,
            valid_before=2**40,
            nonce=fresh_hash(),
            signature=b"\1" * 65,
        ),
    )


def app_address(deployment_id: str) -> Address:
    """Where `FakeRuntime` runs an app."""
    return Address(f"unix:/run/apps/{deployment_id}.sock")


def page_of(all_lines: Sequence[LogLine], lines: Lines) -> LogPage:
    """A page of lines whose cursors count them."""
    tail = lines.get("tail")
    before_tail = 0 if tail is None else len(all_lines) - tail
    begin, limit = max(lines.get("after", 0), before_tail), lines.get("limit", 10_000)
    found = [replace(line, cursor=n) for n, line in enumerate(all_lines, 1)][begin:][:limit]
    return LogPage(lines=tuple(found), next=begin + len(found))


def resources(
    *,
    free_bytes: int,
    growth: Mapping[str, int] = MappingProxyType({}),
    volume_growth: Mapping[str, int] = MappingProxyType({}),
    held: frozenset[str] = frozenset(),
) -> Resources:
    """What `FakeRuntime` measures of disks; its memory and networks it says itself."""
    return Resources(
        memory_bytes=0,
        free_bytes=free_bytes,
        growth=dict(growth),
        volume_growth=dict(volume_growth),
        held=held,
    )


_STOPS = {Keep.ALL: "stop", Keep.LOGS: "discard", Keep.NOTHING: "remove"}
"""What `FakeRuntime` notes of a stop."""


class FakeRuntime:
    """An `Engine` in memory that fails, blocks and loses apps as the test says.

    `faults` holds what the next call of a method raises, by the method's name; a callable there is
    called instead. `gates` holds events that a method's calls wait for.
    """

    capabilities = Capabilities(written_files=True)

    def __init__(self) -> None:
        self.built: dict[str, BuildSpec] = {}
        self.specs: dict[str, InstanceSpec] = {}  # what apps were started with last
        self.discarded: set[str] = set()  # nothing but their logs is left
        self.apps: dict[str, Instance] = {}
        self.calls: list[tuple[str, str]] = []
        self.faults: dict[str, list[Exception]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.kept_volumes: set[str] = set()
        self.data: dict[str, str] = {}  # what was put into volumes
        self.exits: dict[str, AppExit] = {}
        self.ends: dict[str, AppExit] = {}  # how a command line that is started ends, at once
        self.logs: dict[tuple[str, LogKind], str] = {}
        self.notes: dict[str, list[str]] = {}
        self.port: int | None = None
        self.networks: int | None = None
        self.open_connections: dict[str, int | None] = {}
        self.used: dict[str, Usage] = {}
        self.wrote: dict[str, WrittenFiles] = {}
        self.measured = resources(free_bytes=1 << 40)
        self.memory = 1 << 40
        self.on_call: Callable[[str, str], None] = lambda method, subject: None
        self.incidents: asyncio.Queue[Incident] = asyncio.Queue()

    def called(self, method: str) -> list[str]:
        """The deployments that a method was called for, in order."""
        return [subject for name, subject in self.calls if name == method]

    def die(
        self, deployment_id: str, *, exit_code: int = 1, ended_at_ms: int | None = None
    ) -> None:
        """An app ends by itself."""
        del self.apps[deployment_id]
        ended = AppExit(exit_code=exit_code, out_of_memory=False, ended_at_ms=ended_at_ms)
        self.exits[deployment_id] = ended
        self.incidents.put_nowait(Incident(deployment_id, IncidentKind.ENDED))

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

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        await self._enter("export_files", deployment_id)
        if deployment_id not in self.built:
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to move")
        target.mkdir()
        (target / "without").write_text(" ".join(sorted(without)))

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        await self._enter("copy", deployment_id)
        if origin_id not in self.built:
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to copy")
        self.built[deployment_id] = replace(self.built[origin_id], deployment_id=deployment_id)
        build_log = self.logs.get((origin_id, LogKind.BUILD), "")
        self.logs[(deployment_id, LogKind.BUILD)] = build_log

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        await self._enter("start", spec.deployment_id)
        if spec.deployment_id not in self.built:
            raise DeployFailed(FailureCause.INTERRUPTED, "there is no finished build to start")
        self.exits.pop(spec.deployment_id, None)
        self.specs[spec.deployment_id] = spec
        if spec.deployment_id in self.apps:  # as it was started
            return self.apps[spec.deployment_id]
        if spec.volume is not None:
            if not spec.makes_volume and spec.volume not in self.kept_volumes:
                lost = Incident(spec.deployment_id, IncidentKind.VOLUME_LOST)
                self.incidents.put_nowait(lost)
                raise volume_lost()
            self.kept_volumes.add(spec.volume)
        if spec.line in self.ends:
            self.exits[spec.deployment_id] = self.ends[spec.line]
            return self._instance(spec)
        self.apps[spec.deployment_id] = self._instance(spec)
        return self.apps[spec.deployment_id]

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        await self._enter(_STOPS[keep], deployment_id)
        if keep is Keep.LOGS and deployment_id in {*self.built, *self.apps}:
            self.discarded.add(deployment_id)
        if keep is Keep.NOTHING:
            self.discarded.discard(deployment_id)
        self.apps.pop(deployment_id, None)
        if keep is not Keep.ALL:
            self.built.pop(deployment_id, None)

    async def volumes(self) -> set[str]:
        await self._enter("volumes", "")
        return set(self.kept_volumes)

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        if written_by:
            await self._enter("read_written", written_by)
            return tree_of(f"written by {written_by}", target)
        await self._enter("read_volume", volume_id)
        return tree_of(self.data.get(volume_id, "kept"), target)

    async def write_volume(self, volume: NewVolume, tree: Tree) -> None:
        await self._enter("write_volume", volume.volume_id)
        self.kept_volumes.add(volume.volume_id)
        self.data[volume.volume_id] = text_of(tree)

    async def delete_volume(self, volume_id: str, *, unless_used: bool = False) -> None:
        if unless_used:
            await self._enter("clear_volume", volume_id)
            return
        await self._enter("delete_volume", volume_id)
        self.kept_volumes.discard(volume_id)
        self.data.pop(volume_id, None)

    async def running(self) -> dict[str, Instance]:
        found = dict(self.apps)
        await self._enter("running", "")
        return found

    async def inspect(self, deployment_id: str) -> AppState:
        await self._enter("inspect", deployment_id)
        if (instance := self.apps.get(deployment_id)) is not None:
            return AppState(instance=instance)
        return AppState(exit=self.exits.get(deployment_id))

    async def next_incident(self) -> Incident:
        return await self.incidents.get()

    async def connections(self, deployment_id: str) -> int | None:
        await self._enter("connections", deployment_id)
        return self.open_connections.get(deployment_id, 0) if deployment_id in self.apps else 0

    async def usage(self) -> dict[str, Usage]:
        return {app: self.used[app] for app in self.used if app in self.apps}

    async def known(self) -> set[str]:
        await self._enter("known", "")
        return {*self.built, *self.apps, *self.discarded}

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        await self._enter("written", deployment_id)
        return self.wrote.get(deployment_id)

    async def resources(self) -> Resources:
        await self._enter("resources", "")
        return replace(self.measured, memory_bytes=self.memory, networks=self.networks)

    def has_memory_for(self, apps: int) -> None:
        """Give apps so much that `roomy` takes so many: it promises all of it twice."""
        self.memory = apps * APP_LIMITS.memory_bytes // 2

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        """Cursors count lines; those of `logs` are the app's own, at no time in particular."""
        texts = self.logs.get((deployment_id, kind), "").splitlines()
        found = [LogLine(0, LogStream.OUT, text, 0) for text in texts]
        if kind is LogKind.RUNTIME:
            noted = self.notes.get(deployment_id, ())
            found += [LogLine(0, LogStream.GATEWAY, text, 0) for text in noted]
        return page_of(found, lines)

    async def note(self, deployment_id: str, text: str, *, log: LogKind = LogKind.RUNTIME) -> None:
        await asyncio.sleep(0)
        if log is LogKind.BUILD:
            self.logs[(deployment_id, log)] = self.logs.get((deployment_id, log), "") + f"{text}\n"
            return
        if deployment_id in {*self.built, *self.apps, *self.discarded}:
            self.notes.setdefault(deployment_id, []).append(text)

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
            address=app_address(spec.deployment_id) if spec.listens else None,
            port=(self.port or spec.plan.port) if spec.listens else None,
        )


def roomy(
    db: Database,
    *,
    runtime: FakeRuntime | None = None,
    reserve_bytes: int = 0,
    sizes: Sizes | None = None,
) -> Capacity:
    """A machine with a TiB free, of which so much is kept back; or what a fake runtime says."""
    return Capacity(
        db=db,
        runtime=runtime or FakeRuntime(),
        sizes=sizes or PriceList().sizes(),
        policy=Policy(reserve_bytes=reserve_bytes, disk_overcommit=2.0, memory_overcommit=2.0),
    )


class FakeRoutes:
    """Where hosts lead, and every change of it."""

    def __init__(self) -> None:
        self.table: dict[str, Address] = {}
        self.changes: list[tuple[str, Address | None]] = []
        self.under_way: dict[str, int] = {}  # requests by host

    async def point(self, host: str, target: Address) -> None:
        if self.table.get(host) != target:
            self.table[host] = target
            self.changes.append((host, target))

    async def remove(self, host: str) -> None:
        if self.table.pop(host, None) is not None:
            self.changes.append((host, None))

    def target(self, host: str) -> Address | None:
        return self.table.get(host)

    def routes(self) -> dict[str, Address]:
        return dict(self.table)

    async def requests(self, host: str) -> int:
        return self.under_way.get(host, 0)


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

    async def transfers(
        self, *, chain: Chain, token: Token, tx_hash: str, lookup: Lookup
    ) -> tuple[Transfer, ...]:
        await lookup.count()
        self.asked += 1
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        found = tuple(
            transfer
            for transfer in self.transfers_of.get(tx_hash, ())
            if transfer.chain_id == chain.chain_id
        )
        if not found:
            assert self.missing is not None
            raise self.missing
        return found


class FakeSettlements:
    """A relayer that settles what it is given into the next transaction of `chain`.

    `fault` is raised by the next `settle` instead; what was settled once stays settled.
    """

    def __init__(self, chain: FakeVerifier) -> None:
        self._chain = chain
        self._settled: dict[tuple[str, str], str] = {}
        self._bodies: dict[tuple[str, str], str | None] = {}
        self._purses: dict[tuple[str, str], str | None] = {}
        self.pending: set[str] = set()
        self.fault: Exception | None = None
        self.sent = 0

    def offered(self, chain: Chain, token: Token) -> bool:
        return token.authorization is not None

    def check(self, authorization: TransferAuthorization, *, chain: Chain, token: Token) -> None:
        """It takes what it is given."""

    async def known(self, authorization: TransferAuthorization) -> bool:
        return (authorization.payer, authorization.nonce) in self._settled

    async def settled_by(
        self, authorization: TransferAuthorization, *, open_body: str | None = None
    ) -> str | None:
        key = (authorization.payer, authorization.nonce)
        return self._settled.get(key) if open_body in (None, self._bodies.get(key)) else None

    async def purse_of(self, authorization: TransferAuthorization) -> str | None:
        return self._purses.get((authorization.payer, authorization.nonce))

    async def unresolved(self, wallet: str, *, source: object = None) -> bool:
        return wallet in self.pending

    async def settle(
        self,
        *,
        chain: Chain,
        token: Token,
        authorization: TransferAuthorization,
        unique_name: str | None,
        open_body: str | None = None,
        purse: str | None = None,
    ) -> str:
        key = (authorization.payer, authorization.nonce)
        if key not in self._settled:
            if self.fault is not None:
                raise self.fault
            self.sent += 1
            self._bodies[key] = open_body
            self._purses[key] = purse
            self._settled[key] = self._chain.pays(
                transfer(authorization.payer, authorization.value)
            )
        if open_body not in (None, self._bodies[key]):
            raise PaymentAlreadyUsed
        return self._settled[key]

    async def conclude(self, *_: object, **__: object) -> None:
        """What the product's does with its own rows."""


def challenges_of(
    clock: Clock, *chains: Chain, settles: bool = True, signs_in: bool = True
) -> Challenges:
    """The challenges of a gateway that takes payments on `chains`."""
    return Challenges(
        secret=SECRET,
        realm=REALM,
        seller=seller_of(*chains, settles=settles),
        clock=clock,
        signs_in=signs_in,
    )


def seller_of(*chains: Chain, settles: bool = True) -> Seller:
    """A gateway that takes payments on `chains`."""
    return Seller(
        pay_to=PAY_TO,
        chains=chains,
        settles=lambda _chain, token: settles and token.authorization is not None,
    )


def paywall_of(
    db: Database,
    verifier: object,
    clock: Clock,
    *chains: Chain,
    settlements: FakeSettlements | None = None,
    screen: Screen = allow,
    looks: int = 30,
) -> Paywall:
    """A paywall that believes `verifier`, and holds back what `screen` says.

    It asks `looks` times a minute about what strangers of one address show.
    """
    return Paywall(
        db=db,
        chains={chain.name: chain for chain in chains},
        verifier=cast("Verifier", verifier),
        settlements=cast("Settlements", settlements or FakeSettlements(FakeVerifier())),
        challenges=challenges_of(clock, *chains),
        screen=screen,
        lookups=Lookups(looks=MemoryRateLimiter(clock=clock, limit=looks), clock=clock),
        clock=clock,
    )


def tree_of(text: str, target: Path) -> Tree:
    """A volume's files: one, which has this text."""
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory, "data")
        data.mkdir()
        (data / "kept.txt").write_text(text)
        return write_tree(data, target, max_bytes=1 << 20)


def text_of(tree: Tree) -> str:
    """What `tree_of` was given."""
    with tempfile.TemporaryDirectory() as directory, tree.path.open("rb") as source:
        read_tree(source, Path(directory), digest=tree.digest, max_bytes=1 << 20)
        return Path(directory, "kept.txt").read_text()
