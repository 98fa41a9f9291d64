"""What a path may call a project and a deployment by, and what it tells others."""

import pytest

from moorage.api.http.request import named_deployment, named_project, viewed_deployment
from moorage.errors import DeploymentNotFound, MoorageError, ProjectNotFound, WrongWallet
from moorage.records.deployment import DeploymentStatus
from moorage.storage.database import Database
from support.books.records_fixture import ALICE, BOB, add_deployment, add_project


@pytest.mark.parametrize("spelling", ["shop", "SHOP"])
async def test_project_is_found_by_its_name_in_any_letter_case(db: Database, spelling: str) -> None:
    project = await add_project(db, ALICE, "shop")
    assert (await named_project(db, spelling, wallet=ALICE)).id == project.id
    assert (await named_project(db, project.id, wallet=ALICE)).id == project.id


async def test_name_of_anothers_project_is_answered_as_one_that_nobody_has(db: Database) -> None:
    project = await add_project(db, ALICE, "shop")
    assert await refused(db, "shop", BOB) is await refused(db, "nobodys", BOB) is ProjectNotFound
    assert await refused(db, project.id, BOB) is WrongWallet


async def refused(db: Database, named: str, wallet: str) -> type[MoorageError]:
    with pytest.raises(MoorageError) as error:
        await named_project(db, named, wallet=wallet)
    with pytest.raises(MoorageError) as same:
        await viewed_deployment(db, project=named, deployment="latest", wallet=wallet)
    assert same.type is error.type
    return error.type


async def test_latest_is_the_newest_deployment_whatever_became_of_it(db: Database) -> None:
    project = await add_project(db, ALICE, "shop")
    await add_deployment(db, project, DeploymentStatus.READY, serving=True, created_at_ms=1_000)
    failed = await add_deployment(db, project, DeploymentStatus.FAILED, created_at_ms=2_000)
    for named in ("shop", project.id):
        found = await viewed_deployment(db, project=named, deployment="latest", wallet=ALICE)
        assert found.id == failed.id
    assert await named_deployment(db, "latest", project=project) == failed.id


async def test_latest_of_a_project_without_deployments_is_not_found(db: Database) -> None:
    project = await add_project(db, ALICE, "shop")
    with pytest.raises(DeploymentNotFound):
        await named_deployment(db, "latest", project=project)


async def test_deployment_of_another_project_is_not_found_under_this_name(db: Database) -> None:
    await add_project(db, ALICE, "shop")
    other = await add_deployment(db, await add_project(db, ALICE, "other"))
    with pytest.raises(DeploymentNotFound):
        await viewed_deployment(db, project="shop", deployment=other.id, wallet=ALICE)
