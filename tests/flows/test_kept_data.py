"""Nobody loses data without having been told: warnings, and what a quote says it understood."""

from typing import Any

import pytest

from support.clients.visitor import fetch
from support.clients.wallet import Answer, Wallet, deploy_body, fresh_name
from support.gateway.gateway_fixture import DevGateway
from support.gateway.waiting import until_read

pytestmark = pytest.mark.root

WRITER = """\
const fs = require('fs');
require('http').createServer((request, response) => {
  fs.appendFileSync('visits.txt', 'x');
  response.end(fs.readFileSync('visits.txt', 'utf8'));
}).listen(process.env.PORT);
"""
KEEPER = WRITER.replace("'visits.txt'", "process.env.DATA_DIR + '/visits.txt'")
NOTHING = "require('http').createServer((_, answer) => answer.end()).listen(process.env.PORT);"
PEM = f"-----BEGIN PRIVATE KEY-----\n{'MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEA' * 3}\n"


@pytest.fixture
async def wallet(dev_gateway: DevGateway) -> Wallet:
    return await Wallet(dev_gateway).fund()


def codes(answer: dict[str, Any]) -> list[tuple[str, str]]:
    """Those of the upload; what the running version has written depends on when it is asked."""
    told = answer.get("warnings", ())
    return [(each["code"], each["path"]) for each in told if each["code"] != "files_written"]


def is_told_of_written_files(answer: Answer) -> bool:
    told = {each["code"]: each["message"] for each in answer.body.get("warnings", ())}
    return "has written 1 file (1 KiB)" in told.get("files_written", "")


async def quoted(wallet: Wallet, name: str, files: dict[str, str], **fields: Any) -> Answer:
    body = deploy_body(name, files, **fields)
    return await wallet.call("POST", "/agent/quote", json=body)


async def test_app_that_writes_without_a_volume_is_warned_until_it_has_one(wallet: Wallet) -> None:
    name, files = fresh_name(), {"index.js": WRITER, ".env": "KEY=hunter2"}
    settings = {"runEnvs": {"MODE": "hunter2"}, "buildVars": {"B": "hunter2"}, "port": 8080}
    expected = [("secret_in_upload", ".env"), ("files_not_kept", "index.js")]

    quote = await quoted(wallet, name, files, settings=settings, months=2)
    assert codes(quote.body) == expected
    assert "hunter2" not in str(quote.body)
    assert quote.body["understood"] == {
        "runEnvNames": ["MODE"],
        "buildVarNames": ["B"],
        "volume": False,
        "healthPath": "/",
        "port": 8080,
        "months": 2,
        "directory": "",
        "installCommand": None,
        "buildCommand": None,
        "runCommand": quote.body["plan"]["start"],
        "releaseCommand": None,
        "kind": "web",
        "size": "standard",
    }
    assert codes((await wallet.deploy(name, files, settings=settings)).body) == expected  # the 402
    first = await wallet.deploy_paid(name, files, settings=settings)
    assert codes(first.body) == expected
    assert codes(await wallet.settled(first)) == expected

    # The health check had it write one.
    for ask in (
        lambda: wallet.call("GET", f"/agent/projects/{name}"),
        lambda: wallet.status(first),
        lambda: quoted(wallet, name, files, settings=settings),
    ):
        await until_read(ask, is_told_of_written_files, pause_seconds=2.5)

    volume = {"index.js": KEEPER}, {"volume": True}
    again = await quoted(wallet, name, volume[0], settings=volume[1])
    understood = again.body["understood"]
    assert (understood["runEnvNames"], understood["volume"]) == (["MODE"], True)  # they are kept
    second = await wallet.deploy(name, volume[0], settings=volume[1])
    assert (second.status, codes(second.body)) == (200, [])
    assert codes(await wallet.settled(second)) == []


@pytest.mark.parametrize("directory", ["", "shop/"])
async def test_dockerfile_that_is_not_asked_for_is_told(wallet: Wallet, directory: str) -> None:
    files = {f"{directory}index.js": NOTHING, f"{directory}Dockerfile": "FROM node:20\nCMD node ."}
    quote = await quoted(wallet, fresh_name(), files)
    assert codes(quote.body) == [("dockerfile_ignored", f"{directory}Dockerfile")]
    asked = await quoted(wallet, fresh_name(), files, settings={"hasDockerfile": True})
    assert codes(asked.body) == []


async def test_quote_tells_what_keeps_the_app_from_starting_until_it_is_sent(
    wallet: Wallet,
) -> None:
    files = {"index.js": f"if (!process.env.API_KEY) throw new Error('no API_KEY')\n{NOTHING}"}
    quote = await quoted(wallet, fresh_name(), files)
    assert quote.body["confidence"] == "low"
    (risk,) = quote.body["risks"]
    assert (risk["code"], risk["stops"], risk["variables"]) == (
        *("variable_unset", "start"),
        ["API_KEY"],
    )
    given = await quoted(wallet, fresh_name(), files, settings={"runEnvs": {"API_KEY": "x"}})
    assert given.body["confidence"] == "high"
    assert "risks" not in given.body


async def test_site_serves_no_secret_of_the_upload(wallet: Wallet) -> None:
    name = fresh_name()
    secrets = {"id_rsa": "x", "keys/wallet.json": "{}", "notes.txt": PEM, ".env": "A=1"}
    deployed = await wallet.deploy_paid(name, {"index.html": "hello", "a.txt": "a"} | secrets)
    assert (await wallet.settled(deployed))["status"] == "ready"
    assert {path for _, path in codes(deployed.body)} == set(secrets)
    for path in secrets:
        assert (await fetch(wallet.gateway, name, f"/{path}")).status == 404, path
    assert (await wallet.visit(name)) == (200, "hello")
    assert (await wallet.visit(name, "/a.txt")) == (200, "a")
