"""Each of examples/, zipped as it is and deployed: its page, its JSON and its type of content."""

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

from support.clients.visitor import fetch
from support.clients.wallet import Wallet, fresh_name
from support.gateway.gateway_fixture import REPOSITORY, DevGateway

EXAMPLES = REPOSITORY / "examples"
TITLES = {
    "express": "Hello from Express",
    "fastapi": "Hello from FastAPI",
    "flask": "Hello from Flask",
    "hello-node": "Hello from Node",
    "static": "Hello from plain files",
}
_HAVE_JSON = ("express", "fastapi", "flask")


def zipped(directory: Path) -> dict[str, Any]:
    """The upload of a directory's files, below one folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(directory.rglob("*")):
            archive.write(path, path.relative_to(directory.parent))
    data = base64.b64encode(packed.getvalue()).decode()
    return {"type": "zip", "data": data, "filename": f"{directory.name}.zip"}


async def deploys_and_answers(gateway: DevGateway, example: str) -> None:
    """Pays for it with a new wallet, and visits it."""
    wallet, name = await Wallet(gateway).fund(), fresh_name()
    deployed = await wallet.deploy_paid(name, upload=zipped(EXAMPLES / example))
    status = await wallet.settled(deployed, within_seconds=240)
    assert status["status"] == "ready", status
    assert "message" not in status  # it listens where it is told to
    page = await fetch(gateway, name)
    assert (page.status, page.kind) == (200, "text/html")
    assert f"<h1>{TITLES[example]}</h1>" in page.text
    if example in _HAVE_JSON:
        found = await fetch(gateway, name, "/api/hello/you")
        assert found.kind == "application/json"
        assert json.loads(found.text)["hello"] == "you"
    if example == "static":
        style = await fetch(gateway, name, "/style.css")
        assert (style.status, style.kind) == (200, "text/css")
    assert (await fetch(gateway, name, "/no/such/page")).status == 404
