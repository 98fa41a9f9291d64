"""Each of examples/, zipped as it is and deployed: its page, its JSON and its type of content."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support.clients.visitor import fetch
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway

pytestmark = pytest.mark.root

EXAMPLES = REPOSITORY / "examples"
HAVE_JSON = ("express", "fastapi", "flask")
TITLES = {
    "express": "Hello from Express",
    "fastapi": "Hello from FastAPI",
    "flask": "Hello from Flask",
    "hello-node": "Hello from Node",
    "static": "Hello from plain files",
}


def zipped(directory: Path) -> dict[str, Any]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(directory.rglob("*")):
            archive.write(path, path.relative_to(directory.parent))  # below one folder
    data = base64.b64encode(packed.getvalue()).decode()
    return {"type": "zip", "data": data, "filename": f"{directory.name}.zip"}


def test_every_example_is_tried_here() -> None:
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} - {"agents"} == set(TITLES)


@pytest.mark.parametrize("example", TITLES)
async def test_example_deploys_from_a_zip_and_answers(
    dev_gateway: DevGateway, example: str
) -> None:
    wallet, name = await Wallet(dev_gateway).fund(), fresh_name()
    deployed = await wallet.deploy_paid(name, upload=zipped(EXAMPLES / example))

    status = await wallet.settled(deployed, within_seconds=240)

    assert status["status"] == "ready", status
    assert "message" not in status  # it listens where it is told to
    page = await fetch(dev_gateway, name)
    assert (page.status, page.kind) == (200, "text/html")
    assert f"<h1>{TITLES[example]}</h1>" in page.text
    if example in HAVE_JSON:
        found = await fetch(dev_gateway, name, "/api/hello/you")
        assert found.kind == "application/json"
        assert json.loads(found.text)["hello"] == "you"
    if example == "static":
        style = await fetch(dev_gateway, name, "/style.css")
        assert (style.status, style.kind) == (200, "text/css")
    assert (await fetch(dev_gateway, name, "/no/such/page")).status == 404
