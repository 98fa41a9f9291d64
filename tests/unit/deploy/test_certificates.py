"""Which hosts the proxy may have certificates made for, and how many."""

import pytest
from yard import Yard

from fakes import app_address
from moorage.deploy.addresses.certificates import Certificates
from moorage.records.project import ProjectStatus
from records_fixture import BOB, add_project

DAY_MS = 24 * 3_600_000
SERVING = "some-deployment"


def certificates(yard: Yard, *, per_wallet: int = 3) -> Certificates:
    return Certificates(
        db=yard.db,
        addresses=yard.addresses,
        own_host="gateway.example.net",
        per_wallet=per_wallet,
        clock=yard.clock,
    )


@pytest.mark.parametrize(
    "status", [ProjectStatus.QUEUED, ProjectStatus.BUILDING, ProjectStatus.FAILED]
)
async def test_project_that_never_served_has_none(yard: Yard, status: ProjectStatus) -> None:
    await add_project(yard.db, name="failing", status=status)
    assert not await certificates(yard).may_have("failing.example.com")


async def test_project_has_one_from_the_moment_its_address_is_led_to_its_app(yard: Yard) -> None:
    await add_project(yard.db, name="first", status=ProjectStatus.DEPLOYING)
    asked = certificates(yard)
    assert not await asked.may_have("first.example.com")
    await yard.routes.point("first.example.com", app_address("first"))
    assert await asked.may_have("first.example.com")


@pytest.mark.parametrize("status", [ProjectStatus.ACTIVE, ProjectStatus.SUSPENDED])
async def test_project_that_has_served_has_one_though_it_leads_nowhere_now(
    yard: Yard, status: ProjectStatus
) -> None:
    await add_project(yard.db, name="asleep", status=status, serving_deployment_id=SERVING)
    assert await certificates(yard).may_have("asleep.example.com")


async def test_strangers_names_and_deleted_projects_have_none(yard: Yard) -> None:
    gone = ProjectStatus.DELETING
    await add_project(yard.db, name="gone", status=gone, serving_deployment_id=SERVING)
    asked = certificates(yard)
    hosts = ["gone.example.com", "nobody.example.com", "evil.example", "a.gone.example.com", ""]
    assert [await asked.may_have(host) for host in hosts] == [False] * len(hosts)


async def test_gateways_own_host_always_has_one(yard: Yard) -> None:
    assert await certificates(yard).may_have("gateway.example.net")


async def test_wallet_has_so_many_new_ones_a_week_and_others_theirs(yard: Yard) -> None:
    for number in range(5):
        await add_project(yard.db, name=f"mine-{number}", serving_deployment_id=SERVING)
    await add_project(yard.db, BOB, "theirs", serving_deployment_id=SERVING)
    hosts = [f"mine-{number}.example.com" for number in range(5)]

    asked = certificates(yard, per_wallet=3)
    assert [await asked.may_have(host) for host in hosts] == [True, True, True, False, False]
    assert [await asked.may_have(host) for host in hosts] == [True, True, True, False, False]
    assert await asked.may_have("theirs.example.com")

    yard.clock.advance(6 * DAY_MS)
    assert not await certificates(yard, per_wallet=3).may_have(hosts[3])  # also after a restart
    yard.clock.advance(1 * DAY_MS)
    assert [await asked.may_have(host) for host in hosts] == [True] * 5


async def test_certificate_is_renewed_whatever_else_its_wallet_had(yard: Yard) -> None:
    for name in ("old", "new"):
        await add_project(yard.db, name=name, serving_deployment_id=SERVING)
    asked = certificates(yard, per_wallet=1)
    assert await asked.may_have("old.example.com")
    for _ in range(6):
        yard.clock.advance(60 * DAY_MS)
        await asked.may_have("new.example.com")
        assert await asked.may_have("old.example.com")
