import msgspec

from moorage.records.deployment import DeploymentStatus
from moorage.storage.apps.deployments import toolchains_in_use
from moorage.storage.database import Database
from support.books.records_fixture import PLAN, add_deployment, add_project


def plan(**toolchains: str) -> str:
    return msgspec.json.encode(msgspec.structs.replace(PLAN, toolchains=toolchains)).decode()


async def test_toolchains_of_what_serves_may_again_or_is_under_way_are_in_use(
    db: Database,
) -> None:
    project = await add_project(db)
    ready, failed = DeploymentStatus.READY, DeploymentStatus.FAILED
    await add_deployment(db, project, ready, plan=plan(node="22.0.0"), is_kept=True)
    replaced = DeploymentStatus.SUPERSEDED
    await add_deployment(db, project, replaced, plan=plan(node="20.0.0", pnpm="9.0.0"))
    await add_deployment(db, project, failed, plan=plan(node="14.0.0"), is_kept=True)  # its logs
    await add_deployment(db, project, plan=plan(bun="1.0.0"), is_kept=False)  # queued
    await add_deployment(db, project, failed, plan=plan(deno="2.0.0"), is_kept=False)
    await add_deployment(db, project, ready, plan=plan(), is_kept=True)
    assert await toolchains_in_use(db) == {
        ("node", "22.0.0"), ("node", "20.0.0"), ("pnpm", "9.0.0"), ("bun", "1.0.0"),
    }  # fmt: skip
