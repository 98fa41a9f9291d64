"""Images for a cluster: BuildKit builds, a real registry keeps, pods run.

By each address that a builder may have: a Docker daemon of this machine, one of another, and a
buildkitd. The last is a Docker daemon's own BuildKit, reached as a buildkitd is.
"""

import asyncio
import base64
import gzip
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from moorage.engines.engine import BuildSpec, InstanceSpec, Keep, log_tail
from moorage.engines.host import probe
from moorage.engines.images.image import Repository
from moorage.engines.images.registry import Credentials, Registry
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.engines.kubernetes.objects.labels import wallet_hash
from moorage.errors import DeployFailed, FailureCause
from moorage.operate.check.machine import check_docker
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from moorage.records.deployment import LogKind
from moorage.settings import load_settings
from moorage.uploads.reader import DirectoryTree
from support.engines.base_image import SHOWN
from support.engines.docker_fixture import (
    SMALL,
    Dockerd,
    import_base,
    offered_buildkitd,
    offered_by_tls,
    started_dockerd,
)
from support.engines.fake_kubernetes.cluster import Cluster
from support.engines.kubernetes_engine_fixture import (
    cluster_options,
    engine_options,
    host_configuration,
    make_building_engine,
    opened_engine,
)
from support.engines.registry_fixture import RegistryServer
from support.engines.runtime_fixture import registry_for_both
from support.engines.small_apps import LIMITS, MIB, fetch
from support.gateway.waiting import until_read

pytestmark = pytest.mark.root

OWNER, OTHER = "0x" + "d0" * 20, "0x" + "e0" * 20
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
FROM {SMALL} AS build
WORKDIR /made
COPY number .
RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN
RUN echo "page $(cat number)" > page
FROM {SMALL}
WORKDIR /srv/own
ENV PATH=/usr/bin:/bin
COPY --from=build /made/page .
COPY index.js .
EXPOSE 80
VOLUME /srv/volume
{{user}}
CMD ["node", "index.js"]
"""
PLANNED = Plan(
    stack=Stack.NODE,
    directory="",
    install="mkdir -p node_modules && cat /proc/sys/kernel/random/uuid > node_modules/installed",
    build='cp node_modules/installed page && echo "a token of ${#TOKEN}"',
    start="exec node index.js",
    port=3000,
    build_env={},
    run_env={},
    because=("package.json has a start script",),
    install_inputs=("package.json",),
)


@dataclass(frozen=True)
class Place:
    """A builder's address, the daemon behind it, and the registry that both sides reach."""

    address: str
    certificates: str
    dockerd: Dockerd
    registry: RegistryServer


@pytest.fixture(scope="module")
def containerd_dockerd() -> Iterator[Dockerd]:
    """A daemon whose BuildKit pushes images, as a buildkitd does."""
    settings = {"features": {"containerd-snapshotter": True}, "storage-driver": "overlayfs"}
    with started_dockerd(settings=settings) as started:
        import_base(started, SMALL)
        yield started


@pytest.fixture(scope="module")
def containerd_registry(
    containerd_dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RegistryServer]:
    with registry_for_both(tmp_path_factory.mktemp("registry"), containerd_dockerd) as server:
        yield server


@pytest.fixture(params=["docker", "docker elsewhere", "buildkitd"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(request, request.param, tmp_path) as made:
        yield made


@asynccontextmanager
async def placed(
    request: pytest.FixtureRequest, kind: str, directory: Path
) -> AsyncIterator[Place]:
    if kind == "buildkitd":
        dockerd: Dockerd = request.getfixturevalue("containerd_dockerd")
        registry: RegistryServer = request.getfixturevalue("containerd_registry")
        async with offered_buildkitd(dockerd, dockerd.directory / "buildkitd") as address:
            yield Place(address, "", dockerd, registry)
        return
    dockerd = request.getfixturevalue("dockerd")
    registry = request.getfixturevalue("cluster_registry")
    if kind == "docker":
        yield Place(dockerd.host, "", dockerd, registry)
        return
    async with offered_by_tls(dockerd, directory / "certificates") as address:
        yield Place(address, str(directory / "certificates"), dockerd, registry)


class Deploys:
    """What somebody deploys, version by version."""

    def __init__(self, engine: KubernetesEngine, source: Path) -> None:
        self.engine, self.source = engine, source

    async def build_dockerfile(
        self, deployment_id: str, dockerfile: str, *, number: int = 1, owner: str = OWNER
    ) -> InstanceSpec:
        self.write(Dockerfile=dockerfile, number=str(number))
        toolbox = Toolbox(dockerfiles=Dockerfiles.ROOTLESS)
        sizes = {path.name: path.stat().st_size for path in self.source.iterdir()}
        tree = DirectoryTree(self.source, sizes)
        plan = make_plan(tree, Settings(has_dockerfile=True), toolbox)
        return await self.build(deployment_id, plan, owner=owner)

    async def build(self, deployment_id: str, plan: Plan, *, owner: str = OWNER) -> InstanceSpec:
        spec = BuildSpec(
            deployment_id=deployment_id,
            source=self.source,
            plan=plan,
            limits=replace(LIMITS, disk_bytes=512 * MIB),
            timeout_seconds=120,
            owner=owner,
            variables={"TOKEN": SECRET},
        )
        await self.engine.build(spec)
        return InstanceSpec(deployment_id=deployment_id, plan=plan, limits=LIMITS, owner=owner)

    def write(self, **files: str) -> None:
        for name, text in {"index.js": APP, **files}.items():
            (self.source / name).write_text(text)

    async def answer(self, spec: InstanceSpec) -> str:
        instance = await self.engine.start(spec, timeout_seconds=60)
        return await fetch(instance.address)

    async def log(self, deployment_id: str) -> list[str]:
        return (await log_tail(self.engine, deployment_id, LogKind.BUILD)).splitlines()


@asynccontextmanager
async def opened_deploys(
    place: Place, cluster: Cluster, tmp_path: Path, run_dir: Path, *, credentials: str = ""
) -> AsyncIterator[Deploys]:
    options = cluster_options(
        cluster,
        registry=f"{place.registry.host}/apps",
        registry_credentials=credentials,
        builder=place.address,
        builder_certificates=place.certificates,
    )
    configuration = host_configuration(tmp_path / "state", run_dir)
    made = make_building_engine(
        configuration, engine_options(options, base=SMALL, local_images=True)
    )
    source = tmp_path / "upload"
    source.mkdir()
    cluster.images.shown = SHOWN
    async with opened_engine(made) as engine:
        yield Deploys(engine, source)
    assert list(run_dir.rglob("*.build")) == []
    hierarchy = probe.hierarchy()
    assert hierarchy is not None
    groups = hierarchy.mounts["memory"] / f"moorage-{configuration.instance_id}"
    assert not groups.exists()
    assert configuration.instance_id not in place.dockerd.inside("nft", "list", "tables")


@pytest.fixture
async def deploys(
    place: Place, building_cluster: Cluster, tmp_path: Path, short_run_dir: Path
) -> AsyncIterator[Deploys]:
    async with opened_deploys(place, building_cluster, tmp_path, short_run_dir) as opened:
        yield opened


async def test_planned_app_is_built_run_and_keeps_its_wallets_install_to_itself(
    deploys: Deploys, place: Place
) -> None:
    deploys.write(**{"package.json": "{}"})
    first = await deploys.build("first", PLANNED)
    assert f"a token of {len(SECRET)}" in await deploys.log("first")
    page = await deploys.answer(first)
    assert page.endswith(" 1000")
    deploys.write(**{"other.js": "1"})
    assert await deploys.answer(await deploys.build("second", PLANNED)) == page
    others = await deploys.build("others", PLANNED, owner=OTHER)
    assert await deploys.answer(others) != page
    assert not await asyncio.to_thread(having, place.registry.storage, SECRET.encode())


async def test_dockerfile_of_stages_is_built_run_as_its_user_and_replaced(
    deploys: Deploys, place: Place
) -> None:
    first = await deploys.build_dockerfile("first", STAGES.format(user="USER 1234"))
    assert await deploys.answer(first) == "page 1 1234"
    second = await deploys.build_dockerfile("second", STAGES.format(user=""), number=2)
    assert await deploys.answer(second) == "page 2 1000"
    await deploys.engine.copy("first", "back")
    assert await deploys.answer(replace(first, deployment_id="back")) == "page 1 1234"

    assert SECRET in await deploys.log("first")  # as the deployer's own command has shown it
    assert not await asyncio.to_thread(having, place.registry.storage, SECRET.encode())
    if place.address == place.dockerd.host:  # a buildkitd keeps no images at all
        assert "apps/" not in place.dockerd.run("images")


async def test_user_of_a_dockerfile_may_be_named_by_the_images_passwd(deploys: Deploys) -> None:
    named = 'RUN mkdir -p /etc && echo "me:x:77:78::/:/bin/sh" > /etc/passwd\nUSER me'
    spec = await deploys.build_dockerfile("first", STAGES.format(user=named))
    assert "the app runs as user 77:78" in await deploys.log("first")
    assert await deploys.answer(spec) == "page 1 77"


async def test_images_are_removed_each_by_itself_and_no_others(
    deploys: Deploys, place: Place
) -> None:
    repository = Repository(registry=place.registry.host, name=f"apps/{wallet_hash(OWNER)}")
    registry = Registry(Credentials({}))
    await deploys.build_dockerfile("first", f"FROM {SMALL}\nCMD node\n")
    await deploys.engine.copy("first", "copied")
    before = set(await registry.tags(repository))
    await deploys.engine.stop("first", keep=Keep.NOTHING)
    assert before - set(await registry.tags(repository)) == {"first"}
    await registry.close()


async def test_files_of_an_app_come_out_of_its_image(deploys: Deploys, tmp_path: Path) -> None:
    deploys.write(**{"package.json": "{}"})
    links = msgspec.structs.replace(PLANNED, build="ln -s /etc/passwd leads && echo made > page")
    await deploys.build("first", links)
    await deploys.engine.export_files("first", tmp_path / "out", without={"node_modules"})
    found = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert found == {"index.js": APP, "package.json": "{}", "page": "made\n"}
    await deploys.build_dockerfile("own", f"FROM {SMALL}\nCMD node\n")
    with pytest.raises(DeployFailed, match="not kept apart"):
        await deploys.engine.export_files("own", tmp_path / "none", without=())


def having(storage: Path, text: bytes) -> list[Path]:
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
        await deploys.build_dockerfile("first", f"FROM {SMALL}\n{line}\nCMD node index.js\n")
    assert failed.value.cause is FailureCause.BUILD_FAILED
    assert said in failed.value.reason


async def test_images_of_other_wallets_are_nothing_to_build_on(
    deploys: Deploys, place: Place
) -> None:
    await deploys.build_dockerfile("first", STAGES.format(user=""))
    name = f"{place.registry.host}/apps/{wallet_hash(OWNER)}:first"
    with pytest.raises(DeployFailed) as failed:
        await deploys.build_dockerfile("second", f"FROM {name}\nCMD node index.js\n", owner=OTHER)
    assert "denied" in failed.value.reason or "not allowed" in failed.value.reason


async def test_caches_of_commands_are_a_wallets_own(deploys: Deploys) -> None:
    """Also where a command names the cache, and what is in it decides what another one does."""
    mark = secrets.token_hex(8)
    mount = f"RUN --mount=type=cache,id={mark},target=/kept"
    writes = f"FROM {SMALL}\n{mount} echo {mark} > /kept/theirs\nCMD node\n"
    reads = f"FROM {SMALL}\nCOPY number .\n{mount} ls /kept && echo listed\nCMD node\n"
    await deploys.build_dockerfile("first", writes)
    await deploys.build_dockerfile("own", reads)
    assert "theirs" in await deploys.log("own")
    await deploys.build_dockerfile("others", reads, owner=OTHER)
    log = await deploys.log("others")
    assert "listed" in log
    assert "theirs" not in log


async def test_images_need_the_gateways_credentials_and_no_dockerfile_has_them(
    place: Place, building_cluster: Cluster, tmp_path: Path, short_run_dir: Path
) -> None:
    config = tmp_path / "config.json"
    with registry_for_both(tmp_path / "registry", place.dockerd, htpasswd=USERS) as server:
        auth = {"auth": base64.b64encode(b"me:secret").decode()}
        config.write_bytes(msgspec.json.encode({"auths": {server.host: auth}}))
        guarded = replace(place, registry=server)
        given = {"credentials": str(config)}
        async with opened_deploys(
            guarded, building_cluster, tmp_path, short_run_dir, **given
        ) as deploys:
            await deploys.build_dockerfile("first", f"FROM {SMALL}\nCMD node\n")
            theirs = f"FROM {server.host}/operators/own\nCMD node\n"
            with pytest.raises(DeployFailed, match=r"401|authoriz|denied"):
                await deploys.build_dockerfile("second", theirs)
            config.unlink()
    assert ("PUT", f"/v2/apps/{wallet_hash(OWNER)}/manifests/first") in server.requests


@pytest.mark.parametrize("begins", [False, True], ids=["is not there", "ends during the build"])
async def test_builder_that_is_away_is_no_fault_of_the_app(
    begins: bool,
    containerd_dockerd: Dockerd,
    containerd_registry: RegistryServer,
    building_cluster: Cluster,
    tmp_path: Path,
    short_run_dir: Path,
) -> None:
    socket = containerd_dockerd.directory / "away"
    if not begins:
        place = Place(f"buildkit+unix://{socket}", "", containerd_dockerd, containerd_registry)
        async with opened_deploys(place, building_cluster, tmp_path, short_run_dir) as deploys:
            failed = await failure(deploys)
    else:
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(offered_buildkitd(containerd_dockerd, socket))
            place = Place(address, "", containerd_dockerd, containerd_registry)
            async with opened_deploys(place, building_cluster, tmp_path, short_run_dir) as deploys:
                building = asyncio.create_task(failure(deploys))
                await until_read(lambda: deploys.log("first"), lambda lines: "begun" in lines)
                await stack.aclose()
                failed = await building
    assert failed.cause is FailureCause.NO_CAPACITY
    assert "builder" in failed.reason


async def failure(deploys: Deploys) -> DeployFailed:
    with pytest.raises(DeployFailed) as failed:
        await deploys.build_dockerfile("first", f"FROM {SMALL}\nRUN echo begun; sleep 1000\n")
    return failed.value


async def test_builders_are_found_by_the_check(place: Place) -> None:
    settings = load_settings(
        file=None,
        environ={},
        isolation="kubernetes",
        kubernetes_builder=place.address,
        kubernetes_credentials=place.certificates,
    )
    (found,) = await check_docker(settings)
    is_held = place.address == place.dockerd.host
    assert (found.name, found.ok) == ("builder", True), found
    assert ("does not hold it" in found.detail) != is_held
    for wrong in (
        {"kubernetes_builder": ""},
        {"kubernetes_builder": "tcp://127.0.0.1:1", "kubernetes_credentials": "/nowhere"},
        {"kubernetes_builder": "buildkit+tcp://127.0.0.1:1"},
        {"kubernetes_builder": "buildkit+unix:///nowhere"},
        {"kubernetes_builder": "unix:///nowhere"},
    ):
        (found,) = await check_docker(msgspec.structs.replace(settings, **wrong))
        assert (found.ok, bool(found.remedy)) == (False, True), wrong
    assert not found.blocks  # a gateway starts while its builder is away
