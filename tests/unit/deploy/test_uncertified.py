"""An app without a certificate is served over plain HTTP, and free, until one can be had."""

import pytest
from structlog.testing import capture_logs
from yard import HOST, Yard

from clock import HOUR_MS
from moorage.deploy.addresses import uncertified
from moorage.deploy.addresses.hosts import Hosts
from moorage.deploy.addresses.uncertified import Uncertified
from moorage.errors import FailureCause
from moorage.records.deployment import DeploymentStatus
from moorage.records.event import EventKind
from moorage.records.project import Project, ProjectStatus
from moorage.storage import events
from moorage.storage.apps import projects
from moorage.storage.apps.addresses import certificates
from moorage.storage.money import accounts
from records_fixture import ALICE, add_project, fund

AN_HOUR = 685  # micro-USD at $0.50 a month


async def silent() -> bool:
    return False


async def answering() -> bool:
    return True


@pytest.fixture
async def plain(yard: Yard, project: Project) -> Yard:
    """Served over plain HTTP, as the authority gives nothing."""
    await fund(yard.db, ALICE, 10 * AN_HOUR)
    yard.answers, yard.plain.answers = silent, True
    await yard.queued(project)
    await yard.deployed()
    return yard


async def told(yard: Yard, kind: EventKind) -> list[dict[str, object]]:
    found = await events.of_wallet(yard.db, ALICE, after=0, limit=100)
    return [dict(each.data) for each in found if each.kind is kind]


async def retry(yard: Yard) -> None:
    await yard.services.uncertified.retry()


async def test_app_is_ready_over_plain_http_and_says_so(plain: Yard, project: Project) -> None:
    current = await plain.project(project)
    assert (current.status, plain.plain.hosts) == (ProjectStatus.ACTIVE, {HOST})
    assert current.serving_deployment_id is not None
    deployment = await plain.deployment(current.serving_deployment_id)
    assert deployment.status is DeploymentStatus.READY
    assert f"served at http://{HOST}" in deployment.note
    (ready,) = await told(plain, EventKind.DEPLOYMENT_READY)
    assert ready["endpoint"] == f"http://{HOST}"


async def test_many_that_wait_have_their_turns_a_few_at_a_time(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncertified, "MAX_AT_A_TIME", 2)
    waiting = [await add_project(yard.db, ALICE, f"app-{place}") for place in range(5)]
    async with yard.db.transaction(durable=True) as tx:
        for place, each in enumerate(waiting):
            await projects.set_uncertified(tx, each.id, since_ms=1 + place)
    yard.plain.certified = {"app-1.example.com"}
    with capture_logs() as logs:
        for _ in range(3):
            await retry(yard)
            yard.clock.advance(1000)
    asked = [host.partition(".")[0] for host in yard.plain.asked]
    assert asked == ["app-0", "app-1", "app-2", "app-3", "app-4", "app-0"]
    lines = [line for line in logs if line["event"] == "certificates were asked for"]
    assert [(line["came"], line["missing"]) for line in lines] == [(1, 4), (0, 4), (0, 4)]


async def test_nothing_is_charged_until_the_certificate_comes(
    plain: Yard, project: Project
) -> None:
    plain.clock.advance(5 * HOUR_MS)
    await plain.metering.tick()
    await retry(plain)
    assert await plain.intervals(project) == []
    assert await told(plain, EventKind.PROJECT_CERTIFIED) == []

    plain.plain.has_certificates = True
    await retry(plain)
    plain.clock.advance(HOUR_MS)
    await plain.metering.tick()
    assert await accounts.balance(plain.db, ALICE) == 9 * AN_HOUR
    assert await told(plain, EventKind.PROJECT_CERTIFIED) == [
        {"project_id": project.id, "endpoint": f"https://{HOST}"}
    ]
    await retry(plain)
    assert plain.plain.hosts == set()
    assert len(await told(plain, EventKind.PROJECT_CERTIFIED)) == 1


async def test_app_whose_wallet_spent_its_credits_meanwhile_is_suspended_when_the_certificate_comes(
    plain: Yard, project: Project
) -> None:
    async with plain.db.transaction(durable=False) as tx:
        assert await accounts.change_balance(tx, ALICE, -10 * AN_HOUR)
    plain.plain.has_certificates = True
    await retry(plain)
    assert (await plain.project(project)).status is ProjectStatus.SUSPENDED
    assert await plain.intervals(project) == []
    assert await told(plain, EventKind.PROJECT_SUSPENDED) == [{"project_id": project.id}]


async def test_app_is_not_served_free_once_the_gateway_needs_no_authority(
    plain: Yard, project: Project
) -> None:
    """A wildcard certificate, or an authority of its own, has taken the place of the lost one."""
    of_its_own = Uncertified(
        db=plain.db,
        plain=None,
        apps=plain.apps,
        metering=plain.metering,
        hosts=Hosts(base_domain="example.com", scheme="https", port=None),
        clock=plain.clock,
    )
    await of_its_own.retry()
    await of_its_own.retry()
    assert len(await plain.intervals(project)) == 1
    assert len(await told(plain, EventKind.PROJECT_CERTIFIED)) == 1


async def test_next_version_that_has_a_certificate_is_charged(
    plain: Yard, project: Project
) -> None:
    plain.answers = answering
    await plain.queued(project)
    await plain.deployed()
    assert (await plain.project(project)).uncertified_since_ms is None
    assert len(await plain.intervals(project)) == 1


async def test_wallet_without_credits_is_not_served_free(yard: Yard, project: Project) -> None:
    yard.answers, yard.plain.answers = silent, True
    await yard.queued(project)
    await yard.deployed()
    assert (await yard.project(project)).status is ProjectStatus.SUSPENDED


async def test_host_beyond_its_wallets_share_of_certificates_is_not_served_free(
    yard: Yard, project: Project
) -> None:
    yard.answers, yard.plain.answers = silent, True
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
    yard.answers, yard.plain.answers = silent, True
    yard.plain.has_certificates = True
    await yard.queued(project)
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (
        DeploymentStatus.FAILED,
        FailureCause.UNHEALTHY,
    )
    assert yard.plain.hosts == set()


async def test_certificate_that_comes_at_the_last_moment_is_served_and_charged(
    yard: Yard, project: Project
) -> None:
    await fund(yard.db, ALICE, 10 * AN_HOUR)
    yard.plain.has_certificates = True
    given = iter([False, True])

    async def late() -> bool:
        return next(given)

    yard.answers = late
    await yard.queued(project)
    assert (await yard.deployed()).status is DeploymentStatus.READY
    assert len(await yard.intervals(project)) == 1


async def test_address_that_answers_nowhere_fails_as_before(yard: Yard, project: Project) -> None:
    yard.answers = silent
    await yard.queued(project)
    failed = await yard.deployed()
    assert (failed.status, failed.reason_code) == (
        DeploymentStatus.FAILED,
        FailureCause.UNHEALTHY,
    )
