"""How a gateway is, at a glance: books, chains, relayer, machine, queue, upkeep."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.clock import Clock
from moorage.errors import MoorageError
from moorage.gateway.alert_channels import alert_document
from moorage.gateway.assembly import Rooms
from moorage.gateway.operator_port import checks_of, states_of
from moorage.gateway.vital_signs import Samples
from moorage.hosting.entrance.capacity import Room
from moorage.ledger.ledger import received_account
from moorage.ledger.metering import BilledTime
from moorage.money import decimal_text
from moorage.operate.books import OpenBooks
from moorage.pages.operator.audits import Audits, Reports
from moorage.payments.relay.relayer import Relayer
from moorage.settings import Settings
from moorage.storage.apps import jobs
from moorage.storage.money import accounts, relays, settlements
from moorage.storage.operation import alerts, audit_log, payment_list, wallet_rules
from moorage.storage.operation.audit_log import Upkeep, UpkeepDone
from moorage.storage.several import cluster

_FRESH_SECONDS = 10.0
_CHECK_SECONDS = 3.0
_LATELY_MS = 86_400_000


class TokenBooks(msgspec.Struct, frozen=True):
    """What payments in one token brought, and what the ledger says of it, in micro-USD."""

    token: str
    brought: int
    booked: int

    @property
    def difference(self) -> int:
        """What is booked beyond what was brought; 0 when both agree."""
        return self.booked - self.brought


class NodeHealth(msgspec.Struct, frozen=True):
    """A node, by its host alone: the rest of its URL is often a key."""

    host: str
    answers: bool


class RelayerHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The key that settles authorizations on one chain."""

    address: str
    balance_wei: int
    is_solvent: bool
    settlements_left: int | None  # at what the last one could cost; None: there was none yet


class ChainHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One chain."""

    name: str
    chain_id: int
    is_closed: bool
    nodes: list[NodeHealth]
    unsearched_blocks: int
    unresolved: int  # authorizations whose outcome is not known yet
    relayer: RelayerHealth | None
    books: list[TokenBooks]


class MachineHealth(Room, frozen=True, kw_only=True):
    """What of this machine is sold, and what is used."""

    memory_used_bytes: int
    cpu_millis: int  # what the machine has
    load: float  # of the last minute, in cores


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All of it, at one time."""

    at_ms: int
    parts: Mapping[str, str]  # "ok", or what is wrong with it
    chains: list[ChainHealth]
    machine: MachineHealth | None  # None where it can't be asked right now
    waiting: int  # deployments
    oldest_seconds: float
    held: int  # payments
    open_refunds: int
    audit: UpkeepDone | None
    backup: UpkeepDone | None
    offsite: list[UpkeepDone]  # the last backup sent, and the last drill, where any are to be
    certificates: int
    certificate_end_ms: int | None
    gateways: list[str]  # names of those that run on this database, if several do
    notices: Mapping[str, str]
    alerts: list[dict[str, Any]]  # that fire, and that ended within a day

    @property
    def troubles(self) -> list[str]:
        """What is wrong, as sentences, the worst first."""
        found = [
            f"The ledger and the payments in {books.token} on {chain.name} differ."
            for chain in self.chains
            for books in chain.books
            if books.difference
        ]
        if self.audit is not None and self.audit.wrong:
            found.append(f"The last audit found {self.audit.wrong} wrong rows.")
        found += [f"{part}: {state}" for part, state in self.parts.items() if state != "ok"]
        for chain in self.chains:
            silent = [node.host for node in chain.nodes if not node.answers]
            if silent:
                found.append(f"Nodes of {chain.name} do not answer: {', '.join(silent)}.")
            if chain.relayer is not None and not chain.relayer.is_solvent:
                found.append(f"The relayer on {chain.name} is short of gas money.")
        return found


class HealthReader:
    """Reads the health when a page asks, at most every ten seconds."""

    def __init__(self, read: Callable[[], Awaitable[Health]]) -> None:
        self._read = read
        self._lock = asyncio.Lock()
        self._last: Health | None = None
        self._read_at = 0.0

    async def __call__(self) -> Health:
        """Returns how the gateway is. Raises DatabaseUnavailable."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._read_at > _FRESH_SECONDS:
                self._last = await self._read()
                self._read_at = time.monotonic()
            return self._last


async def read_health(rooms: Rooms, *, sends_offsite: bool) -> Health:
    """Asks every part of a running gateway. Raises DatabaseUnavailable."""
    db, now_ms, sample = rooms.core.db, rooms.core.clock.now_ms(), Samples()
    states, machine = await asyncio.gather(_states(rooms), _machine(rooms, sample))
    brought = await payment_list.brought(db)
    waiting, since_ms = await jobs.waiting(db, now_ms=now_ms)
    done = await audit_log.last_upkeep(db)
    ends = sample("moorage_certificate_end_timestamp_seconds")
    return Health(
        at_ms=now_ms,
        parts=states,
        chains=[
            await _chain(rooms, chain, brought, sample) for chain in rooms.payee.chains.values()
        ],
        machine=machine,
        waiting=waiting,
        oldest_seconds=0 if since_ms is None else max(0, now_ms - since_ms) / 1000,
        held=await payment_list.count_held(db),
        open_refunds=await payment_list.count_open_refunds(db),
        audit=done.get(Upkeep.AUDIT),
        backup=done.get(Upkeep.BACKUP),
        offsite=[
            done.get(kind, UpkeepDone(kind=kind, at_ms=0))
            for kind in (Upkeep.OFFSITE, Upkeep.DRILL)
            if sends_offsite
        ],
        certificates=round(sample("moorage_certificates")),
        certificate_end_ms=round(ends * 1000) or None,
        gateways=[each.name for each in await cluster.running(db, now_ms=now_ms)],
        notices=await wallet_rules.current_notices(db),
        alerts=[
            alert_document(each) for each in await alerts.recent(db, since_ms=now_ms - _LATELY_MS)
        ],
    )


async def _states(rooms: Rooms) -> Mapping[str, str]:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await states_of(checks_of(rooms))
    except TimeoutError:
        return {"checks": f"not all parts answered within {_CHECK_SECONDS:.0f} seconds"}


async def _chain(
    rooms: Rooms, chain: Chain, brought: Mapping[tuple[int, str], int], sample: Samples
) -> ChainHealth:
    db, chain_id = rooms.core.db, chain.chain_id
    relayer = rooms.payments.relayers.get(chain.name)
    return ChainHealth(
        name=chain.name,
        chain_id=chain_id,
        is_closed=chain.closed,
        nodes=[
            NodeHealth(
                urlsplit(url).netloc.rpartition("@")[2],
                sample("moorage_node_up", chain=chain.name, node=str(number)) > 0,
            )
            for number, url in enumerate(chain.rpc_urls, 1)
        ],
        unsearched_blocks=round(sample("moorage_unsearched_blocks", chain=chain.name)),
        unresolved=await settlements.count_unresolved(db, chain_id=chain_id),
        relayer=None if relayer is None else await _relayer(rooms, chain, relayer),
        books=[
            TokenBooks(
                token.symbol,
                brought.get((chain_id, token.name), 0),
                -await accounts.sum_of_account(db, received_account(chain_id, token.name)),
            )
            for token in chain.tokens
        ],
    )


async def _relayer(rooms: Rooms, chain: Chain, relayer: Relayer) -> RelayerHealth:
    last = await relays.last(rooms.core.db, chain_id=chain.chain_id, sender=relayer.address)
    cost_wei = 0 if last is None else last.gas_limit * int(last.max_fee_per_gas)
    return RelayerHealth(
        address=relayer.address,
        balance_wei=relayer.balance_wei,
        is_solvent=relayer.solvent,
        settlements_left=relayer.balance_wei // cost_wei if cost_wei else None,
    )


async def _machine(rooms: Rooms, sample: Samples) -> MachineHealth | None:
    try:
        room = await rooms.deploy.capacity.room()
    except MoorageError:
        return None
    return MachineHealth(
        **msgspec.structs.asdict(room),
        memory_used_bytes=round(sample("moorage_app_memory_bytes")),
        cpu_millis=(os.cpu_count() or 1) * 1000,
        load=os.getloadavg()[0],
    )


_EXPLORERS = {42161: "https://arbiscan.io/tx/", 8453: "https://basescan.org/tx/"}


@dataclass(frozen=True, kw_only=True)
class OperatorContext:
    """A running gateway, as its operator's pages know it."""

    books: OpenBooks  # `View.books` says who looks into them
    in_force: Callable[[], Settings]  # returns the settings that the gateway goes by
    configured: Settings  # as they were written when the gateway started
    load: Callable[[], Settings]  # reads them again, as the next start would
    clock: Clock
    billed: BilledTime
    health: HealthReader
    audits: Audits
    reports: Reports

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.in_force()

    def chain_of(self, chain_id: int) -> Chain | None:
        """Returns a chain by its id; None if it is not configured any more."""
        chains = self.books.chains.values()
        return next((each for each in chains if each.chain_id == chain_id), None)

    def chain_name(self, chain_id: int) -> str:
        """Returns a chain's name, or its id if it is not configured any more."""
        chain = self.chain_of(chain_id)
        return str(chain_id) if chain is None else chain.name

    def explorer_url(self, chain_id: int, tx_hash: str) -> str | None:
        """Returns where strangers show a transaction; None for local chains and unknown ones."""
        prefix = _EXPLORERS.get(chain_id) if self.settings.chains else None
        return None if prefix is None else f"{prefix}{tx_hash}"

    def tokens_text(self, chain_id: int, token_address: str, amount: int) -> str:
        """Returns an amount of a token as it is written: 1.50 USDC."""
        chain = self.chain_of(chain_id)
        token = None if chain is None else chain.token_at(token_address)
        return f"{amount} units of {token_address}" if token is None else token_text(amount, token)


def token_text(amount: int, token: Token) -> str:
    """Returns an amount of a token, exactly, with two decimals or more."""
    whole, _, fraction = decimal_text(amount, decimals=token.decimals).partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2} {token.symbol}"
