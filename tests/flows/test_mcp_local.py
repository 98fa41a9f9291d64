"""The local server: an agent with tools alone deploys, changes, reads, rolls back and deletes."""

from pathlib import Path

import pytest

from support.clients.mcp_client import Tools, local_tools
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

APP = (
    "console.log('said ' + process.env.WORD);"
    "require('http').createServer((_, res) => res.end(process.env.WORD)).listen(process.env.PORT)"
)


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


@pytest.fixture
def app(tmp_path: Path) -> str:
    directory = tmp_path / "app"
    directory.mkdir()
    (directory / "index.js").write_text(APP)
    return str(directory)


def environment(wallet: Wallet, tmp_path: Path, **more: str) -> dict[str, str]:
    urls = {
        f"rpc_url_{name}": str(chain["rpc_url"])
        for name, chain in wallet.gateway.info["chains"].items()
    }
    return urls | {"private_key": wallet.key, "state_dir": str(tmp_path / "state")} | more


async def test_an_agent_does_all_of_it_by_tools(
    dev_gateway: DevGateway, wallet: Wallet, app: str, tmp_path: Path
) -> None:
    name = fresh_name()
    async with local_tools(dev_gateway.url, **environment(wallet, tmp_path)) as tools:
        priced = await tools.ok("quote", directory=app, name=name)
        assert (priced["amount_usd"], priced["payment_required"]) == (0.5, True)

        settings = {"runEnvs": {"WORD": "first"}}
        deployed = await tools.ok("deploy", directory=app, name=name, settings=settings)
        assert (deployed["paid"]["amount_token"], deployed["status"]) == ("500000", "deploying")
        project, first = deployed["project_id"], deployed["deployment_id"]
        ready = await tools.until_settled(project, first)
        assert (ready["status"], await wallet.visit(name)) == ("ready", (200, "first"))

        changed = await tools.ok("set_variables", project=project, variables={"WORD": "second"})
        assert "second" not in str(changed)
        second = changed["deployment_id"]
        assert (await tools.until_settled(project, second))["status"] == "ready"
        assert await wallet.visit(name) == (200, "second")
        assert await said(tools, project, second) == ["said second"]

        back = await tools.ok("rollback", project=project, deployment=first)
        await tools.until_settled(project, back["deployment_id"])
        assert await wallet.visit(name) == (200, "first")

        await what_else_may_be_asked(tools, project, back["deployment_id"])
        await deleted_once_confirmed(tools, project, name)
    assert len(await payments(dev_gateway, wallet)) == 1


async def said(tools: Tools, project: str, deployment: str) -> list[str]:
    """What the app wrote, once it is there."""
    after, texts = "0", list[str]()
    while not texts:
        page = await tools.ok("get_logs", project=project, deployment=deployment, after=after)
        texts += [line["text"] for line in page["lines"]]
        after = page["next"]
    return texts


async def what_else_may_be_asked(tools: Tools, project: str, deployment: str) -> None:
    shown = await tools.ok("get_project", project=project)
    assert (shown["id"], shown["run_env_names"]) == (project, ["WORD"])
    assert [each["id"] for each in (await tools.ok("list_projects"))["projects"]] == [project]
    restarted = await tools.ok("restart", project=project)
    await tools.until_settled(project, restarted["deployment_id"])
    over = await tools.refused("cancel", project=project, deployment=deployment)
    assert over["code"] == "deployment_over"
    adopted = await tools.ok("adopt", project=project)
    assert (adopted["status"], adopted["moved_usd"]) == ("adopted", 0)  # it shared them before
    assert (await tools.ok("domains", project=project))["domains"] == []
    missing = await tools.refused("domains", project=project, action="add")
    assert missing["code"] == "arguments_invalid"
    assert (await tools.ok("usage", project=project))["totals"]["requests"] >= 0
    happened = [event["type"] for event in (await tools.ok("events"))["events"]]
    assert "deployment.ready" in happened


async def deleted_once_confirmed(tools: Tools, project: str, name: str) -> None:
    for arguments in ({}, {"confirm_name": "another"}):
        preview = await tools.ok("delete_project", project=project, **arguments)
        assert (preview["status"], preview["preview"]) == ("not deleted", True)
    gone = await tools.ok("delete_project", project=project, confirm_name=name)
    assert gone["status"] == "deleted"
    assert (await tools.refused("get_project", project=project))["code"] == "project_not_found"


async def payments(gateway: DevGateway, wallet: Wallet) -> list[str]:
    answer = await wallet.call("GET", "/agent/credits?limit=100")
    return [each["id"] for each in answer.body["ledger"] if each["kind"] == "payment"]
