"""Every service, made from settings and opened parts, and wired."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from moorage.api.connections.arrival import Arrivals
from moorage.api.http.idempotency import Idempotency
from moorage.api.log_stream import Followers
from moorage.api.services import Gateway, Limiters
from moorage.auth.authenticator import Authenticator
from moorage.auth.client_address import TrustedProxies
from moorage.auth.contract_wallets import ContractWallets
from moorage.auth.nonces import NonceFile
from moorage.auth.rate_limit import MemoryRateLimiter, RateLimiter
from moorage.chains.balances import Questions
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.core import Core
from moorage.deploy.services import DeployServices
from moorage.deploy.settings import DeploySettings
from moorage.events.services import EventServices, EventSettings
from moorage.events.webhooks import Webhooks
from moorage.gateway.data_directory import gateway_id, open_data_directory
from moorage.gateway.platform import MIB, Platform, trusted_proxies
from moorage.ledger.services import LedgerServices, LedgerSettings
from moorage.metrics import (
    record_rpc_error,
    watch_nonces,
    watch_running_apps,
    watch_sleeping_apps,
)
from moorage.parsers.plans import Plans
from moorage.parsers.pool import ParserPool
from moorage.payments.price.pricing import Size
from moorage.payments.protocols.evidence import named_chain
from moorage.payments.services import PaymentServices, Till
from moorage.payments.settings import PaymentSettings
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.leases import Leases
from moorage.storage.migrate import migrate
from moorage.storage.opening import open_database
from moorage.storage.purpose import Purpose
from moorage.storage.vault import Vault
from moorage.uploads import RoomLimits, SpoolRoom, UploadLimits, sweep_spool

_TIMES_AS_MANY = 4
"""Proofs of payment per wallet, and questions to a chain about contract wallets per address, which
several wallets may share."""

_WALLETS_OF_AN_ADDRESS = 10
"""As much as so many wallets may ask, an address may for all of its wallets that never paid."""

_MOST_BALLAST_BYTES = 64 * MIB
_LOOKS_PER_MINUTE = 6  # at a domain's record, when asked for


@dataclass(frozen=True, kw_only=True)
class Stores:
    """What remembers: the database, the used nonces, and the clients that read the chains."""

    db: Database
    leases: Leases
    nonces: NonceFile
    clients: dict[str, RpcClient]
    sources: Path
    spool: Path


@dataclass(frozen=True, kw_only=True)
class Services:
    """The wired services; `gateway` is what requests see of them."""

    gateway: Gateway
    ledger: LedgerServices
    deploy: DeployServices
    payments: PaymentServices
    events: EventServices


def open_stores(
    stack: AsyncExitStack,
    settings: Settings,
    chains: dict[str, Chain],
    *,
    purpose: Purpose,
    clock: Clock,
) -> Stores:
    """Open what remembers.

    Raises ConfigurationInvalid for a data directory that others may enter, or that is for the other
    purpose; AlreadyRunning when another gateway has it.
    """
    data_dir = Path(settings.data_dir)
    open_data_directory(data_dir, purpose)
    for name in ("sources", "spool", "apps", "proxy", "nonces"):
        (data_dir / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    nonces = NonceFile(data_dir / "nonces", clock=clock)
    stack.push_async_callback(nonces.close)
    watch_nonces(lambda: len(nonces))
    sweep_spool(data_dir / "spool")
    migrate(data_dir / "moorage.db")
    db = open_database(data_dir / "moorage.db")
    stack.callback(db.close)
    clients = {
        name: RpcClient(
            chain,
            timeout_seconds=settings.rpc_timeout_seconds,
            clock=clock,
            on_error=record_rpc_error,
        )
        for name, chain in chains.items()
    }
    for client in clients.values():
        stack.push_async_callback(client.close)
    return Stores(
        db=db,
        leases=Leases(db=db, holder=gateway_id(data_dir), clock=clock),
        nonces=nonces,
        clients=clients,
        sources=data_dir / "sources",
        spool=data_dir / "spool",
    )


def assemble(
    settings: Settings,
    stores: Stores,
    platform: Platform,
    *,
    parsers: ParserPool,
    vault: Vault,
    chains: dict[str, Chain],
    pay_to: str,
    former: Collection[str],
    clock: Clock,
) -> Services:
    """Wire every service; `former` are addresses that were `pay_to`."""
    db = stores.db
    core = Core(
        db=db,
        vault=vault,
        leases=stores.leases,
        clock=clock,
        data_dir=Path(settings.data_dir),
    )
    ledger = LedgerServices(core, _ledger_settings(settings))
    deploy = DeployServices(
        core, settings.part(DeploySettings), platform=platform.of_apps, ledger=ledger
    )
    watch_running_apps(lambda: deploy.reconciler.running)
    watch_sleeping_apps(lambda: deploy.reconciler.asleep)
    till = Till(
        chains=chains,
        clients=stores.clients,
        pay_to=pay_to,
        former=former,
        gateway_url=platform.gateway_url,
    )
    payments = PaymentServices(core, settings.part(PaymentSettings), till=till, ledger=ledger)
    events = EventServices(core, settings.part(EventSettings))
    gateway = _gateway(
        settings,
        stores,
        platform,
        ledger,
        deploy,
        payments,
        clock=clock,
        parsers=parsers,
        pay_to=pay_to,
        chains=chains,
        webhooks=events.webhooks,
    )
    return Services(
        gateway=gateway,
        ledger=ledger,
        deploy=deploy,
        payments=payments,
        events=events,
    )


def _ledger_settings(settings: Settings) -> LedgerSettings:
    prices = settings.price_list()
    size = Size(memory_mib=settings.build_memory_mib, cpu_millis=settings.build_cpu_millis)
    return LedgerSettings(
        build_minutes_per_usd=settings.build_minutes_per_usd,
        build_month=prices.month(size),
        minimum_charge=prices.minimum_charge,
    )


def _gateway(
    settings: Settings,
    stores: Stores,
    platform: Platform,
    ledger: LedgerServices,
    deploy: DeployServices,
    payments: PaymentServices,
    *,
    clock: Clock,
    parsers: ParserPool,
    pay_to: str,
    chains: dict[str, Chain],
    webhooks: Webhooks,
) -> Gateway:
    db = stores.db
    proxies = TrustedProxies(trusted_proxies(settings))
    return Gateway(
        pay_to=pay_to,
        public_url=platform.gateway_url,
        chains=chains,
        balance_questions=Questions(),
        clients=stores.clients,
        db=db,
        clock=clock,
        authenticator=_authenticator(settings, stores, chains, clock),
        paid_wallets=ledger.paid_wallets,
        trusted_proxies=proxies,
        limiters=_limiters(settings, clock),
        idempotency=Idempotency(db=db, clock=clock),
        metering=ledger.metering,
        build_time=ledger.build_time,
        admission=deploy.admission(
            quotes=payments.quotes,
            paywall=payments.paywall,
            prices=settings.price_list(),
            size=settings.app_size(),
        ),
        challenges=payments.challenges,
        paywall=payments.paywall,
        top_up=payments.top_up,
        minimum_charge=settings.price_list().minimum_charge,
        cancellation=deploy.cancellation,
        rollback=deploy.rollback,
        configuration=deploy.configuration,
        deletion=deploy.deletion,
        runtime=platform.runtime,
        reconciler=deploy.reconciler,
        wake=deploy.wake,
        usage=deploy.usage,
        addresses=deploy.addresses,
        certificates=deploy.certificates,
        domains=deploy.domains,
        webhooks=webhooks,
        hosts=platform.hosts,
        followers=Followers(),
        inventory=platform.toolchains.inventory,
        upload_limits=UploadLimits(),
        spool_dir=stores.spool,
        parsers=parsers,
        plans=Plans(parsers),
        spool_room=SpoolRoom(
            stores.spool,
            limits=RoomLimits(),
            reserve_bytes=settings.disk_reserve_mib * MIB,
        ),
        arrivals=Arrivals(proxies),
    )


def _authenticator(
    settings: Settings, stores: Stores, chains: dict[str, Chain], clock: Clock
) -> Authenticator:
    contracts = ContractWallets(
        stores.clients,
        default_chain=named_chain(None, chains, field="X-Wallet-Chain").name,
        limiter=_limiter(settings, clock, times=_TIMES_AS_MANY),
    )
    return Authenticator(
        stores.nonces, contracts=contracts, bound_only=settings.require_bound_signatures
    )


def _limiters(settings: Settings, clock: Clock) -> Limiters:
    return Limiters(
        wallets=_limiter(settings, clock),
        polls=_limiter(settings, clock),
        proofs=_limiter(settings, clock, times=_TIMES_AS_MANY),
        addresses=_limiter(settings, clock),
        strangers=_limiter(settings, clock, times=_WALLETS_OF_AN_ADDRESS),
        strangers_proofs=_limiter(settings, clock, times=_WALLETS_OF_AN_ADDRESS),
    )


def _limiter(settings: Settings, clock: Clock, *, times: int = 1) -> RateLimiter:
    return MemoryRateLimiter(clock=clock, limit=times * settings.requests_per_minute)
