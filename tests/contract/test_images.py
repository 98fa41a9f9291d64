"""Images of deployments, built by a real Docker daemon."""

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from moorage.engines.docker.docker import Images
from moorage.engines.dockerd.builder import BuilderOptions
from moorage.engines.dockerd.daemon import connect
from moorage.engines.dockerd.firewall import BuildGroup, remove_everywhere
from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.host import probe
from moorage.engines.host.cgroup import BUILDS, Cgroups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import DEFAULTS, BaseImages
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan, Settings, Stack
from moorage.planning.planner import make_plan
from moorage.planning.toolbox import Dockerfiles, Toolbox
from moorage.uploads.reader import DirectoryTree
from support.engines.docker_fixture import BASE, BOUND_SECONDS, Dockerd
from support.gateway.waiting import until

MIB = 1024 * 1024
OWNER = "0xfeed"
SECRET = "hunter2-is-not-in-any-layer"
NODE_APP = Plan(
    stack=Stack.NODE,
    directory="",
    install="mkdir -p node_modules && cat /proc/sys/kernel/random/uuid > node_modules/installed",
    build='cat node_modules/installed && echo "${TOKEN:+it had a token}" > built.txt',
    start="exec node index.js",
    port=3000,
    build_env={},
    run_env={},
    because=("package.json has a start script",),
    toolchains={"node": "20.20.2"},
    install_inputs=("package.json",),
)


@dataclass
class Workshop:
    """Images of one gateway, and what their builds told."""

    dockerd: Dockerd
    images: Images
    cgroups: Cgroups
    source: Path
    make: Callable[..., Images]
    lines: list[str] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.source / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    async def build(
        self, plan: Plan, *, owner: str = OWNER, seconds: int = BOUND_SECONDS, **variables: str
    ) -> str:
        """Builds a deployment; returns its id."""
        spec = BuildSpec(
            deployment_id=secrets.token_hex(8),
            source=self.source,
            plan=plan,
            limits=Limits(memory_bytes=256 * MIB, cpu_millis=2000, pids=64, disk_bytes=256 * MIB),
            timeout_seconds=seconds,
            owner=owner,
            variables=variables,
        )
        self.lines.clear()
        await self.images.build(spec, self.log)
        return spec.deployment_id

    async def failed(self, plan: Plan, *, seconds: int = BOUND_SECONDS) -> DeployFailed:
        with pytest.raises(DeployFailed) as failed:
            await self.build(plan, seconds=seconds)
        return failed.value

    async def log(self, lines: Sequence[str]) -> None:
        self.lines += lines
        if any("it runs" in line for line in lines):
            self.told.set()

    def run(self, deployment_id: str, *words: str) -> str:
        name = self.images.image_of(deployment_id)
        return self.dockerd.run("run", "--rm", "--network", "none", name, *words)

    def groups(self) -> list[Path]:
        """The control groups of builds, in all hierarchies of either version."""
        name, top = f"{self.cgroups.root}/{BUILDS}/*/", Path("/sys/fs/cgroup")
        return [*top.glob(name), *top.glob(f"*/{name}")]

    def plan_of_dockerfile(self) -> Plan:
        sizes = {
            str(path.relative_to(self.source)): path.stat().st_size
            for path in self.source.rglob("*")
            if path.is_file()
        }
        tree = DirectoryTree(self.source, sizes)
        return make_plan(
            tree, Settings(has_dockerfile=True), Toolbox(dockerfiles=Dockerfiles.BUILT)
        )


@pytest.fixture
async def workshop(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[Workshop]:
    instance = secrets.token_hex(4)
    hierarchy = probe.hierarchy()
    assert hierarchy is not None
    cgroups = Cgroups(hierarchy, f"moorage-{instance}")
    cgroups.open()
    daemon = await connect(dockerd.host)

    def make(
        *,
        max_cache_bytes: int = 10 * 1024 * MIB,
        registries: tuple[str, ...] = ("docker.io",),
        **options: Any,
    ) -> Images:
        configuration = HostConfiguration(
            state_dir=tmp_path / "state",
            run_dir=dockerd.directory / instance,
            instance_id=instance,
            tools={"caddy": Path(sys.executable).parent / "caddy"},
            **options,
        )
        bases = BaseImages(images=dict.fromkeys(DEFAULTS, BASE))
        chosen = BuilderOptions(
            bases=bases, reads_local=True, registries=registries, max_cache_bytes=max_cache_bytes
        )
        return Images(configuration, daemon, cgroups, chosen)

    source = tmp_path / "source"
    source.mkdir()
    workshop = Workshop(dockerd, make(), cgroups, source, make)
    yield workshop
    await workshop.images.collect(set())
    await daemon.close()
    cgroups.close()
    remove_everywhere(cgroups.root)


async def test_planned_app_becomes_an_image_without_the_secrets_of_its_build(
    workshop: Workshop,
) -> None:
    workshop.write(package_dot_json="{}", index_dot_js="console.log(process.getuid())")
    with_caddy = msgspec.structs.replace(NODE_APP, host_tools={"caddy": "2.10.2"})
    first = await workshop.build(with_caddy, TOKEN=SECRET)
    name = workshop.images.image_of(first)
    assert workshop.run(first) == "1000\n"
    assert workshop.run(first, "cat", "built.txt") == "it had a token\n"
    assert workshop.run(first, "caddy", "version").startswith("v2.")
    assert SECRET not in workshop.dockerd.run("history", "--no-trunc", name)
    assert SECRET not in workshop.dockerd.run("inspect", name)
    assert SECRET not in workshop.run(first, "env")


async def test_files_of_an_app_come_out_of_its_image_without_what_an_install_makes(
    workshop: Workshop, tmp_path: Path
) -> None:
    workshop.write(package_dot_json="{}", index_dot_js="1", a__b_dot_txt="deep")
    links = "fs.symlinkSync('/etc/passwd', 'leads'); fs.linkSync('index.js', 'twice')"
    steps = f'node -e "{links}" && echo built > built.txt'
    built = await workshop.build(msgspec.structs.replace(NODE_APP, build=steps))
    target = tmp_path / "out"
    await workshop.images.export_files(built, target, without={"node_modules"})
    found = {
        str(path.relative_to(target)): path.read_text()
        for path in target.rglob("*")
        if path.is_file()
    }
    assert found == {
        "package.json": "{}",
        "index.js": "1",
        "twice": "1",
        "a/b.txt": "deep",
        "built.txt": "built\n",
    }
    assert not (tmp_path / "out.tar").exists()
    assert workshop.images.image_of(built) not in workshop.dockerd.run("ps", "--all")
    with pytest.raises(DeployFailed, match="no finished build"):
        await workshop.images.export_files("none", tmp_path / "none", without=())


async def test_install_is_kept_for_later_builds_of_the_same_wallet_and_variables(
    workshop: Workshop,
) -> None:
    async def installed(token: str, *, owner: str = OWNER) -> str:
        made = await workshop.build(NODE_APP, owner=owner, TOKEN=token)
        return workshop.run(made, "cat", "node_modules/installed")

    workshop.write(package_dot_json="{}", index_dot_js="1")
    first = await installed("a")
    workshop.write(index_dot_js="2")
    assert await installed("a") == first
    assert workshop.lines[2:4] == [f"$ {NODE_APP.install}", "(unchanged: kept)"]
    others = [await installed("b"), await installed("a", owner="0xbad")]
    workshop.write(package_dot_json='{"name": "changed"}')
    others.append(await installed("a"))
    assert len({first, *others}) == 4


async def test_dockerfile_of_several_stages_is_built_as_it_is_written(workshop: Workshop) -> None:
    workshop.write(
        Dockerfile=f"""\
# syntax=docker/dockerfile:1
ARG BASE={BASE}
FROM $BASE AS made
ARG GREETING
RUN --mount=type=secret,id=TOKEN <<EOF
echo "$GREETING" > /made.txt
ls -A /run/secrets >> /made.txt || :
EOF
COPY . /all
RUN ls -A /all >> /made.txt
FROM {BASE}
COPY --from=made /made.txt /
EXPOSE 8080
CMD ["cat", "/made.txt"]
""",
        _dot_dockerignore="secret.txt\nDockerfile\n.dockerignore\n",
        secret_dot_txt="no",
        kept_dot_txt="yes",
    )
    plan = workshop.plan_of_dockerfile()
    assert (plan.port, plan.start) == (8080, "")
    built = await workshop.build(plan, GREETING="hello", TOKEN=SECRET)
    assert workshop.run(built).split() == ["hello", "TOKEN", "kept.txt"]
    assert SECRET not in workshop.dockerd.run(
        "history", "--no-trunc", workshop.images.image_of(built)
    )

    given = await workshop.build(msgspec.structs.replace(plan, start="echo another start"))
    assert workshop.run(given) == "another start\n"


async def test_failure_says_which_command_failed_and_how(workshop: Workshop) -> None:
    workshop.write(package_dot_json="{}")
    replaced = msgspec.structs.replace
    failed = await workshop.failed(replaced(NODE_APP, install="echo why not >&2; exit 7"))
    assert failed.cause is FailureCause.INSTALL_FAILED
    assert failed.message == "`echo why not >&2; exit 7` failed with exit code 7"
    assert failed.log_tail.endswith("why not\n")
    greedy = "node -e 'const a = []; for (;;) a.push(Buffer.alloc(1e7, 1))'"
    failed = await workshop.failed(replaced(NODE_APP, build=greedy))
    assert failed.cause is FailureCause.OUT_OF_MEMORY

    workshop.write(Dockerfile=f"FROM {BASE}\nRUN cat /proc/self/limits\nRUN echo so; exit 3\n")
    failed = await workshop.failed(workshop.plan_of_dockerfile())
    assert failed.cause is FailureCause.BUILD_FAILED
    assert failed.message == "`RUN echo so; exit 3` failed with exit code 3"
    (core,) = [line.split() for line in workshop.lines if line.startswith("Max core file size")]
    assert core[-3:] == ["1", "1", "bytes"]  # with which the kernel starts no core_pattern program
    workshop.write(Dockerfile=f"FROM {BASE}\nRUN --network=host id\n")
    failed = await workshop.failed(workshop.plan_of_dockerfile())
    assert "network.host is not allowed" in failed.message


@pytest.mark.parametrize("source", ["http://127.0.0.1:1/x", "https://127.0.0.1:1/x.git#main"])
async def test_builder_itself_fetches_nothing_from_an_address(
    workshop: Workshop, source: str
) -> None:
    """It would from the machine's own network, past the filter that commands of a build have."""
    workshop.write(Dockerfile=f"FROM {BASE}\nARG SOURCE={source}\nADD $SOURCE /x\n")
    failed = await workshop.failed(workshop.plan_of_dockerfile())
    assert "denied by policy" in failed.message


async def test_dockerfile_names_images_of_the_operators_registries_alone(
    workshop: Workshop,
) -> None:
    workshop.write(Dockerfile=f"FROM 127.0.0.1:1/of/theirs AS a\nFROM {BASE}\nCOPY --from=a / /x\n")
    failed = await workshop.failed(workshop.plan_of_dockerfile())
    assert "denied by policy" in failed.message
    workshop.write(Dockerfile=f"FROM {BASE}\n")
    await workshop.build(workshop.plan_of_dockerfile())

    workshop.images = workshop.make(registries=("registry.example",))
    failed = await workshop.failed(workshop.plan_of_dockerfile())
    assert "denied by policy" in failed.message
    await workshop.build(NODE_APP)  # the base images are the operator's own choice


async def test_cancelled_build_leaves_nothing_that_runs(workshop: Workshop) -> None:
    workshop.write(package_dot_json="{}")
    endless = msgspec.structs.replace(NODE_APP, build="echo it runs; sleep 1000")
    building = asyncio.create_task(workshop.build(endless))
    async with asyncio.timeout(BOUND_SECONDS):
        await workshop.told.wait()
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building
    assert workshop.lines[-1] == "CANCELLED: the build was ended"
    assert workshop.groups() == []


async def test_build_ends_with_its_time_and_with_the_disks_room(workshop: Workshop) -> None:
    workshop.write(package_dot_json="{}")
    endless = msgspec.structs.replace(NODE_APP, build="sleep 1000")
    failed = await workshop.failed(endless, seconds=1)
    assert failed.cause is FailureCause.BUILD_TIMEOUT
    workshop.images = workshop.make(disk_reserve_bytes=1 << 60)
    failed = await workshop.failed(endless)
    assert failed.cause is FailureCause.OUT_OF_DISK
    assert workshop.groups() == []


async def test_what_a_build_writes_is_known_while_it_runs(workshop: Workshop) -> None:
    """By it a full disk ends the build that wrote most."""
    workshop.write(package_dot_json="{}")
    writes = "fs.writeFileSync('x', Buffer.alloc(3e7)); console.log('it', 'runs');"
    building = asyncio.create_task(
        workshop.build(msgspec.structs.replace(NODE_APP, build=f'node -e "{writes} for (;;);"'))
    )
    async with asyncio.timeout(BOUND_SECONDS):
        await workshop.told.wait()
    group = BuildGroup(workshop.cgroups, workshop.groups()[0].name)
    assert sum(group.written().values()) >= 30_000_000
    building.cancel()
    with pytest.raises(asyncio.CancelledError):
        await building


async def test_failed_build_leaves_no_more_in_the_cache_than_that_may_have(
    workshop: Workshop,
) -> None:
    """Else one could fill the disk with steps before the one that fails."""
    marker = secrets.token_hex(8)
    workshop.images = workshop.make(max_cache_bytes=1)

    async def is_gone_after_a_failure() -> bool:  # the builder may hold a result for a moment
        workshop.write(Dockerfile=f"FROM {BASE}\nRUN echo {marker} > /x\nRUN exit 3\n")
        assert "exit code 3" in (await workshop.failed(workshop.plan_of_dockerfile())).message
        kept = workshop.dockerd.run("buildx", "du", "--builder", "default", "--verbose")
        return marker not in kept

    await until(is_gone_after_a_failure)


async def test_images_go_but_those_of_kept_deployments(workshop: Workshop) -> None:
    workshop.write(package_dot_json="{}", index_dot_js="console.log(1)")
    first = await workshop.build(NODE_APP)
    await workshop.images.copy(first, "copied")
    await workshop.images.remove(first)
    assert workshop.run("copied") == "1\n"
    second = await workshop.build(NODE_APP)
    await workshop.images.collect({"copied"})
    assert workshop.run("copied") == "1\n"
    with pytest.raises(DeployFailed):
        await workshop.images.copy(second, "another")
