"""`operator stop` and `retire`: an operator leaves a machine whose gateway is gone."""

import asyncio
import csv
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.clients.wallet import Wallet, fresh_name
from support.engines.remains import of_gateway, processes_saying
from support.gateway.gateway_fixture import DevGateway, moorage, running

pytestmark = pytest.mark.root


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[DevGateway]:
    """A gateway that a test kills; whatever the test comes to, nothing of it runs afterwards."""
    data_dir = tmp_path / "data"
    with running(data_dir, requests_per_minute="100000") as started:
        yield started
    if (data_dir / "dev.json").exists():  # it was killed
        stopping = moorage("operator", "stop", f"--data-dir={data_dir}", env=started.environment())
        stopping.check_returncode()
    for pid in processes_saying(str(data_dir / "chains")):
        os.kill(pid, signal.SIGTERM)


def remains(gateway: DevGateway) -> dict[str, set[str]]:
    """What there is on the machine besides the gateway's records; its services count as well."""
    found = of_gateway(gateway.data_dir, gateway.instance_id)
    serving = processes_saying(str(gateway.data_dir / "proxy"))
    return found | {"files": set(), "proxy": {str(pid) for pid in serving}}


def run_files(gateway: DevGateway) -> list[Path]:
    return list(Path("/run/moorage", gateway.instance_id).rglob("*"))


async def test_nothing_but_data_is_left_of_a_killed_gateway_once_it_is_stopped(
    gateway: DevGateway,
) -> None:
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    deployed = await wallet.deploy_paid(name)
    await wallet.settled(deployed)
    refused, document = await gateway.command("operator", "stop")
    assert (refused, document["exit_code"]) == (1, 1)
    assert await wallet.visit(name) == (200, "hello world")

    gateway.kill()
    assert all(remains(gateway)[kind] for kind in ("processes", "cgroups", "mounts", "proxy"))
    code, document = await gateway.command("operator", "stop", "--reason", "moving house")

    assert (code, document["stopped"]) == (0, {"apps": 1})
    assert {kind: found for kind, found in remains(gateway).items() if found} == {}
    assert run_files(gateway) == []
    assert f"moorage_{gateway.instance_id}" not in await tables()
    _, acts = await gateway.command("operator", "acts")
    assert ("stop", "moving house") in [(act["act"], act["reason"]) for act in acts["acts"]]
    assert await gateway.command("operator", "stop") == (0, {"stopped": {"apps": 0}})
    assert {kind: found for kind, found in remains(gateway).items() if found} == {}

    gateway.start()
    await wallet.until_answers(name)
    assert (await wallet.settled(deployed))["status"] == "ready"


async def test_gateway_is_retired_only_knowingly_while_somebody_is_owed_something(
    gateway: DevGateway, tmp_path: Path
) -> None:
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    await wallet.settled(await wallet.deploy_paid(name))
    gateway.kill()
    books, target = gateway.data_dir / "moorage.db", tmp_path / "books"
    retire = ("operator", "retire", str(target), "--reason", "sold")

    code, document = await gateway.command(*retire)

    assert (code, document["retired"]) == (1, False)
    (owed,) = document["left"]["owed"]
    assert (owed["wallet"], owed["projects"]) == (wallet.address.lower(), [name])
    assert 0 < owed["credits_micro_usd"] < 500_000
    assert not target.exists()
    assert await wallet.visit(name) == (200, "hello world")

    code, document = await gateway.command(*retire, "--i-know")

    assert (code, document["retired"]) == (0, True)
    (after,) = document["left"]["owed"]
    assert 0 < after["credits_micro_usd"] <= owed["credits_micro_usd"]
    assert wallet.address.lower() in (target / "owed.csv").read_text()
    booked = sum(
        int(row["amount_micro_usd"])
        for row in csv.DictReader((target / "ledger.csv").read_text().splitlines())
        if row["account"] == f"wallet:{wallet.address.lower()}"
    )
    assert booked == after["credits_micro_usd"]
    left = of_gateway(gateway.data_dir, gateway.instance_id)
    assert {kind: found for kind, found in (left | remains(gateway)).items() if found} == {}
    assert not [path for path in gateway.data_dir.rglob("*") if path.name == "secrets.key"]
    assert not {"apps", "proxy", "nonces", "sources"} & {*document["kept"]}
    assert books.name in document["kept"]
    assert books.exists()

    with pytest.raises(AssertionError, match="`moorage operator retire` ended"):
        gateway.start()
    gateway.info = {}  # nothing is left to end


async def tables() -> str:
    """The packet filters' tables of this machine."""
    listing = await asyncio.to_thread(
        subprocess.run, ["nft", "list", "tables"], capture_output=True, text=True, check=True
    )
    return listing.stdout
