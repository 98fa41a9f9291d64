"""The services of the room, and its loops."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from moorage.certificates.authority import Accounts, Authority
from moorage.certificates.availability import Availability
from moorage.certificates.certificates import Certificates
from moorage.certificates.installation import (
    FOLLOW_SECONDS,
    Installation,
    ProxyCertificates,
    WildcardFiles,
)
from moorage.certificates.orders import ORDERS_SECONDS, Orders, PlacedProofs
from moorage.certificates.pem import CertificateInvalid
from moorage.core import Core
from moorage.errors import ConfigurationInvalid
from moorage.loop import Loop, Run, Scope
from moorage.settings import Settings
from moorage.threads import in_thread
from moorage.whole_file import replace_file

if TYPE_CHECKING:
    from moorage.certificates.acme import AcmeAuthority
    from moorage.certificates.internal import InternalAuthority

_FIRST_CERTIFICATES_A_WEEK = 20
"""How many hosts of a wallet may get their first certificate in a week: authorities give some 50 a
week for all names under a domain."""

_OWN_SECONDS = 3600.0


@dataclass(frozen=True)
class CertificateServices:
    """What gets certificates and gives them to the proxy; each is made on its first use."""

    core: Core
    settings: Settings
    _: KW_ONLY
    own_host: str | None  # the gateway's at the proxy
    proxy: ProxyCertificates | None  # that of this gateway, if it has one

    @cached_property
    def certificates(self) -> Certificates:
        settings = self.settings
        by_hook = bool(settings.acme_dns_hook) and not settings.wildcard_certificate
        has_wildcard = by_hook or bool(settings.wildcard_certificate)
        own_names = [f"*.{settings.base_domain}"] if by_hook else []
        return Certificates(
            db=self.core.db,
            own_names=[*own_names, *([self.own_host] if self.own_host else [])],
            wildcards=[settings.base_domain] if has_wildcard else [],
            files=self.files,
            per_wallet=_FIRST_CERTIFICATES_A_WEEK,
            clock=self.core.clock,
            kick=self.orders.kick,
        )

    @cached_property
    def orders(self) -> Orders:
        return Orders(
            db=self.core.db,
            vault=self.core.vault,
            authorities=self._authorities,
            proofs=self.proofs,
            clock=self.core.clock,
            on_issued=self.follow,
        )

    @cached_property
    def proofs(self) -> PlacedProofs:
        return PlacedProofs(self.core.db, hook=self.settings.acme_dns_hook, clock=self.core.clock)

    @cached_property
    def files(self) -> WildcardFiles | None:
        """The operator's own certificate, if one is set. Raises ConfigurationInvalid."""
        named = self.settings.wildcard_certificate
        if not named:
            return None
        if len(named) != 2:
            raise ConfigurationInvalid(
                "wildcard_certificate: name two files, the certificate and its key."
            )
        certificate, key = map(Path, named)
        name = f"*.{self.settings.base_domain}"
        return WildcardFiles(name, certificate=certificate, key=key)

    @cached_property
    def availability(self) -> Availability | None:
        """None where new apps need no authority elsewhere."""
        if not self.settings.asks_elsewhere:
            return None
        return Availability(
            tuple(self.settings.authorities),
            root_file=self.settings.acme_root_file,
            clock=self.core.clock,
        )

    async def ask(self) -> None:
        """Asks whether authorities are there, if it is time; orders what waited for one."""
        if self.availability is not None and await self.availability.poll():
            self.orders.resume()

    @cached_property
    def internal(self) -> "InternalAuthority | None":
        """The gateway's own authority, where it is set."""
        if not self.settings.internal_authority:
            return None
        from moorage.certificates.internal import InternalAuthority

        return InternalAuthority(self._accounts, clock=self.core.clock)

    @cached_property
    def _accounts(self) -> Accounts:
        return Accounts(self.core.db, self.core.vault)

    @cached_property
    def _authorities(self) -> Sequence[Authority]:
        if self.internal is not None:
            return (self.internal,)
        return tuple(self._acme(*each) for each in self.settings.authorities.items())

    def _acme(self, directory: str, account: tuple[str, str] | None) -> "AcmeAuthority":
        from moorage.certificates.acme import AcmeAuthority, Binding

        return AcmeAuthority(
            directory,
            accounts=self._accounts,
            root_file=self.settings.acme_root_file,
            binding=Binding(*account) if account else None,
        )

    @cached_property
    def _installation(self) -> Installation | None:
        if self.proxy is None:
            return None
        return Installation(
            db=self.core.db,
            vault=self.core.vault,
            proxy=self.proxy,
            files=self.files,
            clock=self.core.clock,
        )

    async def follow(self) -> None:
        """Brings the proxy's certificates in step, where this gateway has a proxy."""
        if self._installation is not None:
            await self._installation.follow()
        elif self.files is not None:
            await self.files.read()

    @property
    def runs(self) -> tuple[Run, ...]:
        return (self.orders.run,)

    @property
    def loops(self) -> tuple[Loop, ...]:
        begin, follow, own = self.orders.begin, self.follow, self.certificates.want_own
        node, cluster, every = Scope.NODE, Scope.CLUSTER, FOLLOW_SECONDS
        return (
            Loop("own names", every_seconds=_OWN_SECONDS, tick=own, scope=cluster, at_once=True),
            Loop("orders", every_seconds=ORDERS_SECONDS, tick=begin, scope=cluster, at_once=True),
            Loop("installed", every_seconds=every, tick=follow, scope=node, at_once=True),
        )


async def open_certificates(
    core: Core, settings: Settings, *, own_host: str | None, proxy: ProxyCertificates | None
) -> CertificateServices:
    """Opens the room, and reads the operator's files.

    Raises ConfigurationInvalid.
    """
    made = CertificateServices(core, settings, own_host=own_host, proxy=proxy)
    try:
        if made.internal is not None:
            root = await made.internal.root()
            await in_thread(replace_file, settings.root_file, root.encode())
        if made.files is not None:
            await made.files.read()
    except CertificateInvalid as error:
        raise ConfigurationInvalid(f"{error}.") from error
    return made
