import asyncio
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from yard import HOST, Yard, socket_of

from moorage.address import Address
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.errors import DomainNotFound, InvalidField, ProjectNotFound, RateLimited
from moorage.hosting.addresses.addresses import Addresses, Hosts
from moorage.hosting.addresses.domains import Domains, LookupFailed
from moorage.hosting.keeping.apps import Apps
from moorage.records.domain import Domain, DomainRules, DomainStatus
from moorage.records.project import Kind, Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.database import Database
from support.books.overtaken import OvertakenDatabase
from support.books.records_fixture import ALICE, BOB, add_project
from support.gateway.clock import HOUR_MS, MINUTE_MS
from support.gateway.fakes import app_address
from support.gateway.waiting import until

TARGET = Address("127.0.0.1:3000")
OLD, NEW = "hello.old.example", "hello.new.example"


class Table:
    """Routes in memory."""

    def __init__(self) -> None:
        self.table: dict[str, Address] = {}

    async def point(self, host: str, target: Address) -> None:
        self.table[host] = target

    async def remove(self, host: str) -> None:
        self.table.pop(host, None)

    def target(self, host: str) -> Address | None:
        return self.table.get(host)

    def routes(self) -> dict[str, Address]:
        return dict(self.table)

    async def requests(self, host: str) -> int:
        return 0


def addresses(db: Database, table: Table, *former: str) -> Addresses:
    hosts = Hosts(base_domain="new.example", scheme="http", port=None, former_domains=former)
    return Addresses(db=db, routes=table, hosts=hosts)


async def test_project_is_routed_at_its_old_and_its_new_host(db: Database) -> None:
    table = Table()
    found, project = addresses(db, table, "old.example"), await add_project(db)
    assert await found.project_at(OLD) == project
    await table.point(NEW, TARGET)  # as the start before left it
    assert not found.routes_to(project, TARGET, proved=())
    await found.route(project, TARGET)
    assert table.table == {NEW: TARGET, OLD: TARGET}
    assert found.routes_to(project, TARGET, proved=())
    await found.unroute(project)
    assert table.table == {}


async def test_start_removes_routes_below_a_domain_that_was_retired(db: Database) -> None:
    table = Table()
    table.table = {NEW: TARGET, OLD: TARGET}
    await add_project(db)
    await addresses(db, table).sweep()
    assert table.table == {NEW: TARGET}


def test_nobody_claims_a_host_below_a_former_domain() -> None:
    rules = DomainRules(
        base_domains=("new.example", "old.example"),
        gateway_host="gateway.example",
        max_length=80,
    )
    for host in ("a.old.example", "old.example"):
        with pytest.raises(InvalidField, match=r"old\.example"):
            rules.host(host)
    assert rules.host("a.elsewhere.example") == "a.elsewhere.example"


SHOP = "shop.example"
RECORD = "_moorage.shop.example"
DAY_MS = 24 * HOUR_MS


class Zone:
    """DNS as the test says: texts by name; a failure instead of an answer; a gate to wait at."""

    def __init__(self) -> None:
        self.texts: dict[str, set[str]] = {}
        self.failure: LookupFailed | None = None
        self.gate: asyncio.Event | None = None
        self.asked: list[str] = []

    async def look(self, name: str) -> frozenset[str]:
        self.asked.append(name)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return frozenset(self.texts.get(name, ()))

    def set(self, *claims: Domain) -> None:
        """The records that prove these claims, and no others."""
        self.texts = {}
        for claim in claims:
            value = f"moorage-verification={claim.token}"
            self.texts.setdefault(f"_moorage.{claim.host}", set()).add(value)


@pytest.fixture
def zone() -> Zone:
    return Zone()


@pytest.fixture
def domains(yard: Yard, zone: Zone) -> Domains:
    return domains_of(yard, zone, yard.db)


def domains_of(yard: Yard, zone: Zone, db: Database) -> Domains:
    return Domains(
        db=db,
        records=zone,
        addresses=yard.addresses,
        certificates=yard.certificates,
        apps=Apps(clock=yard.clock),  # a gateway's own
        rules=DomainRules(
            base_domains=("example.com",), gateway_host="gate.example", max_length=91
        ),
        max_per_project=3,
        asks=MemoryRateLimiter(clock=yard.clock, limit=6),
        clock=yard.clock,
    )


@pytest.fixture
async def rival(yard: Yard) -> Project:
    return await add_project(yard.db, BOB, "rival", status=ProjectStatus.QUEUED)


async def told(yard: Yard, wallet: str) -> list[tuple[str, object]]:
    found = await events.of_wallet(yard.db, wallet, after=0, limit=100)
    return [(event.kind.value, event.data["domain"]) for event in found if "domain" in event.data]


async def test_domain_leads_nowhere_until_its_record_is_found(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    app = await yard.serving(project)
    claim = await domains.claim(project, "Shop.Example.")
    assert (claim.host, claim.status) == (SHOP, DomainStatus.PENDING)

    looked = await domains.verify(project, SHOP)
    assert (looked.status, zone.asked) == (DomainStatus.PENDING, [RECORD])
    assert looked.problem == (
        "There is no TXT record _moorage.shop.example, as far as resolvers know by now."
    )
    assert yard.routes.table == {HOST: socket_of(app)}
    assert await yard.addresses.project_at(SHOP) is None

    zone.set(claim)
    assert (await domains.verify(project, SHOP)).status is DomainStatus.VERIFIED
    assert yard.routes.table == {HOST: socket_of(app), SHOP: socket_of(app)}
    found = await yard.addresses.project_at(SHOP)
    assert found is not None
    assert found.id == project.id
    assert await told(yard, ALICE) == [("domain.verified", SHOP)]


async def test_claim_given_up_at_another_gateway_while_it_is_proved_leads_nowhere(
    yard: Yard, zone: Zone, project: Project, db_path: Path
) -> None:
    await yard.serving(project)
    with closing(OvertakenDatabase(db_path)) as overtaken:
        domains = domains_of(yard, zone, overtaken)
        zone.set(await domains.claim(project, SHOP))
        overtaken.overtaking = lambda: domains_of(yard, zone, yard.db).remove(project, SHOP)
        with pytest.raises(DomainNotFound):
            await domains.verify(project, SHOP)
    assert SHOP not in yard.routes.table


async def test_claim_made_again_keeps_its_token(domains: Domains, project: Project) -> None:
    assert await domains.claim(project, SHOP) == await domains.claim(project, SHOP)


async def test_tokens_of_two_projects_differ(
    domains: Domains, project: Project, rival: Project
) -> None:
    first, second = await domains.claim(project, SHOP), await domains.claim(rival, SHOP)
    assert first.token != second.token


@pytest.mark.parametrize("texts", [{"moorage-verification=0000"}, {"v=spf1 -all"}])
async def test_record_of_other_text_proves_nothing(
    domains: Domains, zone: Zone, project: Project, texts: set[str]
) -> None:
    await domains.claim(project, SHOP)
    zone.texts[RECORD] = texts
    looked = await domains.verify(project, SHOP)
    assert looked.status is DomainStatus.PENDING
    assert "token" in looked.problem


async def test_lookup_that_fails_says_nothing_about_a_verified_domain(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    app = await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)

    zone.failure = LookupFailed("no answer within 5 s")
    looked = await domains.verify(project, SHOP)
    assert looked.status is DomainStatus.VERIFIED
    assert "no answer within 5 s" in looked.problem
    assert yard.routes.table[SHOP] == socket_of(app)


async def test_verified_domain_whose_record_is_gone_stays(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    app = await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)
    zone.set()
    yard.clock.advance(100 * DAY_MS)
    await domains.look_due()
    (domain,) = await domains.of_project(project)
    assert domain.status is DomainStatus.VERIFIED
    assert domain.problem.startswith("There is no TXT record")
    assert yard.routes.table[SHOP] == socket_of(app)


async def test_claim_of_another_disturbs_nobody(
    yard: Yard, domains: Domains, zone: Zone, project: Project, rival: Project
) -> None:
    app = await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)

    await domains.claim(rival, SHOP)
    assert (await domains.verify(rival, SHOP)).status is DomainStatus.PENDING
    assert yard.routes.table[SHOP] == socket_of(app)
    await domains.remove(rival, SHOP)
    assert yard.routes.table[SHOP] == socket_of(app)
    assert await told(yard, ALICE) == [("domain.verified", SHOP)]


async def test_who_proves_control_takes_the_domain_over(
    yard: Yard, domains: Domains, zone: Zone, project: Project, rival: Project
) -> None:
    await yard.serving(project)
    old = await domains.claim(project, SHOP)
    zone.set(old)
    await domains.verify(project, SHOP)
    new = await domains.claim(rival, SHOP)
    zone.set(old, new)  # both records are there

    assert (await domains.verify(rival, SHOP)).status is DomainStatus.VERIFIED

    found = await yard.addresses.project_at(SHOP)
    assert found is not None
    assert found.id == rival.id
    assert SHOP not in yard.routes.table  # the new one serves nothing yet
    assert await domains.of_project(project) == []
    assert await told(yard, ALICE) == [("domain.verified", SHOP), ("domain.lost", SHOP)]
    assert await told(yard, BOB) == [("domain.verified", SHOP)]
    # The old record is worth nothing any more: a new claim has a new token.
    again = await domains.claim(project, SHOP)
    assert again.token != old.token
    assert (await domains.verify(project, SHOP)).status is DomainStatus.PENDING


async def test_record_found_for_a_claim_given_up_meanwhile_proves_nothing(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    zone.gate = asyncio.Event()
    looking = asyncio.create_task(domains.verify(project, SHOP))
    await until(lambda: bool(zone.asked))
    await domains.remove(project, SHOP)
    await domains.claim(project, SHOP)
    zone.gate.set()
    with pytest.raises(DomainNotFound):
        await looking
    assert SHOP not in yard.routes.table


async def test_removed_domain_leads_nowhere(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)
    await domains.remove(project, SHOP)
    assert set(yard.routes.table) == {HOST}
    assert await yard.addresses.project_at(SHOP) is None
    with pytest.raises(DomainNotFound):
        await domains.remove(project, SHOP)
    with pytest.raises(DomainNotFound):
        await domains.verify(project, SHOP)


async def test_project_claims_no_more_than_its_share(domains: Domains, project: Project) -> None:
    for number in range(3):
        await domains.claim(project, f"{number}.example")
    with pytest.raises(InvalidField, match="3 already"):
        await domains.claim(project, "3.example")
    await domains.claim(project, "0.example")
    await domains.remove(project, "0.example")
    await domains.claim(project, "3.example")


async def test_project_being_deleted_claims_and_gets_nothing(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    zone.set(await domains.claim(project, SHOP))
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    with pytest.raises(ProjectNotFound):
        await domains.claim(project, "other.example")
    with pytest.raises(DomainNotFound):
        await domains.verify(project, SHOP)
    assert await yard.addresses.project_at(SHOP) is None


async def test_deleted_project_frees_its_domains(
    yard: Yard, domains: Domains, zone: Zone, project: Project, rival: Project
) -> None:
    await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)
    await yard.deletion.delete(project)
    assert yard.routes.table == {}
    assert await domains.of_project(project) == []
    zone.set(await domains.claim(rival, SHOP))
    assert (await domains.verify(rival, SHOP)).status is DomainStatus.VERIFIED
    assert ("domain.lost", SHOP) not in await told(yard, ALICE)


async def test_looks_that_are_asked_for_are_rationed(domains: Domains, project: Project) -> None:
    await domains.claim(project, SHOP)
    for _ in range(6):
        await domains.verify(project, SHOP)
    with pytest.raises(RateLimited):
        await domains.verify(project, SHOP)


async def test_pending_domain_is_looked_at_with_growing_pauses_for_a_week(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    await domains.claim(project, SHOP)
    looks: list[int] = []
    for minute in range(9 * 24 * 60):
        yard.clock.advance(MINUTE_MS)
        before = len(zone.asked)
        await domains.look_due()
        if len(zone.asked) > before:
            looks.append(minute)
    pauses = [later - earlier for earlier, later in pairwise(looks)]
    assert looks[0] == 0
    assert max(pauses) <= 61
    assert pauses[:5] == [1] * 5
    assert pauses[-1] >= 60
    assert 7 * 24 * 60 <= looks[-1] <= 7 * 24 * 60 + 61  # then it is given up
    assert 150 < len(looks) < 400
    (claim,) = await domains.of_project(project)
    zone.set(claim)
    assert (await domains.verify(project, SHOP)).status is DomainStatus.VERIFIED


async def test_record_set_later_is_found_without_asking(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    app = await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.look_due()
    assert zone.asked == []  # it is too soon
    yard.clock.advance(MINUTE_MS)
    await domains.look_due()
    assert yard.routes.table[SHOP] == socket_of(app)


async def test_verified_domain_is_looked_at_once_a_day(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)
    zone.asked.clear()
    for _ in range(48):
        yard.clock.advance(HOUR_MS)
        await domains.look_due()
    assert len(zone.asked) == 2


async def test_one_domain_that_fails_keeps_no_other_from_being_looked_at(
    yard: Yard, domains: Domains, zone: Zone, project: Project, rival: Project
) -> None:
    gone = await domains.claim(project, SHOP)
    other = await domains.claim(rival, "other.example")
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.DELETING)
    zone.set(gone, other)
    yard.clock.advance(MINUTE_MS)
    await domains.look_due()
    (found,) = await domains.of_project(rival)
    assert found.status is DomainStatus.VERIFIED


async def test_all_addresses_of_a_project_move_together(
    yard: Yard, domains: Domains, zone: Zone, project: Project
) -> None:
    app = await yard.serving(project)
    zone.set(await domains.claim(project, SHOP))
    await domains.verify(project, SHOP)
    async with yard.db.transaction(durable=True) as tx:
        await projects.set_status(tx, project.id, ProjectStatus.ACTIVE)
    yard.routes.table[SHOP] = app_address("stale")  # as a crash may leave it

    await yard.reconcile()

    assert yard.routes.table == {HOST: socket_of(app), SHOP: socket_of(app)}


async def test_start_mends_what_a_crash_left_of_domains_that_changed_hands(
    yard: Yard, domains: Domains, zone: Zone, project: Project, rival: Project
) -> None:
    app = await yard.serving(project)
    zone.set(await domains.claim(rival, SHOP))
    await domains.verify(rival, SHOP)
    yard.routes.table[SHOP] = yard.routes.table["gone.example"] = socket_of(app)
    await yard.addresses.sweep()
    assert yard.routes.table == {HOST: socket_of(app)}


async def test_worker_takes_no_domain(domains: Domains, project: Project) -> None:
    worker = msgspec.structs.replace(project, kind=Kind.WORKER)
    with pytest.raises(InvalidField, match="no address"):
        await domains.claim(worker, SHOP)
