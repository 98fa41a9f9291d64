"""From a paid `POST` to an address that answers, in Docker, beside `docker build` and `docker run`.

The daemon is the tests' own, in namespaces of its own, with one base image for both.
"""

import asyncio
import contextlib
import http.client
import json
import secrets
import tempfile
import time
from pathlib import Path

from deploying import through_gateway
from gateway import gateway
from measure import Row, median, spread
from moorage.engines.images.base_images import DEFAULTS
from support.clients.wallet import HELLO
from support.engines.docker_fixture import BASE, SUBNET, Dockerd, import_base, started_dockerd
from support.gateway.gateway_fixture import DevGateway

ROUNDS = 9
PORT = 3000
_PAUSE_SECONDS = 0.005
_LONGEST_SECONDS = 60.0
_DOCKERFILE = f"""\
FROM {BASE}
WORKDIR /app
COPY . .
USER 1000
ENV PORT={PORT} NODE_ENV=production
CMD ["node", "index.js"]
"""


def run() -> list[Row]:
    """Seconds until the first 200, in turn; the first round of each warms up."""
    with started_dockerd() as dockerd:
        import_base(dockerd)
        settings = {
            "isolation": "docker",
            "docker_host": dockerd.host,
            "run_dir": str(dockerd.shared / "bench"),
            "app_subnet": SUBNET,
            "base_images": json.dumps(dict.fromkeys(DEFAULTS, BASE)),
        }
        with gateway(pinned=False, **settings) as started:
            return asyncio.run(_all(started, dockerd))


async def _all(started: DevGateway, dockerd: Dockerd) -> list[Row]:
    host = _address(dockerd)
    ours, by_hand = [], []
    for number in range(ROUNDS + 1):
        took = await through_gateway(started, HELLO)
        plain = await asyncio.to_thread(_by_hand, dockerd, host)
        if number:
            ours.append(took)
            by_hand.append(plain)
    ratio = median(ours) / median(by_hand)
    return [
        Row(
            "paid POST → 200 in Docker ÷ docker build, docker run, first 200",
            f"{ratio:.2f}×",
            "≤ 1.3×",
            ratio <= 1.3,
            f"{median(ours):.2f} s ÷ {median(by_hand):.2f} s; {spread(ours, 2)} and"
            f" {spread(by_hand, 2)} s",
        )
    ]


def _address(dockerd: Dockerd) -> str:
    """Where what the daemon publishes is reached from here."""
    told = json.loads(dockerd.inside("ip", "-json", "-4", "address", "show", "dev", "up0"))
    return str(told[0]["addr_info"][0]["local"])


def _by_hand(dockerd: Dockerd, host: str) -> float:
    """Builds and runs the same app; its files are new each time, as a deployer's are."""
    name = f"hand-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory)
        for file, text in HELLO.items():
            (source / file).write_text(text)
        (source / "Dockerfile").write_text(_DOCKERFILE)
        (source / "name.txt").write_text(name)
        begun = time.monotonic()
        dockerd.run("build", "--quiet", "--tag", name, str(source))
        dockerd.run("run", "--detach", "--name", name, "--publish", str(PORT), name)
        port = int(dockerd.run("port", name, f"{PORT}/tcp").split()[0].rpartition(":")[2])
        while not _answers(host, port):
            if time.monotonic() - begun > _LONGEST_SECONDS:
                raise TimeoutError(dockerd.run("logs", name))
            time.sleep(_PAUSE_SECONDS)
        took = time.monotonic() - begun
    dockerd.run("rm", "--force", name)
    dockerd.run("image", "rm", name)
    return took


def _answers(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=1)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    return False
