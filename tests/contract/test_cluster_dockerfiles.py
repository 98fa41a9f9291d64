"""Dockerfiles for a cluster: a real Docker daemon builds, a real registry keeps, pods run."""

import asyncio
import base64
import gzip
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from moorage.engines.dockerd.daemon import DaemonFailed
from moorage.engines.dockerd.images import ImageOptions
from moorage.engines.dockerd.workshop import Workshop, opened_images
from moorage.engines.engine import BuildSpec, InstanceSpec
from moorage.engines.host.network import probe
from moorage.engines.images.base_images import BaseImages
from moorage.engines.images.reference import parse_reference
from moorage.engines.kubernetes.building.builds import builder_of
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.errors import DeployFailed, FailureCause
from moorage.loop import always
from moorage.operate.check.machine import check_docker
from moorage.planning.plan import Settings
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from moorage.records.deployment import LogKind
from moorage.settings import load_settings
from moorage.uploads.tree import DirectoryTree
from support.engines.docker_fixture import BASE, SUBNET, Dockerd
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import (
    cluster_options,
    host_configuration,
    opened_engine,
)
from support.engines.registry_fixture import RegistryServer, started_registry
from support.engines.runtime_fixture import engine_options
from support.engines.small_apps import LIMITS, MIB, fetch
from support.gateway.ports import quiet_port

pytestmark = pytest.mark.root

OWNER = "0x" + "d0" * 20
USERS = (
    "me:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"  # `htpasswd -nbB me secret`
)
SECRET = "hunter2-is-in-no-layer"
APP = """\
const page = require('fs').readFileSync('page', 'utf8').trim();
const said = `${page} ${process.getuid()}`;
const server = require('http').createServer((_, answer) => answer.end(said));
server.listen(process.env.PORT);
"""
STAGES = f"""\
FROM {BASE} AS build
WORKDIR /made
COPY number .
RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN
RUN echo "page $(cat number)" > page
FROM {BASE}
WORKDIR /srv/own
ENV PATH=/usr/bin:/bin
COPY --from=build /made/page .
COPY index.js .
EXPOSE 80
{{user}}
CMD ["node", "index.js"]
"""


@pytest.fixture(scope="module")
def registry(
    dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    """One registry at one address, in the network of the gateway and in Docker's."""
    directory = tmp_path_factory.mktemp("registry")
    with started_registry(directory / "ours") as server:
        port = int(server.host.rpartition(":")[2])
        inside = ("nsenter", f"--net={dockerd.network}")
        with started_registry(
            directory / "theirs", port=port, storage=server.storage, inside=inside
        ):
            yield server


@pytest.fixture
async def engine(
    dockerd: Dockerd,
    building_cluster: Cluster,
    registry: RegistryServer,
    tmp_path: Path,
    short_run_dir: Path,
) -> AsyncIterator[KubernetesEngine]:
    options = cluster_options(
        building_cluster,
        registry=f"{registry.host}/apps",
        build_port=quiet_port(building_cluster.host),
        memory_bytes=1 << 34,
        docker_host=dockerd.host,
    )
    configuration = host_configuration(tmp_path / "state", short_run_dir)
    builds = replace(
        engine_options(options, base=f"{registry.host}/base:1"),
        subnet=SUBNET,
        local_images=True,
        dockerfile_registries=("*",),
        total_cache_bytes=1 << 30,
    )
    made = KubernetesEngine(
        configuration,
        options,
        keeps=always,
        make_builder=partial(builder_of, configuration, builds),
    )
    async with opened_engine(made) as opened:
        yield opened
    assert list(short_run_dir.glob("*.build")) == []
    hierarchy = probe.hierarchy()
    assert hierarchy is not None
    groups = hierarchy.mounts["memory"] / f"moorage-{configuration.instance_id}"
    assert not groups.exists()
    assert configuration.instance_id not in dockerd.inside("nft", "list", "tables")


class Deploys:
    """What somebody deploys, version by version."""

    def __init__(self, engine: KubernetesEngine, source: Path) -> None:
        self.engine, self.source = engine, source

    async def build(self, deployment_id: str, dockerfile: str, *, number: int = 1) -> InstanceSpec:
        files = {"Dockerfile": dockerfile, "index.js": APP, "number": str(number)}
        for name, text in files.items():
            (self.source / name).write_text(text)
        sizes = {name: len(text) for name, text in files.items()}
        toolbox = Toolbox(dockerfiles=Dockerfiles.ROOTLESS)
        tree = DirectoryTree(self.source, sizes)
        plan = make_plan(tree, Settings(has_dockerfile=True), toolbox)
        spec = BuildSpec(
            deployment_id=deployment_id,
            source=self.source,
            plan=plan,
            limits=replace(LIMITS, disk_bytes=512 * MIB),
            timeout_seconds=120,
            owner=OWNER,
            variables={"TOKEN": SECRET},
        )
        await self.engine.build(spec)
        return InstanceSpec(deployment_id=deployment_id, plan=plan, limits=LIMITS, owner=OWNER)

    async def answer(self, spec: InstanceSpec) -> str:
        instance = await self.engine.start(spec, timeout_seconds=60)
        return await fetch(instance.address)

    async def log(self, deployment_id: str) -> list[str]:
        return (await self.engine.log_tail(deployment_id, LogKind.BUILD)).splitlines()


@pytest.fixture
def deploys(engine: KubernetesEngine, tmp_path: Path) -> Deploys:
    source = tmp_path / "upload"
    source.mkdir()
    return Deploys(engine, source)


async def test_dockerfile_of_stages_is_built_run_as_its_user_and_replaced(
    deploys: Deploys, registry: RegistryServer, dockerd: Dockerd
) -> None:
    first = await deploys.build("first", STAGES.format(user="USER 1234"))
    assert await deploys.answer(first) == "page 1 1234"
    second = await deploys.build("second", STAGES.format(user=""), number=2)
    assert await deploys.answer(second) == "page 2 1000"
    await deploys.engine.copy("first", "back")
    assert await deploys.answer(replace(first, deployment_id="back")) == "page 1 1234"

    assert SECRET in await deploys.log("first")  # as the deployer's own command has shown it
    assert not await asyncio.to_thread(_having, registry.storage, SECRET.encode())
    assert "apps/" not in dockerd.run("images")  # it is in the registry alone


def _having(storage: Path, text: bytes) -> list[Path]:
    """The blobs of a registry in which a text is."""
    found = []
    for blob in storage.rglob("data"):
        content = blob.read_bytes()
        plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        if text in plain:
            found.append(blob)
    return found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("RUN echo why; exit 7", "`RUN echo why; exit 7` failed with exit code 7"),
        ("USER nobody-knows\nRUN true", "unable to find user nobody-knows"),
        ("USER nobody-knows", "not in its /etc/passwd"),
    ],
    ids=["command", "user of a command", "user of the app"],
)
async def test_dockerfile_that_can_not_be_built_or_run_says_why(
    deploys: Deploys, line: str, said: str
) -> None:
    with pytest.raises(DeployFailed) as failed:
        await deploys.build("first", f"FROM {BASE}\n{line}\nCMD node index.js\n")
    assert failed.value.cause is FailureCause.BUILD_FAILED
    assert said in failed.value.reason


async def test_images_of_other_wallets_are_nothing_to_build_on(
    deploys: Deploys, registry: RegistryServer
) -> None:
    await deploys.build("first", STAGES.format(user=""))
    pushed = next(path for _, path in registry.requests if "/manifests/first" in path)
    name = pushed.removeprefix("/v2/").replace("/manifests/", ":")
    with pytest.raises(DeployFailed) as failed:
        await deploys.build("second", f"FROM {registry.host}/{name}\nCMD node index.js\n")
    assert "denied" in failed.value.reason or "not allowed" in failed.value.reason


@pytest.fixture
async def elsewhere(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The daemon as one on another machine is reached: by TLS, with a client's certificate."""
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    made_as = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=docker"
    named = "-addext subjectAltName=IP:127.0.0.1"
    files = ("-keyout", "key.pem", "-out", "cert.pem")
    command = ["openssl", "req", *made_as.split(), *named.split(), *files]
    subprocess.run(command, cwd=certificates, check=True, capture_output=True)
    (certificates / "ca.pem").write_text((certificates / "cert.pem").read_text())
    trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    trusted.verify_mode = ssl.CERT_REQUIRED
    trusted.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = dockerd.host.removeprefix("unix://")
        theirs, to_them = await asyncio.open_unix_connection(path)
        await asyncio.gather(passed(reader, to_them), passed(theirs, writer))

    server = await asyncio.start_server(relayed, "127.0.0.1", 0, ssl=trusted)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"tcp://127.0.0.1:{port}", certificates


async def test_daemon_on_another_machine_builds_and_is_told_by_the_check(
    elsewhere: tuple[str, Path], tmp_path: Path, short_run_dir: Path
) -> None:
    host, certificates = elsewhere
    source = tmp_path / "upload"
    source.mkdir()
    (source / "Dockerfile").write_text(f"FROM {BASE}\nRUN echo built there\nUSER 7:8\n")
    toolbox = Toolbox(dockerfiles=Dockerfiles.ROOTLESS)
    plan = make_plan(
        DirectoryTree(source, {"Dockerfile": 1}), Settings(has_dockerfile=True), toolbox
    )
    limits = replace(LIMITS, disk_bytes=512 * MIB)
    spec = BuildSpec(
        deployment_id="there", source=source, plan=plan, limits=limits, timeout_seconds=120
    )
    workshop = Workshop(docker_host=host, certificates=str(certificates), subnet=SUBNET)
    options = ImageOptions(bases=BaseImages(), reads_local=True)
    configuration = host_configuration(tmp_path / "state", short_run_dir)
    lines: list[str] = []

    async def log(more: Sequence[str]) -> None:
        lines.extend(more)

    async with opened_images(configuration, workshop, options) as images:
        await images.build(spec, log)
        assert "built there" in lines
        assert await images.user("there") == "7:8"
        await images.remove("there")

    settings = load_settings(
        file=None,
        environ={},
        isolation="kubernetes",
        kubernetes_docker_host=host,
        kubernetes_docker_certificates=str(certificates),
    )
    (found,) = await check_docker(settings)
    assert (found.name, found.ok, "another machine" in found.detail) == ("dockerfiles", True, True)
    without = msgspec.structs.replace(settings, kubernetes_docker_certificates="/nowhere")
    (found,) = await check_docker(without)
    assert (found.ok, "ca.pem" in found.detail) == (False, True)


async def test_image_is_pushed_with_the_gateways_credentials_and_not_without(
    dockerd: Dockerd, tmp_path: Path, short_run_dir: Path
) -> None:
    inside = ("nsenter", f"--net={dockerd.network}")
    workshop = Workshop(docker_host=dockerd.host, certificates="", subnet=SUBNET)
    options = ImageOptions(bases=BaseImages(), reads_local=True)
    configuration = host_configuration(tmp_path / "state", short_run_dir)
    with started_registry(tmp_path / "registry", htpasswd=USERS, inside=inside) as server:
        async with opened_images(configuration, workshop, options) as images:
            dockerd.run("tag", BASE, images.image_of("any"))
            target = parse_reference(f"{server.host}/apps/wallet:any")
            with pytest.raises(DaemonFailed):
                await images.push("any", target, "")
            await images.push("any", target, base64.b64encode(b"me:secret").decode())
            await images.remove("any")
    assert ("PUT", "/v2/apps/wallet/manifests/any") in server.requests
