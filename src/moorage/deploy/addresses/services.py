"""The services of addresses."""

from functools import cached_property

from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.certificates.certificates import Certificates
from moorage.core import Core
from moorage.deploy.addresses.addresses import Addresses
from moorage.deploy.addresses.domains import Domains
from moorage.deploy.addresses.txt_records import TxtRecords
from moorage.deploy.addresses.unseen import UnseenRoutes
from moorage.deploy.keeping.apps import Apps
from moorage.deploy.limits import MAX_DOMAINS
from moorage.deploy.platform import AppPlatform
from moorage.errors import InvalidField
from moorage.records.domain import DomainRules
from moorage.settings import Settings

_LOOKS_PER_MINUTE = 6  # at a domain's record, on request


class AddressServices:
    """What leads visitors to projects; each is made on its first use."""

    def __init__(
        self,
        core: Core,
        settings: Settings,
        platform: AppPlatform,
        certificates: Certificates | None,
    ) -> None:
        """`certificates` is None where apps are served without TLS."""
        self._core = core
        self._db, self._clock = core.db, core.clock
        self._settings = settings
        self._platform = platform
        self._certificates = certificates

    @cached_property
    def apps(self) -> Apps:
        return Apps(clock=self._clock)

    @cached_property
    def addresses(self) -> Addresses:
        return Addresses(
            db=self._db,
            routes=self._platform.routes,
            hosts=self._platform.hosts,
            are_reused=self._platform.reuses_addresses,
        )

    @cached_property
    def unseen(self) -> UnseenRoutes | None:
        """Watches the routes of this gateway's proxy, where apps' addresses are used again."""
        platform = self._platform
        if not platform.reuses_addresses:
            return None
        if platform.following is not None:
            instances, routes = platform.following.instances, platform.following.routes
        else:
            instances, routes = platform.kept.runtime, platform.routes
        return UnseenRoutes(instances=instances, routes=routes, clock=self._clock)

    @cached_property
    def domains(self) -> Domains:
        """Raises InvalidField for `dns_servers` that are no addresses."""
        try:
            records = TxtRecords(self._settings.dns_servers)
        except ValueError as error:
            raise InvalidField("dns_servers", str(error)) from error
        return Domains(
            db=self._db,
            records=records,
            addresses=self.addresses,
            certificates=self._certificates,
            apps=self.apps,
            rules=DomainRules(
                base_domains=self._settings.base_domains,
                gateway_host=self._platform.gateway_host or "",
                max_length=self._platform.max_host_length,
            ),
            max_per_project=MAX_DOMAINS,
            asks=MemoryRateLimiter(clock=self._clock, limit=_LOOKS_PER_MINUTE),
            clock=self._clock,
        )
