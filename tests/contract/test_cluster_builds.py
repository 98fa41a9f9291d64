"""Builds of the Kubernetes engine: a real registry, and Docker runs the pod and then the app."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import pytest

from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import DEFAULTS, BaseImages
from moorage.engines.images.credentials import Credentials
from moorage.engines.images.manifest import read_manifest
from moorage.engines.images.reference import Reference, parse_reference
from moorage.engines.images.registry import Registry
from moorage.engines.kubernetes.building.attempt import Patience
from moorage.engines.kubernetes.building.builder import Builder, BuilderOptions
from moorage.engines.kubernetes.building.opening import BuildPlaces, opened_builder
from moorage.engines.kubernetes.objects.labels import wallet_hash
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan, Stack
from support.engines.base_image import push_image
from support.engines.docker_fixture import BASE, Dockerd, write_base
from support.engines.docker_pods import DockerPods
from support.engines.registry_fixture import RegistryServer, started_registry
from support.gateway.waiting import until

MIB = 1024 * 1024
OWNER = "0xfeed"
SECRET = "hunter2-is-in-no-layer"
PLAN = Plan(
    stack=Stack.NODE,
    directory="",
    install="mkdir -p node_modules && echo installed > node_modules/mark",
    build='cat node_modules/mark && echo "$GREETING" > built.txt',
    start="cat /app/built.txt; id -u; ls /app; pwd; echo $NODE_ENV",
    port=3000,
    build_env={},
    run_env={},
    because=("package.json has a start script",),
    toolchains={"node": "20.20.2"},
)


@pytest.fixture(scope="module")
def hub(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryServer]:
    """A registry that has the base image, by one address for the gateway and for Docker."""
    directory = tmp_path_factory.mktemp("registry")
    with started_registry(directory / "ours") as server:
        port = int(server.host.rpartition(":")[2])
        inside = ("nsenter", f"--net={dockerd.network}")
        storage = server.storage
        with started_registry(directory / "theirs", port=port, storage=storage, inside=inside):
            system = directory / "base.tar"
            write_base(system, with_python=True)
            asyncio.run(push_image(f"{server.host}/hub/base", system.read_bytes()))
            system.unlink()
            name = f"{server.host}/hub/base:1"
            dockerd.run("pull", "--quiet", name)
            dockerd.run("tag", name, BASE)
            yield server


@dataclass
class Yard:
    """A builder, and what its builds told."""

    builder: Builder
    registry: Registry
    pods: DockerPods
    dockerd: Dockerd
    host: str
    source: Path
    make: Callable[..., Awaitable[Builder]]
    lines: list[str] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def spec(self, plan: Plan = PLAN, *, disk_bytes: int = 256 * MIB, **more: object) -> BuildSpec:
        spec = BuildSpec(
            deployment_id=secrets.token_hex(8),
            source=self.source,
            plan=plan,
            limits=Limits(memory_bytes=128 * MIB, cpu_millis=1000, pids=64, disk_bytes=disk_bytes),
            timeout_seconds=120,
            owner=OWNER,
        )
        return replace(spec, **more)  # type: ignore[arg-type]

    async def log(self, lines: Sequence[str]) -> None:
        self.lines += lines
        self.told.set()

    async def build(self, spec: BuildSpec) -> str:
        return (await self.builder.build(spec, self.log)).reference

    async def failure(self, spec: BuildSpec) -> DeployFailed:
        with pytest.raises(DeployFailed) as failed:
            await self.build(spec)
        return failed.value

    def run(self, image: str, *command: str) -> str:
        """What the app prints that Docker starts from the image."""
        self.dockerd.run("pull", "--quiet", image)
        return self.dockerd.run("run", "--rm", "--network", "none", image, *command)


@pytest.fixture
async def yard(dockerd: Dockerd, hub: RegistryServer, tmp_path: Path) -> AsyncIterator[Yard]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "package.json").write_text("{}")
    state = tmp_path / "state"
    pods = DockerPods(dockerd)
    root = f"{hub.host}/apps-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        registry = Registry(Credentials({}))
        stack.push_async_callback(registry.close)

        async def make(
            *,
            bases: str = f"{hub.host}/hub/base:1",
            patience: Patience | None = None,
            made_by: str = "moorage of one cluster",
            **others: str,
        ) -> Builder:
            configuration = HostConfiguration(
                state_dir=state,
                run_dir=Path("/nowhere"),  # no socket is made
                instance_id="tests",
                tools={"tool": tool(tmp_path)},
            )
            places = BuildPlaces(
                registry=root,
                credentials=None,
                host=_way_to_us(dockerd),
                port=0,
                made_by=made_by,
                url="",
            )
            options = BuilderOptions(
                own_image=f"{hub.host}/hub/base:1",
                bases=BaseImages(images={**dict.fromkeys(DEFAULTS, bases), **others}),
                namespaces="moorage",
                patience=patience or Patience(),
            )
            return await stack.enter_async_context(
                opened_builder(configuration, places, options, pods)
            )

        yield Yard(await make(), registry, pods, dockerd, hub.host, source, make)
    assert list((state / "layers").iterdir()) == []


def _way_to_us(dockerd: Dockerd) -> str:
    """Our own address, of those that Docker's machine reaches."""
    return dockerd.inside("ip", "route", "show", "default").split()[2]


def tool(directory: Path) -> Path:
    """A program of the gateway's."""
    path = directory / "tool"
    path.write_text("#!/bin/sh\necho I am a tool\n")
    path.chmod(0o755)
    return path


async def test_app_is_built_in_a_pod_and_runs_from_its_image(yard: Yard) -> None:
    spec = yard.spec(variables={"GREETING": SECRET})
    reference = await yard.build(spec)
    base = parse_reference(f"{yard.host}/hub/base:1")
    assert yard.lines == [
        "package.json has a start script",
        f"built on {base}@{await yard.registry.digest(base)}",
        f"$ {PLAN.install}",
        f"$ {PLAN.build}",
        "installed",
    ]
    image = parse_reference(reference)
    assert (image.tag, len(image.digest)) == (spec.deployment_id, 71)
    said = yard.run(reference).splitlines()
    assert said == [
        SECRET,
        "1000",
        "built.txt",
        "node_modules",
        "package.json",
        "/app",
        "production",
    ]
    assert yard.pods.removed == 1


async def test_files_of_a_build_are_fetched_out_of_its_image(yard: Yard, tmp_path: Path) -> None:
    reference = await yard.build(yard.spec(variables={"GREETING": SECRET}))
    target = tmp_path / "files"
    without = {"node_modules"}
    await yard.builder.fetch_files(reference, target, without=without, max_bytes=MIB)
    assert {it.relative_to(target).as_posix() for it in target.rglob("*")} == {
        "built.txt",
        "package.json",
    }
    assert SECRET in (target / "built.txt").read_text()


async def test_tokens_and_variables_are_each_where_they_belong(yard: Yard) -> None:
    """A stranger's step sees no token; the image has no variable of the build."""
    plan = msgspec.structs.replace(PLAN, install="env", build=None)
    reference = await yard.build(yard.spec(plan, variables={"TOKEN": SECRET}))
    assert f"TOKEN={SECRET}" in yard.lines
    assert not [line for line in yard.lines if "MOORAGE_" in line or "http://" in line]
    yard.run(reference, "id")
    assert SECRET not in yard.dockerd.run("inspect", reference)


async def test_command_is_run_as_it_is_written(yard: Yard) -> None:
    """Kubernetes would replace `$(NAME)` and `$$`."""
    plan = msgspec.structs.replace(
        PLAN, install="""x=5; echo "$(echo $HOME) $$x $x" '$(x)'""", build=None
    )
    await yard.build(yard.spec(plan))
    said = yard.lines[-1]
    assert said.startswith("/home/app ")
    assert said.endswith("x 5 $(x)")


async def test_app_without_steps_needs_no_pod(yard: Yard) -> None:
    plan = msgspec.structs.replace(PLAN, install=None, build=None, start="cat package.json")
    reference = await yard.build(yard.spec(plan))
    assert (yard.run(reference), yard.pods.seen) == ("{}", {})


async def test_gateways_programs_are_there_for_steps_and_app(yard: Yard) -> None:
    plan = msgspec.structs.replace(
        PLAN, install="tool", build=None, start="tool", host_tools={"tool": "1"}
    )
    reference = await yard.build(yard.spec(plan))
    assert yard.lines[-1] == "I am a tool"
    assert yard.run(reference) == "I am a tool\n"


async def test_same_programs_are_stored_once(yard: Yard) -> None:
    plan = msgspec.structs.replace(PLAN, install=None, build=None, host_tools={"tool": "1"})
    one, other = [await yard.build(yard.spec(plan)) for _ in range(2)]
    manifests = [
        msgspec.json.decode((await yard.registry.manifest(parse_reference(it))).body)
        for it in (one, other)
    ]
    digests = [[layer["digest"] for layer in it["layers"]] for it in manifests]
    assert digests[0][:-1] == digests[1][:-1]


async def test_program_of_another_image_is_borrowed(yard: Yard) -> None:
    """Maven is no part of the image of Java: its program is taken out of an image of its own."""
    plan = msgspec.structs.replace(
        PLAN,
        toolchains={},
        host_tools={"node": "20", "composer": "2"},
        install="ls /opt/moorage/programs/composer/bin",
        build=None,
        start="ls /opt/moorage/programs/composer/bin; echo $PATH",
    )
    dockerfile = f"FROM {BASE}\nCOPY composer /usr/bin/composer\n"
    name = f"{yard.host}/hub/composer:1"
    (yard.source / "composer").write_text("#!/bin/sh\n")
    (yard.source / "Dockerfile").write_text(dockerfile)
    yard.dockerd.run("build", "--quiet", "--tag", name, str(yard.source))
    yard.dockerd.run("push", name)
    yard.builder = await yard.make(composer=name)
    reference = await yard.build(yard.spec(plan))
    assert yard.lines[-1] == "composer"
    said = yard.run(reference).splitlines()
    assert said[0] == "composer"
    assert said[1].endswith(":/opt/moorage/programs/composer/bin")


@pytest.mark.parametrize(
    ("install", "build", "cause", "words"),
    [
        ("echo why; exit 3", None, FailureCause.INSTALL_FAILED, "exit code 3"),
        (None, "exit 4", FailureCause.BUILD_FAILED, "exit code 4"),
        ("echo No space left on device; exit 1", None, FailureCause.OUT_OF_DISK, "disk is full"),
        (None, "echo > .wh.app", FailureCause.BUILD_FAILED, "can't become an image"),
    ],
    ids=["install", "build", "disk", "layer"],
)
async def test_failure_has_its_cause(
    yard: Yard, install: str | None, build: str | None, cause: FailureCause, words: str
) -> None:
    plan = msgspec.structs.replace(PLAN, install=install, build=build)
    failed = await yard.failure(yard.spec(plan))
    assert (failed.cause, words in failed.reason) == (cause, True), failed.reason
    assert failed.log_tail == "".join(f"{line}\n" for line in yard.lines[3:])
    assert yard.pods.removed == 1


async def test_build_that_takes_too_much_memory_says_so(yard: Yard) -> None:
    hungry = "exec node -e 'const a=[]; for(;;) a.push(Buffer.alloc(8e6, 1))'"
    plan = msgspec.structs.replace(PLAN, install=None, build=hungry)
    assert (await yard.failure(yard.spec(plan))).cause is FailureCause.OUT_OF_MEMORY


async def test_result_larger_than_the_apps_disk_is_refused(yard: Yard) -> None:
    plan = msgspec.structs.replace(
        PLAN,
        install=None,
        build="node -e \"const f=fs.openSync('giant','w'); fs.ftruncateSync(f,1e11)\"",
    )
    failed = await yard.failure(yard.spec(plan, disk_bytes=16 * MIB))
    assert failed.cause is FailureCause.OUT_OF_DISK
    assert "larger than 16 MiB" in failed.reason


async def test_build_that_takes_too_long_is_ended(yard: Yard) -> None:
    plan = msgspec.structs.replace(PLAN, install="sleep 1000")
    failed = await yard.failure(yard.spec(plan, timeout_seconds=4))
    assert failed.cause is FailureCause.BUILD_TIMEOUT
    assert (yard.pods.removed, "sleep 1000" in yard.dockerd.run("ps", "--no-trunc")) == (1, False)


async def test_cancelled_build_leaves_nothing(yard: Yard) -> None:
    plan = msgspec.structs.replace(PLAN, install="echo begun; sleep 1000")
    work = asyncio.create_task(yard.build(yard.spec(plan)))
    await until(lambda: "begun" in yard.lines)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert (yard.lines[-1], yard.pods.removed) == ("CANCELLED: the build was ended", 1)
    assert "sleep 1000" not in yard.dockerd.run("ps", "--no-trunc")


async def test_build_without_room_in_the_cluster_is_given_up(yard: Yard) -> None:
    yard.pods.unscheduled = True
    yard.builder = await yard.make(patience=Patience(schedule_seconds=0.5))
    failed = await yard.failure(yard.spec())
    assert (failed.cause, "0/1 nodes" in failed.reason) == (FailureCause.NO_CAPACITY, True)


async def test_images_of_deployments_are_removed_each_by_itself(yard: Yard) -> None:
    plan = msgspec.structs.replace(PLAN, install=None, build=None, start="cat package.json")
    one = await yard.build(yard.spec(plan))
    other = (await yard.builder.copy(one, "copied")).reference
    assert parse_reference(other).digest != parse_reference(one).digest
    await yard.builder.remove(wallet_hash(OWNER), parse_reference(one).tag)
    assert await yard.registry.digest(parse_reference(one)) is None
    assert yard.run(other) == "{}"


async def test_image_of_another_cluster_is_not_removed(yard: Yard) -> None:
    plan = msgspec.structs.replace(PLAN, install=None, build=None)
    spec, wallet = yard.spec(plan), wallet_hash(OWNER)
    image = parse_reference(await yard.build(spec))
    elsewhere = await yard.make(made_by="moorage of another cluster")
    assert spec.deployment_id in await elsewhere.stored(wallet)
    await elsewhere.remove(wallet, spec.deployment_id)
    assert await yard.registry.digest(image) is not None
    await yard.builder.remove(wallet, spec.deployment_id)
    assert await yard.registry.digest(image) is None
    assert spec.deployment_id not in await yard.builder.stored(wallet)


async def test_base_is_used_again_when_its_registry_is_gone(
    yard: Yard, tmp_path: Path, hub: RegistryServer
) -> None:
    """What was once built on can be built on without another registry."""
    plan = msgspec.structs.replace(PLAN, install=None, build=None, start="echo built")
    base = f"{hub.host}/hub/base:1"
    with started_registry(tmp_path / "elsewhere") as elsewhere:
        name = f"{elsewhere.host}/language:1"
        await _copied(
            yard.registry, parse_reference(base), parse_reference(name), tmp_path / "blob"
        )
        yard.builder = await yard.make(bases=name)
        await yard.build(yard.spec(plan))
    assert yard.run(await yard.build(yard.spec(plan))) == "built\n"


async def _copied(registry: Registry, origin: Reference, target: Reference, file: Path) -> None:
    content = await registry.manifest(origin)
    manifest = read_manifest(content)
    for named in (manifest.config, *manifest.layers):
        await registry.fetch_blob(origin.repository, named, file)
        await registry.push_blob(target.repository, file, digest=named.digest)
    await registry.put_manifest(target, content)
