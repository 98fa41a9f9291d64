"""Opens the rooms of a gateway from settings, each on top of the ones before."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

from moorage.api.http.caller import address_key
from moorage.api.services import ApiServices, Services
from moorage.auth.nonces import (
    FORGET_SECONDS,
    NonceFile,
    NonceStore,
    SharedNonces,
    give_up_mark,
    marked_ms,
)
from moorage.auth.rate_limit import TrustedProxies
from moorage.certificates.services import CertificateServices, open_certificates
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock, boot_id
from moorage.content.store import open_content
from moorage.core import Core
from moorage.errors import ConfigurationInvalid
from moorage.events.services import EventServices
from moorage.gateway import vital_signs
from moorage.gateway.data_directory import NONCES, SPOOL, gateway_id, open_vault, seal_with_newest
from moorage.gateway.duplicate_gateway_check import DuplicateGatewayCheck
from moorage.gateway.engine_choice import has_several_proxies
from moorage.gateway.leadership import (
    SAY_SECONDS,
    Leadership,
    Registration,
    challenge_secret,
    fingerprints,
    sweep_abandoned_spools,
)
from moorage.gateway.platform import Platform, instance_id, trusted_proxies
from moorage.gateway.platform_beside import REPORT_SECONDS, MachineView, report
from moorage.hosting.limits import BUILD_CPU_MILLIS
from moorage.hosting.loops import loops_of
from moorage.hosting.services import DeployServices
from moorage.ledger.services import LedgerServices, LedgerSettings
from moorage.loop import Loop, Run, Scope
from moorage.metrics import declare_chain, record_node
from moorage.pages.sessions.session import Sessions
from moorage.pages.sessions.sign_in import Signing
from moorage.parsers.pool import ParserPool
from moorage.payments.receipts import ReceiptSigner
from moorage.payments.services import Payee, PaymentServices, note_recipient
from moorage.settings import Settings
from moorage.storage.database import Database
from moorage.storage.opening import Purpose, open_database, set_purpose
from moorage.storage.several.cluster import RunningGateway, agree, retired_at
from moorage.storage.several.leases import Leases
from moorage.storage.several.shared_tables import SharedTables
from moorage.threads import in_thread
from moorage.uploads.room import sweep_spool


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """The services of a gateway, room by room."""

    core: Core
    platform: Platform
    payee: Payee
    ledger: LedgerServices
    payments: PaymentServices
    deploy: DeployServices
    events: EventServices
    api: ApiServices
    parsers: ParserPool
    nonces: NonceStore
    sessions: Sessions
    certificates: CertificateServices | None  # None without TLS
    leadership: Leadership | None  # None where there is one gateway
    duplicates: DuplicateGatewayCheck | None  # None where its chains are its own

    @cached_property
    def signing(self) -> Signing:
        """What issues texts that wallets sign on pages, and checks their signatures."""
        front = self.api.http.front
        return Signing(
            secret=self.payments.secret_of("texts to sign"),
            authenticator=front.authenticator,
            client=partial(address_key, front),
            clock=self.core.clock,
        )

    @property
    def runs(self) -> tuple[Run, ...]:
        """The tasks that run until the gateway stops, without the servers."""
        proxy = self.platform.proxy
        return (
            self.core.db.run,
            self.core.leases.run,
            *(() if proxy is None else (proxy.process.keep_running,)),
            self.platform.toolchains.inventory.run,
            *self.payments.runs,
            *(() if self.certificates is None else self.certificates.runs),
            *self.deploy.runs,
            *self.events.runs,
        )

    @property
    def loops(self) -> tuple[Loop, ...]:
        """The periodic tasks."""
        say, scope = self.core.say, Scope.NODE
        return (
            *((Loop("gateway", every_seconds=SAY_SECONDS, tick=say, scope=scope),) if say else ()),
            *self._of_machine,
            *self._of_shared,
            *self.ledger.loops,
            *self.payments.loops,
            *(() if self.certificates is None else self.certificates.loops),
            *loops_of(self.deploy),
            *self.events.loops,
            *self.api.loops,
            self.sessions.loop,
        )

    @property
    def _of_shared(self) -> tuple[Loop, ...]:
        """What is done to forget nonces and counts that several gateways share."""
        every, scope = FORGET_SECONDS, Scope.CLUSTER
        shared = self.core.shared
        if not isinstance(self.nonces, SharedNonces) or shared is None:
            return ()
        forget, counts = self.nonces.forget, shared.forget_counts
        return (
            Loop("old nonces", every_seconds=every, tick=forget, scope=scope),
            Loop("old counts", every_seconds=60, tick=counts, scope=scope),
        )

    @property
    def _of_machine(self) -> tuple[Loop, ...]:
        runner, view, shared = self.platform.runner, self.platform.view, self.core.shared
        every = REPORT_SECONDS
        if runner is None:
            if not isinstance(view, MachineView):
                return ()
            return (Loop("machine", every_seconds=every, tick=view.refresh, scope=Scope.NODE),)
        collect, scope = self.platform.toolchains.store.collect, Scope.LEADER
        store = Loop("toolchains", every_seconds=600, tick=collect, scope=scope)
        if shared is None or not self.core.machine_bound:
            return (store,)
        tick = partial(report, runner.runtime, shared)
        return (store, Loop("machine", every_seconds=every, tick=tick, at_once=True, scope=scope))


def open_nonces(stack: AsyncExitStack, settings: Settings, clock: Clock) -> NonceFile:
    """Opens the used nonces of a data directory that one gateway has for itself.

    Raises AlreadyRunning when another gateway uses it.
    """
    nonces = NonceFile(Path(settings.data_dir) / "nonces", clock=clock)
    stack.push_async_callback(nonces.close)
    vital_signs.NONCES.set_function(lambda: len(nonces))
    return nonces


async def open_shared(core: Core) -> SharedNonces:
    """Opens the used nonces that several gateways share."""
    if core.shared is None:
        raise ValueError("a gateway without a name shares nothing")
    lost_ms = marked_ms(core.data_dir / NONCES, now_ms=core.clock.now_ms())
    await core.shared.open(lost_ms=lost_ms)
    give_up_mark(core.data_dir / NONCES)
    return SharedNonces(core.shared, clock=core.clock)


async def open_core(
    stack: AsyncExitStack, settings: Settings, clock: Clock, *, purpose: Purpose, speed: float
) -> Core:
    """Opens the database of an open data directory, and the vault of its secrets.

    The schema is upgraded before. An older gateway may run beside a newer one. Raises
    ConfigurationInvalid when a key of the secrets is missing, the database has another purpose, or
    its gateway was retired; AlreadyRunning when one with this one's id runs on another machine.
    """
    data_dir = Path(settings.data_dir)
    name = settings.gateway_name
    sweep_spool(data_dir / SPOOL / name)
    sweep_abandoned_spools(data_dir)
    if settings.database_url:
        await in_thread(set_purpose, settings.database_url, purpose)
    db = open_database(settings.database, speed=speed)
    stack.callback(db.close)
    if ended_at := await retired_at(db):
        raise ConfigurationInvalid(
            f"These books are of a gateway that `moorage operator retire` ended at {ended_at}: to "
            "run a gateway, name another data_dir, and another database_url if it is set."
        )
    machine = gateway_id(data_dir)
    several_proxies = has_several_proxies(settings)
    holder = f"{machine}-{name}" if name else machine
    vault = await open_vault(settings, db)
    registration = None
    if name:
        own = RunningGateway(holder, name, fingerprints(settings, vault=vault), boot_id())
        registration = Registration(db=db, clock=clock, own=own)
        await registration.enter()  # before anything is sealed with a key that others may not have
        stack.push_async_callback(registration.leave)
    await seal_with_newest(vault, db)
    await ReceiptSigner(db, vault, clock).open()
    return Core(
        db=db,
        vault=vault,
        leases=Leases(db=db, holder=holder, clock=clock),
        clock=clock,
        data_dir=data_dir,
        speed=speed,
        name=name,
        machine=machine,
        instance=await _instance(settings, db),
        machine_bound=not several_proxies,
        challenges=await challenge_secret(db, vault) if several_proxies else b"",
        content=open_content(settings.content_url, settings.content_credentials_file),
        say=None if registration is None else registration.say,
        shared=SharedTables(db) if name else None,
    )


async def _instance(settings: Settings, db: Database) -> str:
    """Returns the name of what engines make: of several gateways, all have the same."""
    own = instance_id(Path(settings.data_dir))
    return await agree(db, "instance", own) if has_several_proxies(settings) else own


async def open_rooms(
    stack: AsyncExitStack,
    settings: Settings,
    *,
    core: Core,
    platform: Platform,
    nonces: NonceStore,
    chains: Mapping[str, Chain],
    pay_to: str,
    leadership: Leadership | None,
    duplicates: DuplicateGatewayCheck | None,
) -> Rooms:
    """Opens every room. Raises ConfigurationInvalid and InvalidField."""
    payee = Payee(
        chains=chains,
        clients=_open_clients(stack, settings, chains, core.clock),
        pay_to=pay_to,
        former=await note_recipient(core.db, pay_to, clock=core.clock),
        gateway_url=platform.gateway_url,
        terms_url=settings.terms_url,
        contact=settings.contact,
        signs_in=not settings.require_bound_signatures,
    )
    ledger = LedgerServices(core, _ledger_settings(settings))
    payments = PaymentServices(core, settings, payee=payee, ledger=ledger)
    secured = await _open_certificates(settings, core, platform)
    deploy = DeployServices(
        core,
        settings,
        platform=platform.of_apps,
        ledger=ledger,
        certificates=None if secured is None else secured.certificates,
    )
    _watch(core, platform, payments, deploy)
    events = EventServices(core, settings)
    parsers = await _open_parsers(stack)
    services = Services(
        ledger=ledger,
        payments=payments,
        deploy=deploy,
        events=events,
        engine=platform.view,
        hosts=platform.hosts,
        inventory=platform.toolchains.inventory,
        parsers=parsers,
        nonces=nonces,
    )
    api = ApiServices(
        core,
        settings,
        services=services,
        payee=payee,
        prices=settings.price_list,
        sizes=settings.size_list,
        proxies=TrustedProxies(trusted_proxies(settings), clock=core.clock),
        instance_token=None if duplicates is None else duplicates.text,
    )
    return Rooms(
        core=core,
        platform=platform,
        payee=payee,
        ledger=ledger,
        payments=payments,
        deploy=deploy,
        events=events,
        api=api,
        parsers=parsers,
        nonces=nonces,
        sessions=Sessions(db=core.db, clock=core.clock),
        certificates=secured,
        leadership=leadership,
        duplicates=duplicates,
    )


def _watch(
    core: Core, platform: Platform, payments: PaymentServices, deploy: DeployServices
) -> None:
    """Has each scrape of the metrics ask these."""
    if platform.runner is not None:
        vital_signs.RUNNING_APPS.set_function(lambda: deploy.reconciler.running)
        vital_signs.SLEEPING_APPS.set_function(lambda: deploy.reconciler.asleep)
    vital_signs.watch_searches(core, payments.watchers)


async def _open_certificates(
    settings: Settings, core: Core, platform: Platform
) -> CertificateServices | None:
    """Opens the certificates of apps and of the API's host. Raises ConfigurationInvalid."""
    if not settings.tls:
        return None
    public = urlsplit(platform.gateway_url)
    return await open_certificates(
        core,
        settings,
        own_host=public.hostname if public.scheme == "https" else None,
        proxy=None if platform.proxy is None else platform.proxy.process.certificates,
    )


def _open_clients(
    stack: AsyncExitStack, settings: Settings, chains: Mapping[str, Chain], clock: Clock
) -> dict[str, RpcClient]:
    """Opens a client for each chain, by the chain's name."""
    clients = {
        name: RpcClient(
            chain, timeout_seconds=settings.rpc_timeout_seconds, clock=clock, on_asked=record_node
        )
        for name, chain in chains.items()
    }
    for name, client in clients.items():
        chain = chains[name]
        declare_chain(name, [token.name for token in chain.tokens], nodes=len(chain.rpc_urls))
        stack.push_async_callback(client.close)
    return clients


async def _open_parsers(stack: AsyncExitStack) -> ParserPool:
    """Opens the pool of processes that parse uploads. Raises ConfigurationInvalid."""
    parsers = ParserPool()
    stack.push_async_callback(parsers.close)
    await parsers.open()
    return parsers


def _ledger_settings(settings: Settings) -> LedgerSettings:
    prices = settings.price_list
    return LedgerSettings(
        build_minutes_per_usd=settings.build_minutes_per_usd,
        build_month=prices.month(memory_mib=settings.build_memory_mib, cpu_millis=BUILD_CPU_MILLIS),
        minimum_charge=prices.minimum_charge,
        compensates=settings.compensate,
    )
