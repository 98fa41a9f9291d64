"""What the routes work with: every service, wired by the composition root."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from moorage.api.connections.arrival import Arrivals
from moorage.api.http.idempotency import Idempotency
from moorage.api.log_stream import Followers
from moorage.auth.authenticator import Authenticator
from moorage.auth.client_address import TrustedProxies
from moorage.auth.rate_limit import RateLimiter
from moorage.chains.balances import Questions
from moorage.chains.chain import Chain
from moorage.chains.rpc import RpcClient
from moorage.clock import Clock
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.certificates import Certificates
from moorage.deploy.addresses.domains import Domains
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.entrance.admission import Admission
from moorage.deploy.entrance.configuration import ProjectConfiguration
from moorage.deploy.keeping.deletion import Deletion
from moorage.deploy.keeping.reconciler import Reconciler
from moorage.deploy.keeping.usage import UsageMeter
from moorage.deploy.keeping.wake import Wake
from moorage.deploy.work.cancellation import Cancellation
from moorage.deploy.work.rollback import Rollback
from moorage.engines.engine import Engine
from moorage.errors import RuntimeUnsupported
from moorage.events.webhooks import Webhooks
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.ledger.paid_wallets import PaidWallets
from moorage.money import MicroUsd
from moorage.parsers.plans import Plans
from moorage.parsers.pool import ParserPool
from moorage.payments.protocols.challenges import Challenges
from moorage.payments.taking.paywall import Paywall
from moorage.payments.taking.topup import TopUp
from moorage.signed_request import host_of
from moorage.storage.database import Database
from moorage.toolchains.inventory import Inventory
from moorage.uploads import SpoolRoom, UploadLimits


@dataclass(frozen=True, kw_only=True)
class Limiters:
    """The rate limits of contract 1.5, each with buckets of its own."""

    wallets: RateLimiter
    polls: RateLimiter  # by deployment
    proofs: RateLimiter  # by wallet: requests that carry proof of payment
    addresses: RateLimiter  # public endpoints, and requests whose signature failed
    strangers: RateLimiter  # by address: signed requests of wallets that never paid
    strangers_proofs: RateLimiter  # by address: of these, the ones that carry proof of payment


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The services behind the HTTP surface."""

    pay_to: str
    public_url: str
    chains: dict[str, Chain]
    balance_questions: Questions
    clients: dict[str, RpcClient]
    db: Database
    clock: Clock
    authenticator: Authenticator
    paid_wallets: PaidWallets
    trusted_proxies: TrustedProxies
    limiters: Limiters
    idempotency: Idempotency
    admission: Admission
    challenges: Challenges
    paywall: Paywall
    top_up: TopUp
    minimum_charge: MicroUsd
    metering: Metering
    build_time: BuildTime
    cancellation: Cancellation
    rollback: Rollback
    configuration: ProjectConfiguration
    deletion: Deletion
    runtime: Engine
    reconciler: Reconciler
    wake: Wake
    usage: UsageMeter
    addresses: Addresses
    certificates: Certificates
    domains: Domains
    webhooks: Webhooks
    hosts: Hosts
    inventory: Inventory
    followers: Followers
    upload_limits: UploadLimits
    spool_dir: Path
    parsers: ParserPool
    plans: Plans
    spool_room: SpoolRoom
    arrivals: Arrivals

    def require_volumes(self, field: str) -> None:
        """Raise RuntimeUnsupported, naming the field that asks for one, where there are none."""
        if not self.runtime.capabilities.volumes:
            raise RuntimeUnsupported(field, "this gateway runs without root, and has no volumes")

    @cached_property
    def host(self) -> str:
        """What bound signatures must name: the host that clients know, whatever proxies call it."""
        return host_of(self.public_url)
