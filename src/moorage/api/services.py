"""Makes the records that handlers need, from the services."""

from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, fields
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from moorage.api.access import LinkRoom, PowerRoom
from moorage.api.deploy import DeployRoom, Uploads
from moorage.api.deployments import DeploymentRoom, StatusRoom
from moorage.api.discovery.documents import Documents, PublicStatusBoard
from moorage.api.discovery.guide import Facts
from moorage.api.exports import ExportRoom, exports_app
from moorage.api.http.caller import Front, Limiters, limit_address
from moorage.api.http.connections import Arrivals
from moorage.api.http.idempotency import Idempotency
from moorage.api.logs import Followers, LogRoom
from moorage.api.money import CreditRoom, TopUpRoom
from moorage.api.operations import OPERATIONS, HttpApi
from moorage.api.projects import DomainRoom, ProjectRoom
from moorage.api.public import PublicRoom
from moorage.api.receipts import ReceiptRoom
from moorage.api.refunds import RefundRoom
from moorage.api.runs import RunRoom
from moorage.api.transfers import TransferRoom
from moorage.api.webhooks import WebhookRoom
from moorage.auth.authenticator import Authenticator
from moorage.auth.delegates import Delegates
from moorage.auth.nonces import NonceStore
from moorage.auth.rate_limit import RateLimiter, TrustedProxies
from moorage.auth.recovery import Recoveries
from moorage.auth.tokens import Links, ManageTokens
from moorage.auth.wallet import ContractWallets
from moorage.chains.balances import ConcurrencyLimit
from moorage.core import Core
from moorage.engines.engine import EngineView
from moorage.events.services import EventServices
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.services import DeployServices
from moorage.hosting.sources import SharedUploads
from moorage.ledger.services import LedgerServices
from moorage.loop import Loop, Scope
from moorage.parsers.plans import Plans
from moorage.parsers.pool import ParserPool
from moorage.payments.protocols.evidence import named_chain
from moorage.payments.services import Payee, PaymentServices
from moorage.records.size import PriceList, Sizes
from moorage.settings import Settings
from moorage.signing import host_of
from moorage.storage.operation import wallet_rules
from moorage.toolchains.inventory import Inventory
from moorage.uploads.room import RoomLimits, SpoolRoom, UploadLimits
from moorage.uploads.stored import STORED_LIMITS, StoredUploads

_MIB = 1024 * 1024
_LOOKUPS_FACTOR = 4
"""Payment proofs of a wallet, and look-ups of contract wallets by an address (which several wallets
may share), may be this many times `requests_per_minute`."""

_CALLS_OF_A_PAGE = 10
"""A page asks the API several times, and a person looks at several pages a minute."""

_STORED_RESERVE_MIB = 1024
"""Stored uploads leave this much more room on the disk than the reserve: a body in a deploy's own
request, and apps, still find room when they find none."""

_WALLETS_OF_AN_ADDRESS = 10
"""All wallets of an address that never paid may together ask as much as this many wallets."""


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services that the API calls."""

    ledger: LedgerServices
    payments: PaymentServices
    deploy: DeployServices
    events: EventServices
    engine: EngineView
    hosts: Hosts
    inventory: Inventory
    parsers: ParserPool
    nonces: NonceStore


@dataclass(eq=False)
class ApiServices:
    """What every request passes through, and what handlers need; each is made on first use."""

    core: Core
    settings: Settings
    _: KW_ONLY
    services: Services
    payee: Payee
    prices: PriceList
    sizes: Sizes
    proxies: TrustedProxies
    instance_token: Callable[[], Awaitable[str]] | None

    def __post_init__(self) -> None:
        self._limited: list[tuple[RateLimiter, int]] = []  # and its share of requests_per_minute

    @cached_property
    def http(self) -> HttpApi:
        return HttpApi(
            front=self._front,
            rooms=(*self._rooms_of_apps, *self._rooms_of_money),
            facts=self._facts,
            documents=self._documents,
            challenges=self.services.payments.challenges,
            outcomes=self.services.payments.outcomes,
            arrivals=Arrivals(self.proxies),
            exports=exports_app(
                self.core.db,
                self.services.deploy.export_files,
                self.core.clock,
                count=partial(limit_address, self._front),
            ),
        )

    @cached_property
    def standing(self) -> PublicStatusBoard:
        return PublicStatusBoard(
            partial(wallet_rules.current_notices, self.core.db),
            chains=[chain.name for chain in self.services.payments.seller.chains],
            clock=self.core.clock,
        )

    @cached_property
    def _front(self) -> Front:
        return Front(
            db=self.core.db,
            clock=self.core.clock,
            chains=self.payee.chains,
            public_url=self.payee.gateway_url,
            authenticator=self._authenticator,
            manage_tokens=ManageTokens(db=self.core.db, clock=self.core.clock),
            recoveries=self.recoveries,
            delegates=Delegates(
                db=self.core.db, clock=self.core.clock, host=host_of(self.payee.gateway_url)
            ),
            paid_wallets=self.services.ledger.paid_wallets,
            credit_warnings=self.services.ledger.credit_warnings,
            trusted_proxies=self.proxies,
            limiters=self._limiters,
            holdings=self.services.payments.holdings,
        )

    @cached_property
    def _documents(self) -> Documents:
        return Documents(self._facts, OPERATIONS, self.standing)

    def change(self, settings: Settings) -> None:
        """Takes other rates, days of retention, terms and contact, from the next request on."""
        facts = self._facts
        facts.requests_per_minute = settings.requests_per_minute
        facts.retention_days = settings.retention_days
        facts.seller.terms_url, facts.seller.contact = settings.terms_url, settings.contact
        for limiter, times in self._limited:
            limiter.limit = times * settings.requests_per_minute
        self._documents.renew()

    @cached_property
    def _facts(self) -> Facts:
        settings = self.settings
        return Facts(
            url=self.payee.gateway_url,
            seller=self.services.payments.seller,
            settles=bool(settings.relayer_key_file),
            prices=self.prices,
            sizes=self.sizes,
            build_minutes_per_usd=settings.build_minutes_per_usd,
            requests_per_minute=settings.requests_per_minute,
            retention_days=settings.retention_days,
            min_sleep_seconds=settings.min_sleep_after_seconds,
        )

    @property
    def _rooms_of_apps(self) -> tuple[Front, ...]:
        front, services, deploy = _fields(self._front), self.services, self.services.deploy
        return (
            self._deploys,
            DeploymentRoom(
                **front,
                cancellation=deploy.cancellation,
                idempotency=self.idempotency,
                rollback=deploy.rollback,
                runtime=services.engine,
            ),
            StatusRoom(
                **front,
                metering=services.ledger.metering,
                hosts=services.hosts,
                minimum_charge=self.prices.minimum_charge,
                written=deploy.written,
            ),
            RunRoom(
                **front,
                runs=deploy.runs_of_projects,
                idempotency=self.idempotency,
                runtime=services.engine,
                followers=self.followers,
            ),
            LogRoom(**front, runtime=services.engine, followers=self.followers),
            ProjectRoom(
                **front,
                configuration=deploy.configuration,
                deletion=deploy.deletion,
                metering=services.ledger.metering,
                hosts=services.hosts,
                written=deploy.written,
                seller=services.payments.seller,
                pausing=deploy.pausing,
                idempotency=self.idempotency,
                requests=services.payments.refund_requests,
                facts=self._facts,
                parsers=services.parsers,
            ),
            TransferRoom(
                **front,
                transfers=deploy.transfers,
                metering=services.ledger.metering,
                idempotency=self.idempotency,
            ),
            LinkRoom(**front, links=Links(db=self.core.db, clock=self.core.clock)),
            PowerRoom(**front, idempotency=self.idempotency),
            DomainRoom(**front, domains=deploy.domains, hosts=services.hosts),
            ExportRoom(**front, core=self.core, files=deploy.export_files),
        )

    @property
    def _rooms_of_money(self) -> tuple[Front, ...]:
        front, services, ledger = _fields(self._front), self.services, self.services.ledger
        return (
            CreditRoom(**front, metering=ledger.metering, build_time=ledger.build_time),
            TopUpRoom(
                **front,
                paywall=services.payments.paywall,
                idempotency=self.idempotency,
                top_up=services.payments.top_up,
                quotas=services.deploy.quotas,
                outcomes=services.payments.outcomes,
                minimum_charge=self.prices.minimum_charge,
            ),
            ReceiptRoom(**front, signer=services.payments.receipts, issuer=self.settings.issuer),
            RefundRoom(
                **front,
                requests=services.payments.refund_requests,
                idempotency=self.idempotency,
                pausing=services.deploy.pausing,
            ),
            WebhookRoom(**front, webhooks=services.events.webhooks),
            PublicRoom(
                **front,
                seller=self.services.payments.seller,
                sizes=self.sizes,
                capacity=self.services.deploy.capacity,
                clients=self.payee.clients,
                balance_limit=ConcurrencyLimit(),
                instance_token=self.instance_token,
            ),
        )

    @property
    def _deploys(self) -> DeployRoom:
        services, payments = self.services, self.services.payments
        admission = services.deploy.admission(
            quotes=payments.quotes,
            paywall=payments.paywall,
            prices=self.prices,
            sizes=self.sizes,
        )
        return DeployRoom(
            **_fields(self._front),
            pay_to=self.payee.pay_to,
            admission=admission,
            paywall=payments.paywall,
            outcomes=payments.outcomes,
            build_time=services.ledger.build_time,
            idempotency=self.idempotency,
            hosts=services.hosts,
            inventory=services.inventory,
            written=services.deploy.written,
            refuse_secrets=self.settings.refuse_secrets,
            min_sleep_seconds=self.settings.min_sleep_after_seconds,
            uploads=self._uploads,
        )

    @cached_property
    def _uploads(self) -> Uploads:
        spool_dir, parsers = self.core.spool, self.services.parsers
        reserve_bytes = self.settings.disk_reserve_mib * _MIB
        return Uploads(
            limits=UploadLimits(),
            spool_dir=spool_dir,
            spool_room=SpoolRoom(spool_dir, limits=RoomLimits(), reserve_bytes=reserve_bytes),
            stored=self._stored_uploads(spool_dir, reserve_bytes=reserve_bytes),
            parsers=parsers,
            plans=Plans(parsers),
            exports=self.services.deploy.export_files,
        )

    def _stored_uploads(self, spool_dir: Path, *, reserve_bytes: int) -> SharedUploads:
        room = SpoolRoom(
            spool_dir,
            limits=STORED_LIMITS,
            reserve_bytes=reserve_bytes + _STORED_RESERVE_MIB * _MIB,
        )
        own = StoredUploads(
            spool_dir,
            room=room,
            max_bytes=UploadLimits().body_bytes,
            clock=self.core.clock,
            others=spool_dir.parent if self.core.name else None,
        )
        content, clock = self.core.content, self.core.clock
        return SharedUploads(own, content, limits=STORED_LIMITS, clock=clock)

    @cached_property
    def idempotency(self) -> Idempotency:
        return Idempotency(db=self.core.db, clock=self.core.clock)

    @cached_property
    def recoveries(self) -> Recoveries:
        billed_ms = self.services.ledger.metering.time.now_ms
        return Recoveries(db=self.core.db, clock=self.core.clock, billed_ms=billed_ms)

    @cached_property
    def followers(self) -> Followers:
        return Followers()

    @cached_property
    def _authenticator(self) -> Authenticator:
        contracts = ContractWallets(
            self.payee.clients,
            default_chain=named_chain(None, self.payee.chains, field="X-Wallet-Chain").name,
            limiter=self._limiter("contracts", times=_LOOKUPS_FACTOR),
        )
        return Authenticator(
            self.services.nonces,
            contracts=contracts,
            bound_only=self.settings.require_bound_signatures,
        )

    @cached_property
    def _limiters(self) -> Limiters:
        return Limiters(
            wallets=self._limiter("wallets"),
            people=self._limiter("people", times=_CALLS_OF_A_PAGE),
            polls=self._limiter("polls"),
            proofs=self._limiter("proofs", times=_LOOKUPS_FACTOR),
            addresses=self._limiter("addresses"),
            strangers=self._limiter("strangers", times=_WALLETS_OF_AN_ADDRESS),
            strangers_proofs=self._limiter("strangers_proofs", times=_WALLETS_OF_AN_ADDRESS),
        )

    @cached_property
    def mcp_limiter(self) -> RateLimiter:
        return self._limiter("mcp", times=_WALLETS_OF_AN_ADDRESS)

    def _limiter(self, name: str, *, times: int = 1) -> RateLimiter:
        limiter = self.core.limiter(name, limit=times * self.settings.requests_per_minute)
        self._limited.append((limiter, times))
        return limiter

    @property
    def loops(self) -> tuple[Loop, ...]:
        purge, uploads, cluster = self.idempotency.purge, self._uploads.stored, Scope.CLUSTER
        shared = Loop("shared uploads", every_seconds=600, tick=uploads.purge_store, scope=cluster)
        return (
            Loop("kept answers", every_seconds=300, tick=purge, scope=cluster),
            Loop("recovery", every_seconds=60, tick=self.recoveries.tick, scope=cluster),
            Loop(
                "recovered wallets",
                every_seconds=10,
                tick=self.recoveries.refresh,
                scope=Scope.NODE,
            ),
            Loop("stored uploads", every_seconds=60, tick=self._purge_uploads, scope=Scope.NODE),
            *(() if self.core.content is None else (shared,)),
        )

    async def _purge_uploads(self) -> None:
        self._uploads.stored.purge()


def _fields(front: Front) -> dict[str, Any]:
    return {field.name: getattr(front, field.name) for field in fields(front)}
