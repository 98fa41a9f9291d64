"""What is particular to apps in containers: their logs over restarts, their ends, what is left."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from moorage.engines.docker.container import container_name
from moorage.engines.docker.docker import DockerEngine
from moorage.engines.engine import AppExit, Incident, IncidentKind, InstanceSpec, Keep, Limits
from moorage.errors import DeployFailed, FailureCause, IsolationMissing
from moorage.planning.plan import Stack
from moorage.records.deployment import LogKind, LogStream
from support.engines.docker_fixture import BASE, Dockerd, make_docker, opened_docker
from support.engines.small_apps import (
    LIMITS,
    ON_PORT,
    SERVER,
    build,
    build_and_start,
    connected,
    fetch,
    logged,
    plan,
    start,
)
from support.gateway.waiting import until

pytestmark = pytest.mark.root

COUNTING = "let n = 0; setInterval(() => console.log(`line ${n++}`), 5);\n" + ON_PORT
SMALL = Limits(memory_bytes=96 << 20, cpu_millis=1000, pids=64, disk_bytes=LIMITS.disk_bytes)
GREEDY = ON_PORT + (
    "server.on('request', () => { const all = []; for (;;) all.push(Buffer.alloc(1e7, 1)); });"
)
POLITE = "process.on('SIGTERM', () => { console.error('goodbye'); process.exit(3); });\n" + (
    SERVER % "process.env.PORT, '127.0.0.1'"
)


async def numbers(engine: DockerEngine) -> list[int]:
    """The numbers of the lines in the app's log."""
    page = await engine.read_log("first", LogKind.RUNTIME)
    return [int(line.text.split()[1]) for line in page.lines if line.text.startswith("line ")]


async def test_app_outlives_its_gateway_and_no_line_is_lost_or_doubled(
    dockerd: Dockerd, source: Path, tmp_path: Path
) -> None:
    (source / "index.js").write_text(COUNTING)
    first = make_docker(dockerd, tmp_path / "state")
    await first.open()
    instance = await build_and_start(first, source, plan())
    await logged(first, "line 20")
    before = max(await numbers(first))
    await first.close(stop_apps=False)
    async with opened_docker(
        make_docker(dockerd, tmp_path / "state", instance_id=first.instance_id)
    ) as second:
        assert await second.running() == {"first": instance}
        assert await fetch(instance.address) == "hello"
        await logged(second, f"line {before + 200}")
        found = await numbers(second)
    assert found == list(range(len(found)))


async def test_container_that_a_killed_gateway_has_not_recorded_is_removed(
    dockerd: Dockerd, source: Path, tmp_path: Path
) -> None:
    """Its image could not be removed else, and the gateway after that not be started."""
    first = make_docker(dockerd, tmp_path / "state")
    own = first.instance_id
    await first.open()
    await build(first, source, plan())
    await first.close(stop_apps=False)
    images = dockerd.run("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    (image,) = [name for name in images if own in name]
    labels = (f"--label=moorage.instance={own}", "--label=moorage.deployment=first")
    dockerd.run("create", *labels, "--name", container_name(own, "first"), image)
    async with opened_docker(make_docker(dockerd, tmp_path / "state", instance_id=own)) as second:
        assert container_name(own, "first") not in dockerd.run("ps", "--all", "--no-trunc")
        await second.stop("first", keep=Keep.LOGS)
        assert image not in dockerd.run("images", "--format", "{{.Repository}}:{{.Tag}}")


async def test_end_is_told_by_code_and_lack_of_memory(docker: DockerEngine, source: Path) -> None:
    (source / "index.js").write_text(POLITE)
    instance = await build_and_start(docker, source, plan(start="true && node index.js"))
    assert await fetch(instance.address) == "hello"  # though it listens on 127.0.0.1 alone
    await docker.stop("first")
    assert (await docker.inspect("first")).exit == AppExit(exit_code=3, out_of_memory=False)
    said = (await docker.read_log("first", LogKind.RUNTIME)).lines[-1]
    assert (said.stream, said.text) == (LogStream.ERR, "goodbye")

    (source / "index.js").write_text(GREEDY)
    await build(docker, source, plan(), deployment_id="second")
    instance = await start(docker, plan(), deployment_id="second", limits=SMALL)
    reader, writer = await connected(instance)
    writer.write(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
    await reader.read()
    writer.close()
    async with asyncio.timeout(60):
        assert await docker.next_incident() == Incident("second", IncidentKind.ENDED)
    with pytest.raises(FileNotFoundError):
        await connected(instance)
    ended = (await docker.inspect("second")).exit
    assert ended is not None
    assert ended.out_of_memory


async def test_app_that_can_not_start_is_told_why(docker: DockerEngine, source: Path) -> None:
    (source / "index.js").write_text("console.error('no luck'); process.exit(9);")
    await build(docker, source, plan())
    with pytest.raises(DeployFailed) as failed:
        await start(docker, plan())
    assert failed.value.cause is FailureCause.CRASHED
    assert "exit code 9" in failed.value.reason
    assert "no luck" in failed.value.log_tail


async def test_image_that_can_not_be_started_leaves_no_container(
    docker: DockerEngine, dockerd: Dockerd, source: Path
) -> None:
    nobodys = msgspec.structs.replace(plan(start=""), stack=Stack.DOCKERFILE)
    (source / "Dockerfile").write_text(f'FROM {BASE}\nUSER nobody-here\nCMD ["node"]\n')
    await build(docker, source, nobodys)
    spec = InstanceSpec(deployment_id="first", plan=nobodys, limits=LIMITS, volume="kept")
    with pytest.raises(DeployFailed, match=r"can't be started: .*nobody-here"):
        await docker.start(spec, timeout_seconds=60)
    assert docker.instance_id not in dockerd.run("ps", "--all", "--no-trunc")
    assert not (dockerd.shared / docker.instance_id / "volumes" / "kept").exists()
    await docker.stop("first", keep=Keep.LOGS)
    assert docker.instance_id not in dockerd.run("images")


WRITER = """\
const fs = require('fs');
let written = 0;
try { for (; written < 64; written++) fs.appendFileSync('/scratch/x', Buffer.alloc(1 << 20)); }
catch (error) { console.log(`${error.code} after ${written} MiB`); }
fs.writeFileSync('/data/kept', `${fs.statSync('/data').uid}`);
console.log(fs.readFileSync('/proc/self/limits').toString());
console.log(`/data is of ${fs.readFileSync('/data/kept')}`);
"""


async def test_volume_of_an_image_is_in_memory_and_data_is_its_users_by_name(
    docker: DockerEngine, dockerd: Dockerd, source: Path
) -> None:
    """Docker would give it the machine's disk, without a limit."""
    (source / "passwd").write_text("somebody:x:1234:1234::/:/bin/sh\n")
    (source / "index.js").write_text(WRITER + ON_PORT)
    (source / "Dockerfile").write_text(
        f'FROM {BASE}\nVOLUME ["/scratch", "/tmp/x"]\nVOLUME /data /tmp\n'
        "HEALTHCHECK --interval=1ms CMD echo\n"
        'COPY passwd /etc/\nCOPY index.js /\nUSER somebody\nCMD ["node", "/index.js"]\n'
    )
    image = msgspec.structs.replace(plan(start=""), stack=Stack.DOCKERFILE)
    await build(docker, source, image)
    spec = InstanceSpec(deployment_id="first", plan=image, limits=LIMITS, volume="kept")
    instance = await docker.start(spec, timeout_seconds=60)
    assert await fetch(instance.address) == "hello"
    await logged(docker, "ENOSPC after 16 MiB")
    said = await logged(docker, "/data is of 1234")
    (core,) = [line.split() for line in said.splitlines() if "Max core file size" in line]
    assert core[-3:] == ["1", "1", "bytes"]
    assert dockerd.run("volume", "ls", "--quiet") == ""
    assert "health" not in dockerd.run("ps", "--format", "{{.Status}}")


async def test_flushed_packet_filter_is_told_and_loaded_again(
    docker: DockerEngine, dockerd: Dockerd
) -> None:
    await docker.check()
    dockerd.inside("nft", "delete", "table", "bridge", f"moorage_{docker.instance_id}")
    with pytest.raises(IsolationMissing):
        await docker.check()

    async def is_whole() -> bool:
        tables = dockerd.inside("nft", "list", "tables")
        return f"table bridge moorage_{docker.instance_id}" in tables

    await until(is_whole)
    await docker.check()


async def test_closed_engine_leaves_nothing(dockerd: Dockerd, source: Path, tmp_path: Path) -> None:
    engine = make_docker(dockerd, tmp_path / "state")
    killed = dockerd.shared / engine.instance_id / "killed.build" / "secrets"
    killed.mkdir(parents=True)
    async with opened_docker(engine):
        assert not killed.exists()
        await build_and_start(engine, source, plan())
        await engine.stop("first", keep=Keep.NOTHING)
    own = engine.instance_id
    listed = [("ps", "--all"), ("network", "ls"), ("images",)]
    assert [line for words in listed if own in (line := dockerd.run(*words, "--no-trunc"))] == []
    assert own not in dockerd.inside("nft", "list", "ruleset")
    assert own not in dockerd.inside("iptables", "-S")
    assert not (dockerd.shared / own).exists()
    assert list(Path("/sys/fs/cgroup").glob(f"*/moorage-{own}")) == []


async def test_nothing_passes_from_one_build_to_another_on_dockers_own_bridge(
    dockerd: Dockerd, tmp_path: Path
) -> None:
    """Builds run there; containers stand for them."""
    serving = "require('http').createServer((_, answer) => answer.end('hello')).listen(3000)"
    server = dockerd.run("run", "--detach", BASE, "node", "-e", serving).strip()
    try:
        where = "{{.NetworkSettings.IPAddress}}"
        address = dockerd.run("inspect", "--format", where, server).strip()
        asking = f"""\
const end = text => {{ console.log(text); process.exit(); }};
const ask = () => fetch('http://{address}:3000').then(
  answer => answer.text().then(end),
  error => error.cause.code === 'ECONNREFUSED' ? setTimeout(ask, 20) : end(error.cause.code));
ask();
setTimeout(() => end('silence'), %d);
"""

        async def asked(milliseconds: int) -> str:
            words = ("run", "--rm", BASE, "node", "-e", asking % milliseconds)
            return (await asyncio.to_thread(dockerd.run, *words)).strip()

        assert await asked(60_000) == "hello"
        async with opened_docker(make_docker(dockerd, tmp_path / "state")):
            assert await asked(500) in ("silence", "EHOSTUNREACH")
        assert await asked(60_000) == "hello"
    finally:
        dockerd.run("rm", "--force", server)
