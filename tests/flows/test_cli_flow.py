"""The README's job through the real command: deploy, look, delete, each with one JSON document."""

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from support.chains.paying import rpc
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway
from support.gateway.gateway_fixture import moorage as run_moorage

pytestmark = pytest.mark.root

WALLETS = itertools.count()
"""Of dev.json: each test has one of its own, without credits from another; by-hand.py the last."""

FREE_PORTS = dict.fromkeys(
    ("MOORAGE_LISTEN", "MOORAGE_PROXY_LISTEN", "MOORAGE_OPERATOR_LISTEN"), "127.0.0.1:0"
)


TELLS_WORD = (
    "if (process.env.BROKEN) process.exit(3);"
    "require('http').createServer((_, res) => res.end(process.env.WORD)).listen(process.env.PORT)"
)


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """All of stdout, as the one JSON document that it must be."""
        return json.loads(self.out)

    @property
    def stages(self) -> list[str]:
        """Those it told of a deployment, in their order."""
        return [line.strip() for line in self.err.splitlines() if line.startswith("  ")]


def moorage(*arguments: str, cwd: str = str(REPOSITORY), **environment: str) -> Outcome:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOORAGE_")}
    done = run_moorage(*arguments, cwd=Path(cwd), env=clean | environment)
    return Outcome(done.returncode, done.stdout, done.stderr)


class Person:
    """Somebody in a second terminal, with one of dev.json's wallets, or else a key of their own."""

    def __init__(
        self, gateway: DevGateway, state_dir: Path, *, wallet: int = 0, key: str = ""
    ) -> None:
        self.gateway = gateway
        self._flags = ("--data-dir", str(gateway.data_dir), "--wallet", str(wallet))
        self._environment = {"MOORAGE_STATE_DIR": str(state_dir), "MOORAGE_PRIVATE_KEY": key}

    def run(self, *arguments: str) -> Outcome:
        return moorage(*arguments, *self._flags, **self._environment)

    def held(self) -> dict[str, str]:
        """Its USDC by chain."""
        found = self.run("balance", "--json").document
        return {
            chain["chain"]: each["balance"]
            for chain in found["chains"]
            for each in chain["balances"]
            if each["token"] == "usdc"
        }


@pytest.fixture
def person(dev_gateway: DevGateway, tmp_path: Path) -> Person:
    return Person(dev_gateway, tmp_path / "state", wallet=next(WALLETS))


@pytest.fixture
async def newcomer(dev_gateway: DevGateway, tmp_path: Path) -> Person:
    wallet = await Wallet(dev_gateway).fund()
    return Person(dev_gateway, tmp_path / "state", key=wallet.key)


async def visit(gateway: DevGateway, name: str) -> tuple[int, str]:
    return await Wallet(gateway).visit(name)


async def test_gateway_and_key_are_all_that_a_deploy_needs(
    dev_gateway: DevGateway, tmp_path: Path
) -> None:
    """An empty machine: no node of a chain, no configuration, and a wallet without gas."""
    wallet, name = Wallet(dev_gateway), fresh_name()
    chain = dev_gateway.info["chains"]["arbitrum"]
    price = hex(500_000)
    await rpc(chain["rpc_url"], "anvil_dealERC20", wallet.address, chain["tokens"]["usdc"], price)
    machine = {"HOME": str(tmp_path), "XDG_STATE_HOME": "", "MOORAGE_PRIVATE_KEY": wallet.key}
    app = str(REPOSITORY / "examples" / "hello-node")

    deployed = moorage(
        *("deploy", app, "--name", name, "--gateway", dev_gateway.url, "--max-usd", "0.5"),
        "--json",
        cwd=str(tmp_path),
        **machine,
    )

    assert deployed.code == 0, deployed.err
    assert deployed.document["status"] == "ready"
    assert deployed.document["payment"]["amount_token"] == "500000"
    assert (await visit(dev_gateway, name))[0] == 200
    booked = await wallet.call("GET", "/agent/credits")
    paid = [each for each in booked.body["ledger"] if each["kind"] == "payment"]
    assert [each["amount_usd"] for each in paid] == [0.5]


async def test_readmes_job_from_deploy_to_delete(person: Person) -> None:
    name = fresh_name()
    before = person.held()

    deployed = person.run("deploy", "examples/hello-node", "--name", name, "--yes", "--json")

    assert deployed.code == 0, deployed.err
    shown = deployed.document
    assert (shown["status"], shown["name"]) == ("ready", name)
    assert shown["endpoint"] == f"http://{name}.localhost:{person.gateway.proxy_port}"
    assert (shown["payment"]["chain"], shown["payment"]["amount_token"]) == ("arbitrum", "500000")
    assert "$0.50 for 1 month on arbitrum" in deployed.err
    status, page = await visit(person.gateway, name)
    assert (status, "Hello" in page) == (200, True)

    asked = person.run("status", name, "--json")
    assert asked.code == 0
    assert (asked.document["status"], asked.document["endpoint"]) == ("ready", shown["endpoint"])

    listed = person.run("projects", "--json")
    assert listed.code == 0
    mine = {project["name"]: project for project in listed.document["projects"]}[name]
    assert (mine["id"], mine["status"]) == (shown["projectId"], "active")

    after = person.held()
    assert float(before["arbitrum"]) - float(after["arbitrum"]) == pytest.approx(0.5)
    assert after["base"] == before["base"]

    deleted = person.run("delete", name, "--yes", "--json")
    assert (deleted.code, deleted.document["status"]) == (0, "deleted")
    assert (await visit(person.gateway, name))[0] == 404
    gone = person.run("status", name, "--json")
    assert (gone.code, gone.document["exit_code"]) == (5, 5)


def test_dry_run_tells_plan_and_price_and_buys_nothing(person: Person) -> None:
    before, line = person.held(), ("deploy", "examples/fastapi", "--name", fresh_name())

    told = person.run(*line, "--dry-run")
    shown = person.run(*line, "--months", "2", "--dry-run", "--json")

    assert told.code == 0, told.err
    assert "pip install" in told.out
    assert told.out.splitlines()[-1] == "costs:    $0.50"
    assert (shown.document["amount_usd"], shown.document["payment_required"]) == (1, True)
    assert shown.document["plan"]["stack"] == "python"
    assert person.held() == before
    assert person.run("projects", "--json").document["projects"] == []


def test_topup_moves_the_dollars_it_names_credits_them_once_and_is_told_of(person: Person) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/hook"
        made = person.run("webhook", "set", url, "--json")
        assert made.document["secret"].startswith("whsec_")
        before = person.held()

        bought = person.run("topup", "2.5", "--chain", "base", "--yes", "--json")

        assert bought.code == 0, bought.err
        told = person.run("webhook", "show", "--json").document
        assert (told["url"], told["waiting"]) == (url, 1)  # nobody takes it there
    shown = bought.document
    assert (shown["credited_usd"], shown["balance_usd"]) == (2.5, 2.5)
    assert (shown["payment"]["chain"], shown["payment"]["amount_token"]) == ("base", "2500000")
    after = person.held()
    assert float(before["base"]) - float(after["base"]) == pytest.approx(2.5)
    assert after["arbitrum"] == before["arbitrum"]

    tx_hash = shown["payment"]["tx_hash"]
    credits_now = person.run("credits", "--json").document
    assert credits_now["balance_micro_usd"] == 2_500_000
    assert [entry["tx_hash"] for entry in credits_now["ledger"]] == [tx_hash]
    (event,) = person.run("events", "--json").document["events"]
    assert (event["sequence"], event["type"]) == (1, "payment.credited")
    assert event["data"]["tx_hash"] == tx_hash
    assert person.run("events", "--after", "1", "--json").document["events"] == []

    assert person.run("webhook", "remove", "--json").document == {"status": "deleted"}
    assert person.run("webhook", "show", "--json").code == 5


def documents_of(*commands: Sequence[str]) -> list[Any]:
    outcomes = [moorage(*command, "--json", **FREE_PORTS) for command in commands]
    assert [outcome.code for outcome in outcomes] == [0] * len(outcomes), outcomes
    return [outcome.document for outcome in outcomes]


def test_check_and_plan_print_one_document() -> None:
    machine, plan = documents_of(("check",), ("plan", "examples/fastapi"))

    assert machine["ok"] is True
    assert {"linux", "python", "local chains", "isolation"} <= {
        finding["name"] for finding in machine["findings"]
    }
    assert plan["stack"] == "python"
    assert "uvicorn" in plan["start"]


async def test_same_by_hand_with_any_signer(dev_gateway: DevGateway, tmp_path: Path) -> None:
    (tmp_path / ".moorage").symlink_to(dev_gateway.data_dir)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")

    done = subprocess.run(
        [sys.executable, "examples/by-hand.py"],
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )

    asked, paid, accepted, ready = done.stdout.splitlines()
    assert asked.startswith("402 Payment required 0.5 usdc to 0x")
    assert paid.startswith("paid in 0x")
    assert accepted.startswith("200 Deployment started")
    assert ready.startswith("ready http://by-hand-")
    name = ready.removeprefix("ready http://").partition(".")[0]
    assert (await visit(dev_gateway, name))[0] == 200


async def test_earlier_release_is_served_again_by_rollback(person: Person) -> None:
    name = fresh_name()
    deploy = ("deploy", "examples/hello-node", "--name", name, "--yes", "--json")
    first, second = (person.run(*deploy, *more) for more in ((), ("--env", "WORD=two")))
    assert (first.code, second.code) == (0, 0), second.err

    rolled = person.run("rollback", name, "--json")

    assert (rolled.code, rolled.document["status"]) == (0, "ready"), rolled.err
    newest, *older = person.run("deployments", name, "--json").document["deployments"]
    assert newest["id"] == rolled.document["deployment_id"]
    assert (newest["origin"], newest["copyOf"]) == ("rollback", first.document["deploymentId"])
    assert newest["isServing"]
    assert [each["canRollBack"] for each in older] == [True, True]
    nothing = person.run("cancel", name)
    assert nothing.code != 0
    assert "under way" in nothing.err
    assert person.run("delete", name, "--yes").code == 0


def app_in(directory: Path) -> Path:
    directory.mkdir(parents=True)
    (directory / "index.js").write_text(TELLS_WORD)
    return directory


async def test_status_is_the_newest_deployments_whatever_made_it_and_from_wherever(
    newcomer: Person, tmp_path: Path
) -> None:
    name = fresh_name()
    app = app_in(tmp_path / "app")
    deployed = newcomer.run("deploy", str(app), "--name", name, "--yes", "--json")
    assert (deployed.code, deployed.stages[0]) == (0, "queued"), deployed.err

    broken = newcomer.run("env", name, "BROKEN=1", "--json")
    failed = newcomer.run("status", name, "--json", "--state-dir", str(tmp_path / "elsewhere"))

    assert broken.code == failed.code == 1
    assert failed.document["deployment_id"] == broken.document["deploymentId"]
    assert "exit code 3" in failed.document["reason"]
    assert broken.stages[0] == "queued"
    assert "building" not in broken.stages
    newcomer.run("env", name, "--unset", "BROKEN", "MODE=fast")
    ready = newcomer.run("status", name, "--json")
    assert (ready.code, ready.document["status"]) == (0, "ready")
    assert newcomer.run("delete", name, "--yes").code == 0


async def test_app_in_a_directory_is_deployed_and_configured_by_flags(
    newcomer: Person, tmp_path: Path
) -> None:
    name = fresh_name()
    app_in(tmp_path / "repository" / "shop")
    app_in(tmp_path / "repository" / "blog")
    (tmp_path / "word").write_text("from a file\n")
    deploy = ("deploy", str(tmp_path / "repository"), "--name", name, "--yes")
    several = newcomer.run(*deploy)
    assert several.code == 2
    assert "There are apps in blog, shop: set --directory to the one to deploy" in several.err

    deployed = newcomer.run(
        *(*deploy, "--directory", "shop", "--env", f"WORD=@{tmp_path}/word"),
        *("--health-path", "/up", "--json"),
    )

    assert deployed.code == 0, deployed.err
    assert await visit(newcomer.gateway, name) == (200, "from a file")
    changed = newcomer.run("configure", name, "--health-path", "/", "--volume", "--json")
    assert (changed.code, changed.document["outcome"]["status"]) == (0, "ready"), changed.err
    shown = newcomer.run("show", name, "--json").document
    assert (shown["healthPath"], shown["volume"]) == ("/", True)
    assert newcomer.run("delete", name, "--yes").code == 0
