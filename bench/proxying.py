"""Through the proxy to an app, beside the same proxy program straight to the app's port."""

import asyncio
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from gateway import funded, gateway
from gateway_fixture import DevGateway
from load import drive, request_bytes, tcp
from measure import Row, median, spread
from moorage.engines.isolation.slots import slot_at
from moorage.engines.sandbox.record import Record
from moorage.gateway.platform.opening import find_tool
from wallet import HELLO

ROUNDS = 7
REQUESTS = 10_000
_HOST = "bench-hello.localhost"
_SUBNET = "10.201.0.0/16"


def run() -> list[Row]:
    """Requests a second over 32 connections that are kept, both in turn."""
    with gateway(pinned=False) as started:
        asyncio.run(_deploy(started))
        ours, straight = _alternate(started)
    ratio = median(ours) / median(straight)
    return [
        Row(
            "through the proxy to an app ÷ Caddy straight to its port",
            f"{ratio:.2f}×",
            "≥ 0.9×",
            ratio >= 0.9,
            f"{median(ours):.0f} ÷ {median(straight):.0f} requests/s; {spread(ours, 0)} and"
            f" {spread(straight, 0)}",
        )
    ]


async def _deploy(started: DevGateway) -> None:
    """An app whose answers have a length, as `load` wants them."""
    wallet = await funded(started)
    status = await wallet.settled(await wallet.deploy_paid("bench-hello", HELLO))
    assert status["status"] == "ready", status


def _alternate(started: DevGateway) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    straight: list[float] = []
    with tempfile.TemporaryDirectory(prefix="moorage-bench-") as directory:
        port = started.proxy_port + 1
        config = Path(directory) / "caddy.json"
        config.write_text(json.dumps(_straight(port, _address(started))))
        command = [str(find_tool("caddy")), "run", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as caddy:
            try:
                _wait(port)
                for _ in range(ROUNDS):
                    ours.append(_rate(started.proxy_port))
                    straight.append(_rate(port))
            finally:
                caddy.terminate()
    return ours, straight


def _rate(port: int) -> float:
    requests = [request_bytes("GET", "/", {}, host=_HOST)] * REQUESTS
    load = drive(port, os.getpid(), requests, expect=200)
    return load.requests / load.seconds


def _address(started: DevGateway) -> str:
    """The app's own address, whose port the kernel forwards to the app's."""
    (directory,) = (started.data_dir / "apps" / "deployments").iterdir()
    record = Record.read(directory)
    assert record is not None
    assert record.slot is not None
    assert record.port is not None
    return f"{slot_at(_SUBNET, record.slot).app_address}:{record.port}"


def _straight(port: int, dial: str) -> dict[str, object]:
    """The least that leads to the app: one route, no log."""
    route = {"handle": [{"handler": "reverse_proxy", "upstreams": [{"dial": dial}]}]}
    server: dict[str, object] = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [route],
        "protocols": ["h1"],
    }
    server["automatic_https"] = {"disable": True}
    return {
        "admin": {"disabled": True},
        "apps": {"http": {"servers": {"straight": server}}},
    }


def _wait(port: int) -> None:
    for _ in range(500):
        try:
            tcp(port).close()
        except ConnectionError:
            time.sleep(0.01)
        else:
            return
