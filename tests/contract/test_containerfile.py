"""Moorage's own image, run as in a cluster."""

import asyncio
import contextlib
import json
import subprocess
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import moorage
from support.chains.rpc_proxy import RpcProxy
from support.engines.docker_fixture import Dockerd
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import cluster_options, make_engine
from support.engines.own_image_fixture import IMAGE, OwnImage
from support.gateway.waiting import until

pytestmark = pytest.mark.root

HEALTH = "{{.State.Running}} {{.State.Health.Status}}"
ANSWERING = """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

HTTPServer(("127.0.0.1", 8402), Handler).serve_forever()
"""


def test_image_runs_the_command_line_as_a_user_that_is_not_root(image: OwnImage) -> None:
    assert image.run("--version").split()[-1] == moorage.__version__
    found = json.loads(image.dockerd.run("image", "inspect", IMAGE))[0]["Config"]
    user, _, group = found["User"].partition(":")
    assert int(user) > 0 < int(group)
    assert image.python("import os; print(os.getuid(), os.getgid())") == "1000 1000"


def test_what_the_gateway_runs_is_in_the_image_and_what_built_it_is_not(image: OwnImage) -> None:
    code = "import shutil as s; print([n for n in ('caddy', 'uv', 'pip', 'hatch') if s.which(n)])"
    assert image.python(code) == "['caddy', 'uv']"
    code = "import importlib.util as u; print([n for n in ('pip', 'hatchling') if u.find_spec(n)])"
    assert image.python(code) == "[]"
    assert image.python("import moorage; print(moorage.__version__)") == moorage.__version__
    code = "import pathlib; print([str(p) for p in pathlib.Path('/').glob('*.key')])"
    assert image.python(code) == "[]"


def test_directory_of_data_is_its_users_alone(image: OwnImage) -> None:
    code = "import os; s = os.stat('.'); print(os.getcwd(), oct(s.st_mode & 0o777), s.st_uid)"
    assert image.python(code) == "/var/lib/moorage 0o700 1000"


def test_gateway_without_its_configuration_says_which_file_is_missing(image: OwnImage) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        image.run()
    assert b"/etc/moorage/moorage.toml" in refused.value.stderr


@pytest.mark.parametrize(
    ("code", "state"),
    [(ANSWERING, "healthy"), ("input()", "unhealthy")],
    ids=["answering", "silent"],
)
async def test_health_is_whether_the_api_answers(image: OwnImage, code: str, state: str) -> None:
    """For the test it asks each second, not each ten, and gives up after one refusal."""
    options = ("--health-interval", "1s", "--health-start-period", "1s", "--health-retries", "1")
    name = image.run(
        *("-c", code), options=("--detach", "--interactive", "--entrypoint", "python3", *options)
    )

    def told() -> str:
        return image.dockerd.run("inspect", "--format", "{{.State.Health.Status}}", name).strip()

    try:
        await until(lambda: told() == state)
    finally:
        image.dockerd.run("rm", "--force", name)


@asynccontextmanager
async def reached_from_containers(dockerd: Dockerd, url: str) -> AsyncIterator[str]:
    """A server of this machine's loopback, where containers reach it."""
    target = urlsplit(url)
    (route,) = json.loads(dockerd.inside("ip", "-json", "route", "show", "default"))

    async def relay(reader: StreamReader, writer: StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)
        with contextlib.suppress(ConnectionError):
            await asyncio.gather(_passed_on(reader, back), _passed_on(there, writer))

    server = await asyncio.start_server(relay, route["gateway"], 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield target._replace(netloc=f"{route['gateway']}:{port}").geturl()


async def _passed_on(reader: StreamReader, writer: StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()
    writer.close()


CONFIGURATION = """
[api]
public_url = "http://127.0.0.1:8402"

[payments]
pay_to = "0x7EA5000000000000000000000000000000000001"

[chains.arbitrum]
rpc_urls = ["{node}"]

[machine]
isolation = "kubernetes"

[kubernetes]
kubernetes_config = "/etc/moorage/kubeconfig"
kubernetes_namespace = "{prefix}"
kubernetes_registry = "registry.example/apps"
kubernetes_own_image = "{own_image}"
kubernetes_builder = "buildkit+unix:///nowhere"
kubernetes_gateway_networks = ["10.0.0.0/8"]
"""


async def test_gateway_serves_as_a_restricted_pod_would_and_ends_at_sigterm(
    image: OwnImage,
    fake_cluster: Cluster,
    arbitrum_proxy: RpcProxy,
    tmp_path: Path,
) -> None:
    dockerd = image.dockerd
    arbitrum_proxy.alter = lambda method, result: (
        "nitro" if method == "web3_clientVersion" else result
    )
    options = cluster_options(fake_cluster)
    make_engine(fake_cluster, tmp_path / "unused")  # gives the cluster the image of the self-test
    async with (
        reached_from_containers(dockerd, arbitrum_proxy.url) as node,
        reached_from_containers(dockerd, fake_cluster.url) as server,
    ):
        kubeconfig = fake_cluster.kubeconfig().read_text().replace(fake_cluster.url, server)
        configured = Path(tempfile.mkdtemp(dir=dockerd.shared))
        configured.chmod(0o755)
        (configured / "kubeconfig").write_text(kubeconfig)
        text = CONFIGURATION.format(node=node, prefix=options.prefix, own_image=options.own_image)
        (configured / "moorage.toml").write_text(text)
        name = await asyncio.to_thread(
            dockerd.run,
            *("run", "--detach", "--health-interval", "1s"),
            *("--volume", f"{configured}:/etc/moorage:ro", "--read-only", "--tmpfs", "/tmp"),
            *("--tmpfs", "/var/lib/moorage:uid=1000,gid=1000,mode=700"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", IMAGE),
        )
        name = name.strip()
        state = partial(dockerd.run, "inspect", name, "--format")

        async def is_healthy() -> bool:
            running, health = (await asyncio.to_thread(state, HEALTH)).split()
            assert running == "true", image.said(name)
            return health == "healthy"

        try:
            await until(is_healthy, pause_seconds=0.2)
            await asyncio.to_thread(dockerd.run, "stop", "--time", "60", name)
            assert state("{{.State.ExitCode}}").strip() == "0", image.said(name)
        finally:
            dockerd.run("rm", "--force", name)
