"""What others' validators say of what a stranger finds: nothing."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from support.gateway.gateway_fixture import DevGateway

pytestmark = pytest.mark.root

PROGRAMS = Path(__file__).parent / "node_modules/.bin"
KNOWN = {
    "Realm matches server hostname",  # here it has a port, as a gateway on 443 has not
}
PATIENCE_SECONDS = 240  # only to end a hung test


async def output(program: str, *arguments: str) -> dict[str, Any]:
    """What a program prints, as JSON. By a file: some end before a pipe has taken all of it."""
    with tempfile.TemporaryFile() as out:
        process = await asyncio.create_subprocess_exec(
            str(PROGRAMS / program), *arguments, stdout=out, stderr=asyncio.subprocess.PIPE
        )
        try:
            _, complaints = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        out.seek(0)
        printed = out.read()
    assert printed, complaints.decode()
    told: dict[str, Any] = json.loads(printed)
    return told


async def test_mppx_finds_nothing_wrong(dev_gateway: DevGateway) -> None:
    told = await output("mppx", "validate", dev_gateway.url, "--output-json")

    assert told["discovery"]["valid"], told["discovery"]["checks"]
    assert {check["severity"] for check in told["discovery"]["checks"]} == {"pass"}
    checks = [
        check
        for endpoint in told["endpoints"]
        for kind in ("challenge", "errorHandling")
        for check in endpoint[kind]
    ]
    found = {check["label"] for check in checks if check["severity"] not in ("pass", "skip")}
    assert found <= KNOWN, [check for check in checks if check["label"] in found]
    assert told["summary"]["failed"] == 0
    reached = {endpoint["path"] for endpoint in told["endpoints"] if endpoint["errorHandling"]}
    assert reached >= {"/deploy", "/credits"}


async def test_agentcash_finds_nothing_wrong(dev_gateway: DevGateway) -> None:
    told = await output("discovery", "discover", dev_gateway.url, "--json", "-v")

    found = {warning["code"] for warning in told["warnings"]}
    # A note on `intent`: draft-payment-discovery-00 wants it, this tool takes it for an old form.
    # Another on the number of routes: the two that a stranger pays are named first.
    assert found <= {"L2_PAYMENT_INFO_LEGACY", "L2_ROUTE_COUNT_HIGH"}, told["warnings"]
    by_path = {(each["method"], each["path"]): each for each in told["resources"]}
    deploy = by_path["POST", "/agent/deploy"]
    assert deploy["protocols"] == ["x402", "mpp"]
    assert deploy["priceHint"] == "0.50-12.00 USD"
    assert told["meta"]["guidanceTokens"] < 200
