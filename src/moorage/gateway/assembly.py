"""Every service, made from settings and opened parts, and wired."""

from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from moorage.api.connections.arrival import Arrivals
from moorage.api.http.idempotency import Idempotency
from moorage.api.log_stream import Followers
from moorage.api.services import Gateway, Limiters
from moorage.auth.authenticator import Authenticator
from moorage.auth.client_address import TrustedProxies
from moorage.auth.contract_wallets import ContractWallets
from moorage.auth.nonces import NonceStore
from moorage.auth.rate_limit import RateLimiter
from moorage.chains.balances import Questions
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock, boot_id
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.domains import Domains
from moorage.deploy.addresses.txt_records import TxtRecords
from moorage.deploy.entrance.admission import Admission
from moorage.deploy.entrance.capacity import Capacity, Policy
from moorage.deploy.keeping.retention import Retention
from moorage.deploy.keeping.space import Space
from moorage.deploy.keeping.suspension import Suspension
from moorage.deploy.work.worker import Worker
from moorage.errors import InvalidField
from moorage.events.delivery import DeliveryWorker
from moorage.events.webhooks import Webhooks
from moorage.gateway.data_directory import gateway_id, open_data_directory
from moorage.gateway.deploying import DeployContext, DeployServices, deploy_services
from moorage.gateway.events import event_services
from moorage.gateway.isolation import is_rootless
from moorage.gateway.paying import PaymentServices, payment_services
from moorage.gateway.platform import MIB, Platform, app_limits, trusted_proxies
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.ledger.paid_wallets import PaidWallets
from moorage.metrics import (
    watch_nonces,
    watch_running_apps,
    watch_sleeping_apps,
)
from moorage.parsers.plans import Plans
from moorage.parsers.pool import ParserPool
from moorage.payments.price.pricing import Size
from moorage.payments.protocols.evidence import named_chain
from moorage.records.domain import DomainRules
from moorage.routing.router import MAX_HOST_LENGTH
from moorage.settings import Settings
from moorage.storage.ballast import Ballast
from moorage.storage.database import Database
from moorage.storage.leases import Leases
from moorage.storage.migrate import migrate
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
    nonces: NonceStore
    clients: dict[str, RpcClient]
    sources: Path
    spool: Path


@dataclass(frozen=True, kw_only=True)
class Services:
    """The wired services; `gateway` is what requests see of them."""

    gateway: Gateway
    worker: Worker
    capacity: Capacity
    space: Space
    metering: Metering
    blocking: Suspension
    retention: Retention
    payments: PaymentServices
    deliveries: DeliveryWorker
    watch_seconds: int


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
    nonces = NonceStore.open(data_dir / "nonces", clock=clock)
    stack.push_async_callback(nonces.close)
    watch_nonces(lambda: len(nonces))
    sweep_spool(data_dir / "spool")
    migrate(data_dir / "moorage.db")
    db = Database(data_dir / "moorage.db")
    stack.callback(db.close)
    clients = {
        name: RpcClient(chain, timeout_seconds=settings.rpc_timeout_seconds, clock=clock)
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
    metering = Metering(db=db, clock=clock, boot_id=boot_id())
    context = DeployContext(
        db=db,
        vault=vault,
        sources=stores.sources,
        metering=metering,
        capacity=_capacity(settings, platform, db),
        build_time=_build_time(settings, db, clock),
        clock=clock,
        holder=stores.leases.holder,
    )
    deploying = deploy_services(settings, platform, context)
    watch_running_apps(lambda: deploying.reconciler.running)
    watch_sleeping_apps(lambda: deploying.reconciler.asleep)
    payments = payment_services(
        settings,
        db=db,
        clients=stores.clients,
        chains=chains,
        pay_to=pay_to,
        former=former,
        gateway_url=platform.gateway_url,
        metering=metering,
        clock=clock,
    )
    webhooks, deliveries = event_services(settings, db, vault, clock)
    gateway = _gateway(
        settings,
        stores,
        platform,
        context,
        deploying,
        payments,
        parsers=parsers,
        pay_to=pay_to,
        chains=chains,
        webhooks=webhooks,
    )
    return Services(
        gateway=gateway,
        worker=deploying.worker,
        capacity=context.capacity,
        space=_space(settings, platform, context),
        metering=metering,
        blocking=deploying.blocking,
        retention=deploying.retention,
        deliveries=deliveries,
        payments=payments,
        watch_seconds=settings.watch_seconds,
    )


def _build_time(settings: Settings, db: Database, clock: Clock) -> BuildTime:
    return BuildTime(
        db=db,
        minutes_per_usd=settings.build_minutes_per_usd,
        monthly_price=settings.price_list().month(
            Size(memory_mib=settings.build_memory_mib, cpu_millis=settings.build_cpu_millis)
        ),
        clock=clock,
    )


def _gateway(
    settings: Settings,
    stores: Stores,
    platform: Platform,
    context: DeployContext,
    deploying: DeployServices,
    payments: PaymentServices,
    *,
    parsers: ParserPool,
    pay_to: str,
    chains: dict[str, Chain],
    webhooks: Webhooks,
) -> Gateway:
    db, clock = context.db, context.clock
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
        paid_wallets=PaidWallets(
            db=db, minimum_charge=settings.price_list().minimum_charge, clock=clock
        ),
        trusted_proxies=proxies,
        limiters=_limiters(settings, clock),
        idempotency=Idempotency(db=db, clock=clock),
        metering=context.metering,
        build_time=context.build_time,
        admission=_admission(settings, payments, context, deploying.worker),
        challenges=payments.challenges,
        paywall=payments.paywall,
        top_up=payments.top_up,
        minimum_charge=settings.price_list().minimum_charge,
        cancellation=deploying.cancellation,
        rollback=deploying.rollback,
        configuration=deploying.configuration,
        deletion=deploying.deletion,
        runtime=platform.runtime,
        reconciler=deploying.reconciler,
        wake=deploying.wake,
        usage=deploying.usage,
        addresses=deploying.addresses,
        certificates=deploying.certificates,
        domains=_domains(settings, platform, db, deploying.addresses, clock),
        webhooks=webhooks,
        hosts=platform.hosts,
        followers=Followers(),
        inventory=platform.toolchains.inventory,
        has_volumes=not is_rootless(settings),
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


def _capacity(settings: Settings, platform: Platform, db: Database) -> Capacity:
    return Capacity(
        db=db,
        runtime=platform.runtime,
        limits=app_limits(settings),
        policy=Policy(
            reserve_bytes=settings.disk_reserve_mib * MIB,
            disk_overcommit=settings.disk_overcommit,
            memory_overcommit=settings.memory_overcommit,
        ),
    )


def _space(settings: Settings, platform: Platform, context: DeployContext) -> Space:
    """With ballast that is a part of the reserve."""
    ballast_bytes = min(_MOST_BALLAST_BYTES, settings.disk_reserve_mib * MIB // 4)
    return Space(
        db=context.db,
        runtime=platform.runtime,
        metering=context.metering,
        capacity=context.capacity,
        ballast=Ballast(Path(settings.data_dir) / "ballast", ballast_bytes),
        clock=context.clock,
    )


def _admission(
    settings: Settings, payments: PaymentServices, context: DeployContext, worker: Worker
) -> Admission:
    return Admission(
        db=context.db,
        quotes=payments.quotes,
        paywall=payments.paywall,
        prices=settings.price_list(),
        size=settings.app_size(),
        sources=context.sources,
        capacity=context.capacity,
        metering=context.metering,
        vault=context.vault,
        clock=context.clock,
        on_queued=worker.wake,
        on_superseded=worker.drop,
    )


def _domains(
    settings: Settings, platform: Platform, db: Database, addresses: Addresses, clock: Clock
) -> Domains:
    """The domains of projects. Raises InvalidField."""
    try:
        records = TxtRecords(settings.dns_servers)
    except ValueError as error:
        raise InvalidField("dns_servers", str(error)) from error
    return Domains(
        db=db,
        records=records,
        addresses=addresses,
        rules=DomainRules(
            base_domain=settings.base_domain,
            gateway_host=urlsplit(platform.gateway_url).hostname or "",
            max_length=MAX_HOST_LENGTH,
        ),
        most_per_project=settings.domains_per_project,
        asks=RateLimiter(clock=clock, limit=_LOOKS_PER_MINUTE),
        clock=clock,
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
    return RateLimiter(clock=clock, limit=times * settings.requests_per_minute)
