"""An app without a certificate is served over plain HTTP, and free, until one can be had."""

import pytest
from yard import HOST, Yard

from moorage.errors import FailureCause
from moorage.hosting.addresses.addresses import Hosts
from moorage.hosting.addresses.domains import Uncertified
from moorage.records.deployment import DeploymentStatus
from moorage.records.domain import Domain, DomainStatus
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import certificates, domains
from moorage.storage.money import accounts
from support.books.records_fixture import ALICE, add_project, fund
from support.gateway.clock import HOUR_MS

AN_HOUR = 685  # micro-USD at $0.50 a month


async def silent() -> bool:
    return False


@pytest.fixture
async def plain(yard: Yard, project: Project) -> Yard:
    """Served over plain HTTP, as the authority gives nothing."""
    await fund(yard.db, ALICE, 10 * AN_HOUR)
    yard.gives_certificates, yard.answers_plain = False, True
    await yard.queued(project)
    await yard.deployed()
    return yard


async def told(yard: Yard, kind: EventKind) -> list[dict[str, object]]:
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=100)
    return [dict(each.data) for each in found if each.kind is kind]


async def look(yard: Yard) -> None:
    await yard.services.uncertified.look()


async def test_app_is_ready_over_plain_http_and_says_so(plain: Yard, project: Project) -> None:
    current = await plain.project(project)
    assert current.status is ProjectStatus.ACTIVE
    assert current.serving_deployment_id is not None
    deployment = await plain.deployment(current.serving_deployment_id)
    assert deployment.status is DeploymentStatus.READY
    assert f"served at http://{HOST}" in deployment.note
    (ready,) = await told(plain, EventKind.DEPLOYMENT_READY)
    assert ready["endpoint"] == f"http://{HOST}"


async def test_certificate_is_wanted_before_the_app_is_built(yard: Yard, project: Project) -> None:
    wanted = []

    def at(step: str) -> None:
        if step == "build":
            wanted.append(yard.steps[:])

    yard.on_step = at
    await yard.queued(project)
    job = await yard.claim()
    await yard.workflow.run(job)
    assert wanted
    asked = await certificates.asked(yard.db, HOST)
    assert asked is not None
    assert asked.asked_at_ms == yard.clock.now_ms()


async def test_all_hosts_of_projects_that_serve_are_wanted_each_day(
    yard: Yard, project: Project
) -> None:
    """So those of a gateway that had no TLS get theirs, and others are renewed."""
    await yard.active(project, billed=False)
    await add_project(yard.db, ALICE, "never-served")
    domain = Domain(
        host="shop.example.net",
        project_id=project.id,
        token="t",
        status=DomainStatus.VERIFIED,
        created_at_ms=1,
    )
    async with yard.db.transaction(durable=True) as tx:
        await domains.add(tx, domain)
    for _ in range(2):
        await yard.services.uncertified.want()
        now_ms = yard.clock.now_ms()
        assert await certificates.asked_since(yard.db, now_ms - 1) == {HOST, "shop.example.net"}
        yard.clock.advance(25 * HOUR_MS)


async def test_nothing_is_charged_until_the_certificate_comes(
    plain: Yard, project: Project
) -> None:
    plain.clock.advance(5 * HOUR_MS)
    await plain.metering.tick()
    await look(plain)
    assert await plain.intervals(project) == []
    assert await told(plain, EventKind.PROJECT_CERTIFIED) == []

    await plain.certify(HOST)
    await look(plain)
    plain.clock.advance(HOUR_MS)
    await plain.metering.tick()
    assert await accounts.balance(plain.db, ALICE) == 9 * AN_HOUR
    assert await told(plain, EventKind.PROJECT_CERTIFIED) == [
        {"project_id": project.id, "endpoint": f"https://{HOST}"}
    ]
    await look(plain)
    assert len(await told(plain, EventKind.PROJECT_CERTIFIED)) == 1


async def test_app_whose_wallet_spent_its_credits_meanwhile_is_suspended_when_the_certificate_comes(
    plain: Yard, project: Project
) -> None:
    async with plain.db.transaction(durable=False) as tx:
        assert await accounts.change_balance(tx, ALICE, -10 * AN_HOUR)
    await plain.certify(HOST)
    await look(plain)
    assert (await plain.project(project)).status is ProjectStatus.SUSPENDED
    assert await plain.intervals(project) == []
    assert await told(plain, EventKind.PROJECT_SUSPENDED) == [{"project_id": project.id}]


async def test_app_is_not_served_free_once_the_gateway_has_no_tls(
    plain: Yard, project: Project
) -> None:
    without = Uncertified(
        db=plain.db,
        certificates=None,
        apps=plain.apps,
        metering=plain.metering,
        hosts=Hosts(base_domain="example.com", scheme="http", port=None),
        clock=plain.clock,
    )
    await without.look()
    await without.look()
    assert len(await plain.intervals(project)) == 1
    assert len(await told(plain, EventKind.PROJECT_CERTIFIED)) == 1


async def test_next_version_that_has_a_certificate_is_charged(
    plain: Yard, project: Project
) -> None:
    plain.gives_certificates = True
    await plain.queued(project)
    await plain.deployed()
    assert (await plain.project(project)).uncertified_since_ms is None
    assert len(await plain.intervals(project)) == 1


async def test_wallet_without_credits_is_not_served_free(yard: Yard, project: Project) -> None:
    yard.gives_certificates, yard.answers_plain = False, True
    await yard.queued(project)
    await yard.deployed()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED


async def test_host_beyond_its_wallets_share_of_certificates_is_not_served_free(
    yard: Yard, project: Project
) -> None:
    yard.gives_certificates, yard.answers_plain = False, True
    async with yard.db.transaction(durable=False) as tx:
        for number in range(20):
            host = f"other-{number}.example.com"
            await certificates.add(tx, host, wallet=ALICE, now_ms=yard.clock.now_ms())
    await yard.queued(project)
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (
        DeploymentStatus.FAILED,
        FailureCause.UNHEALTHY,
    )
    assert "share" in str(failed.reason)


async def test_app_that_fails_over_https_alone_is_not_served_free(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, 10 * AN_HOUR)
    yard.answers, yard.answers_plain = silent, True
    await yard.queued(project)
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (
        DeploymentStatus.FAILED,
        FailureCause.UNHEALTHY,
    )


async def test_address_that_answers_nowhere_fails_as_before(yard: Yard, project: Project) -> None:
    yard.answers = silent
    await yard.queued(project)
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (
        DeploymentStatus.FAILED,
        FailureCause.UNHEALTHY,
    )
