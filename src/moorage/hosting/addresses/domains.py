"""Domains: claimed by a project's owner, verified by a DNS record, and checked again regularly."""

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import structlog

from moorage.auth.rate_limit import RateLimiter
from moorage.certificates.certificates import Certificates
from moorage.clock import Clock
from moorage.errors import DomainNotFound, InvalidField
from moorage.hosting.addresses.addresses import Addresses, Hosts
from moorage.hosting.keeping.apps import Apps
from moorage.ledger.metering import Metering
from moorage.records.domain import Domain, DomainRules, DomainStatus, new_token
from moorage.records.event import EventKind
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import domains, projects
from moorage.storage.database import Database, Transaction

_PORT = 53
_AT_ONCE = 16


class LookupFailed(Exception):
    """It is not known whether the record exists; the message says why."""


class TxtRecords:
    """Looks records up over UDP, and over TCP when an answer is truncated.

    `servers` are resolvers as `address` or `address:port`; without any, the system's are used.
    Raises ValueError for one that is not an address.
    """

    def __init__(self, servers: Sequence[str] = (), *, timeout_seconds: float = 5.0) -> None:
        self._servers = [_endpoint(server) for server in servers]
        self._timeout_seconds = timeout_seconds
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def look(self, name: str) -> frozenset[str]:
        """Returns the texts of an absolute name's records, if any. Raises LookupFailed."""
        async with self._turn:
            from moorage.hosting.addresses.txt_lookup import look_up  # noqa: PLC0415  (10 MiB)

            seconds = self._timeout_seconds
            try:
                async with asyncio.timeout(seconds):
                    return await look_up(name, self._servers, timeout_seconds=seconds)
            except TimeoutError as error:
                raise LookupFailed(f"no answer within {seconds:g} s") from error


def _endpoint(server: str) -> tuple[str, int]:
    """Returns address and port of `address`, `address:port` or `[address]:port`."""
    try:
        return str(ipaddress.ip_address(server)), _PORT
    except ValueError:
        address, _, port = server.rpartition(":")
        return str(ipaddress.ip_address(address.strip("[]"))), int(port)


LOOK_SECONDS = 10.0
WANT_SECONDS = 600.0


class Uncertified:
    """Looks whether missing certificates have come; begins billing where one did."""

    def __init__(
        self,
        *,
        db: Database,
        certificates: Certificates | None,
        apps: Apps,
        metering: Metering,
        hosts: Hosts,
        clock: Clock,
    ) -> None:
        """`certificates` is None where apps are served without TLS."""
        self._db = db
        self._certificates = certificates
        self._apps = apps
        self._metering = metering
        self._hosts = hosts
        self._clock = clock

    async def want(self) -> None:
        """Wants certificates for the hosts of all projects that serve, or have served.

        Missing ones are ordered, such as after TLS was turned on. Raises DatabaseUnavailable.
        """
        if self._certificates is None:
            return
        proved = await domains.verified(self._db)
        wallets = {
            host: project.wallet
            for project in await projects.served(self._db)
            if project.kind is Kind.WEB
            for host in self._hosts_of(project, proved.get(project.id, ()))
        }
        for host in sorted(await self._certificates.unwanted(wallets)):
            await self._certificates.want(host, wallets[host])

    def _hosts_of(self, project: Project, proved: Iterable[str]) -> list[str]:
        name = project.unique_name
        return [self._hosts.host(name), *self._hosts.former_hosts(name), *proved]

    async def look(self) -> None:
        """Looks at each app that is up and served without. Raises DatabaseUnavailable."""
        for project in await projects.uncertified(self._db):
            is_up = project.status is ProjectStatus.ACTIVE and project.asleep_since_ms is None
            host = self._hosts.host(project.unique_name)
            if is_up and (self._certificates is None or await self._certificates.has(host)):
                await self._certify(project)

    async def _certify(self, project: Project) -> None:
        async with self._apps.held(project.id), self._db.transaction(durable=True) as tx:
            current = await projects.by_id(tx, project.id)
            if current is None or current.uncertified_since_ms is None:
                return
            await projects.set_uncertified(tx, project.id, since_ms=None)
            data = {"project_id": project.id, "endpoint": self._hosts.url(project.unique_name)}
            await self._tell(tx, project, EventKind.PROJECT_CERTIFIED, data)
            # One that is down, as while its volume is carried, is billed from its start on.
            is_up = current.status is ProjectStatus.ACTIVE and current.down_since_ms is None
            if is_up:
                await self._metering.begin_or_suspend(tx, current)
        log.info("app has its certificate", project=project.id)

    async def _tell(
        self, tx: Transaction, project: Project, kind: EventKind, data: dict[str, str]
    ) -> None:
        await events.record(
            tx, wallet=project.wallet, kind=kind, data=data, now_ms=self._clock.now_ms()
        )


log = structlog.get_logger()

_MIN_PAUSE_MS = 30_000
_MAX_PAUSE_MS = 3_600_000
_RECHECK_MS = 24 * 3_600_000
_GIVEN_UP_MS = 7 * 24 * 3_600_000  # older pending claims are not checked any more
_DUE_AT_ONCE = 32


class TxtLookup(Protocol):
    """The part of DNS that this room uses."""

    async def look(self, name: str) -> frozenset[str]:
        """Returns the texts of a name's TXT records. Raises LookupFailed."""
        ...


class Domains:
    """The domains of all projects.

    A claim alone changes nothing. When its record is found, the domain is routed to the project,
    and any other project loses it. A verified domain stays verified without its record, until
    another project proves control.
    """

    def __init__(
        self,
        *,
        db: Database,
        records: TxtLookup,
        addresses: Addresses,
        certificates: Certificates | None,
        apps: Apps,
        rules: DomainRules,
        max_per_project: int,
        asks: RateLimiter,
        clock: Clock,
    ) -> None:
        self._db = db
        self._records = records
        self._addresses = addresses
        self._certificates = certificates
        self._apps = apps
        self._rules = rules
        self._max_per_project = max_per_project
        self._asks = asks
        self._clock = clock

    async def claim(self, project: Project, text: str) -> Domain:
        """Returns the project's claim on a host; makes it if there is none. Raises InvalidField."""
        host = self._rules.host(text)
        if project.kind is Kind.WORKER:
            raise InvalidField("domain", "a worker has no address that a domain could lead to")
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            await projects.living(tx, project)
            claims = await domains.of_project(tx, project.id)
            for claim in claims:
                if claim.host == host:
                    return claim
            if len(claims) >= self._max_per_project:
                raise InvalidField(
                    "domain", f"this project has {self._max_per_project} already; remove one"
                )
            claim = Domain(
                host=host,
                project_id=project.id,
                token=new_token(),
                created_at_ms=now_ms,
                next_check_at_ms=now_ms + _MIN_PAUSE_MS,
            )
            await domains.add(tx, claim)
        return claim

    async def of_project(self, project: Project) -> list[Domain]:
        """Returns the project's claims, oldest first."""
        return await domains.of_project(self._db, project.id)

    async def verify(self, project: Project, text: str) -> Domain:
        """Checks a claim's record now; returns the claim afterwards.

        Raises DomainNotFound and RateLimited.
        """
        claim = await self._claim(project, text)
        await self._asks.check(f"{claim.project_id} {claim.host}")
        return await self._look(claim)

    async def remove(self, project: Project, text: str) -> Domain:
        """Removes a claim and the domain's route; returns the claim. Raises DomainNotFound."""
        claim = await self._claim(project, text)
        async with self._apps.held(project.id):
            async with self._db.transaction(durable=True) as tx:
                current = await domains.one(tx, host=claim.host, project_id=project.id)
                if current is None:
                    raise DomainNotFound
                await domains.remove(tx, host=claim.host, project_id=project.id)
            if current.status is DomainStatus.VERIFIED:
                await self._addresses.unroute_host(claim.host)
        return current

    async def look_due(self) -> None:
        """Checks the records that are due."""
        due = await domains.due(self._db, now_ms=self._clock.now_ms(), limit=_DUE_AT_ONCE)
        looks = await asyncio.gather(*map(self._look, due), return_exceptions=True)
        for claim, outcome in zip(due, looks, strict=True):
            if isinstance(outcome, Exception) and not isinstance(outcome, DomainNotFound):
                log.warning("domain not looked at", domain=claim.host, error=str(outcome))

    async def _claim(self, project: Project, text: str) -> Domain:
        claim = await domains.one(self._db, host=self._rules.host(text), project_id=project.id)
        if claim is None:
            raise DomainNotFound
        return claim

    async def _look(self, claim: Domain) -> Domain:
        """Checks a claim's record and stores the outcome. Raises DomainNotFound."""
        problem = ""
        try:
            texts = await self._records.look(claim.record_name)
        except LookupFailed as failed:
            problem = f"The name servers could not be asked: {failed}. This says nothing about it."
        else:
            if claim.record_value not in texts:
                problem = _not_found(claim, texts)
        return await self._keep(claim, problem)

    async def _keep(self, claim: Domain, problem: str) -> Domain:
        """Stores the outcome under the locks of the project that claims the host and its holder."""
        while True:
            holder = await domains.project_at(self._db, claim.host) or claim.project_id
            async with self._apps.held(claim.project_id, holder):
                now_held_by = await domains.project_at(self._db, claim.host) or claim.project_id
                if now_held_by == holder:
                    return await self._keep_held(claim, problem)

    async def _keep_held(self, claim: Domain, problem: str) -> Domain:
        """Stores the outcome, under those locks; an empty `problem` verifies the claim."""
        now_ms = self._clock.now_ms()
        async with self._db.transaction(durable=True) as tx:
            current = await domains.one(tx, host=claim.host, project_id=claim.project_id)
            if current is None or current.token != claim.token:
                raise DomainNotFound
            project = await projects.by_id(tx, claim.project_id)
            if project is None or project.status is ProjectStatus.DELETING:
                raise DomainNotFound
            is_new = not problem and current.status is DomainStatus.PENDING
            if is_new:
                await self._take(tx, claim, project, now_ms)
            looked = _looked(current, problem, now_ms)
            if not await domains.store_check(tx, looked):
                raise DomainNotFound  # it was removed since it was read
        if is_new:
            await self._addresses.take_over(claim.host, project)
            log.info("domain verified", domain=claim.host, project=claim.project_id)
            if self._certificates is not None:
                await self._certificates.want(claim.host, project.wallet)
        return looked

    async def _take(self, tx: Transaction, claim: Domain, project: Project, now_ms: int) -> None:
        """Takes the host from the project that has it, and records events for both owners."""
        loser = await domains.project_at(tx, claim.host)
        if loser is not None:
            await domains.remove(tx, host=claim.host, project_id=loser)
            lost = await projects.by_id(tx, loser)
            if lost is not None:
                await _tell(tx, EventKind.DOMAIN_LOST, claim.host, lost, now_ms)
        await _tell(tx, EventKind.DOMAIN_VERIFIED, claim.host, project, now_ms)


def _looked(claim: Domain, problem: str, now_ms: int) -> Domain:
    """Returns the claim as it is after its record was checked."""
    if claim.status is DomainStatus.VERIFIED:
        return msgspec.structs.replace(
            claim, problem=problem, checked_at_ms=now_ms, next_check_at_ms=now_ms + _RECHECK_MS
        )
    if problem:
        return msgspec.structs.replace(
            claim,
            problem=problem,
            checked_at_ms=now_ms,
            next_check_at_ms=_next_look(claim, now_ms),
        )
    return msgspec.structs.replace(
        claim,
        status=DomainStatus.VERIFIED,
        problem="",
        verified_at_ms=now_ms,
        checked_at_ms=now_ms,
        next_check_at_ms=now_ms + _RECHECK_MS,
    )


def _next_look(claim: Domain, now_ms: int) -> int | None:
    """Returns when to check a pending claim next: after a tenth of its age, within bounds."""
    age_ms = max(0, now_ms - claim.created_at_ms)
    if age_ms >= _GIVEN_UP_MS:
        return None
    return now_ms + min(max(age_ms // 10, _MIN_PAUSE_MS), _MAX_PAUSE_MS)


def _not_found(claim: Domain, texts: frozenset[str]) -> str:
    if any(text.startswith("moorage-verification=") for text in texts):
        return f"The TXT record {claim.record_name} holds another token."
    if texts:
        return f"The TXT record {claim.record_name} does not hold the token."
    return f"There is no TXT record {claim.record_name}, as far as resolvers know by now."


async def _tell(tx: Transaction, kind: EventKind, host: str, project: Project, now_ms: int) -> None:
    data = {"project_id": project.id, "domain": host}
    await events.record(tx, wallet=project.wallet, kind=kind, data=data, now_ms=now_ms)
