"""What every engine does, on real apps.

Where what an engine runs on decides otherwise, a test says so by `skip_for`; what holds there
instead is in `test_kubernetes_engine.py` and `test_containers.py`.
"""

import asyncio
import ctypes
import os
import resource
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from gateway_process import Gateway

from moorage.engines.docker.docker import DockerEngine
from moorage.engines.engine import AppExit, Engine, Instance, Keep, WrittenFiles, log_tail
from moorage.engines.isolation import slots
from moorage.engines.isolation.network import network_of
from moorage.engines.kubernetes.engine import KubernetesEngine
from moorage.engines.sandbox.sandbox import SUBNET, Sandbox
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan
from moorage.records.deployment import LogKind
from support.engines.sandbox_fixture import make_sandbox, opened
from support.engines.small_apps import (
    LIMITS,
    MIB,
    ON_PORT,
    OWN,
    SERVER,
    belongings,
    build,
    build_and_start,
    connected,
    fetch,
    is_open,
    logged,
    plan,
    processes,
    slots_of,
    start,
)
from support.gateway.waiting import until, until_read

CLONE_NEWNET = 0x40000000  # sched.h

pytestmark = [pytest.mark.root, pytest.mark.spread("runtime")]


def skip_for(runtime: Engine, *kinds: type, why: str) -> None:
    """Skips what the parts that these engines run on decide otherwise."""
    if isinstance(runtime, kinds):
        pytest.skip(f"{type(runtime).__name__}: {why}")


async def test_app_builds_starts_and_answers(runtime: Engine, source: Path) -> None:
    (source / "static").mkdir()
    (source / "static" / "data.txt").write_text("data")
    instance = await build_and_start(runtime, source, plan())
    assert await fetch(instance.address) == "hello"
    assert instance.port == 3000
    assert await runtime.running() == {"first": instance}
    assert await runtime.known() == {"first"}
    assert (await runtime.inspect("first")).exit is None


async def test_build_and_app_see_their_environment(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text(
        "console.log(JSON.stringify(process.env)); console.log('told');"
        + SERVER % "process.env.PORT"
    )
    await build_and_start(runtime, source, plan(install="env", build="pwd; id -u; ls -ld ."))
    built = await log_tail(runtime, "first", LogKind.BUILD)
    assert "AT_BUILD=yes" in built
    assert "CI=1" in built
    assert "NODE_ENV" not in built
    assert "AT_RUN" not in built
    assert "\n/app\n" in built
    ran = await logged(runtime, "told\n")
    for expected in (
        '"AT_RUN":"yes"',
        '"NODE_ENV":"production"',
        '"HOST":"0.0.0.0"',
        '"PORT":"3000"',
    ):
        assert expected in ran
    assert "AT_BUILD" not in ran


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::", "0.0.0.0"])
async def test_app_answers_wherever_it_is_bound(
    runtime: Engine, source: Path, address: str
) -> None:
    if address in ("127.0.0.1", "::1"):
        skip_for(runtime, KubernetesEngine, why="a pod is reached by its own address alone")
    if address == "::1":
        skip_for(runtime, DockerEngine, why="a container's loopback has no IPv6")
    (source / "index.js").write_text(SERVER % f"process.env.PORT, '{address}'")
    instance = await build_and_start(runtime, source, plan())
    assert await fetch(instance.address) == "hello"


async def test_another_port_is_found(runtime: Engine, source: Path) -> None:
    skip_for(
        runtime,
        KubernetesEngine,
        why="the kubelet asks at the port that the pod names, which is the plan's",
    )
    (source / "index.js").write_text(SERVER % "8123")
    instance = await build_and_start(runtime, source, plan())
    assert instance.port == 8123
    assert await fetch(instance.address) == "hello"


async def test_app_may_listen_below_1024(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text(SERVER % 80)
    instance = await build_and_start(runtime, source, msgspec.structs.replace(plan(), port=80))
    assert instance.port == 80
    assert await fetch(instance.address) == "hello"


async def test_wanted_port_wins_over_one_that_listened_earlier(
    runtime: Engine, source: Path
) -> None:
    (source / "index.js").write_text(
        "const wanted = require('http').createServer((_, answer) => answer.end('wanted'));\n"
        "require('net').createServer().listen(9229, () =>"
        " setTimeout(() => wanted.listen(process.env.PORT), 150));\n"
    )
    instance = await build_and_start(runtime, source, plan())
    assert instance.port == 3000
    assert await fetch(instance.address) == "wanted"


async def test_crash_names_exit_code_and_last_lines(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text("console.error('no database'); process.exit(3);")
    await build(runtime, source, plan())
    with pytest.raises(DeployFailed) as caught:
        await start(runtime, plan())
    assert caught.value.cause is FailureCause.CRASHED
    assert "exit code 3" in caught.value.reason
    assert "no database" in caught.value.log_tail
    assert "no database" in await log_tail(runtime, "first", LogKind.RUNTIME)
    assert (await runtime.inspect("first")).exit == AppExit(exit_code=3, out_of_memory=False)


async def test_crash_after_start_is_told(runtime: Engine, source: Path) -> None:
    skip_for(
        runtime,
        KubernetesEngine,
        why="the kubelet starts an app again at once; its end is an event",
    )
    (source / "index.js").write_text(
        SERVER.replace("response.end('hello')", "process.exit(7)") % "process.env.PORT"
    )
    instance = await build_and_start(runtime, source, plan())
    with pytest.raises(OSError):  # noqa: PT011 (reset or closed, as it happens)
        await fetch(instance.address)
    reasons: list[AppExit | None] = []

    async def ended() -> bool:
        reasons.append((await runtime.inspect("first")).exit)
        return reasons[-1] is not None and reasons[-1].exit_code is not None

    await until(ended)
    assert reasons[-1] == AppExit(exit_code=7, out_of_memory=False)
    assert await runtime.running() == {}


async def test_out_of_memory_is_named(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text("const kept = []; for (;;) kept.push(Buffer.alloc(1e7, 1));")
    await build(runtime, source, plan())
    with pytest.raises(DeployFailed) as caught:
        await start(runtime, plan())
    assert caught.value.cause is FailureCause.OUT_OF_MEMORY
    assert "256 MiB" in caught.value.reason
    ended = (await runtime.inspect("first")).exit
    assert ended is not None
    assert ended.out_of_memory


async def test_port_never_bound_is_named_and_the_app_stopped(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text("console.log('idle'); setInterval(() => {}, 1000);")
    await build(runtime, source, plan(start=f"node index.js 6b1f0e{OWN}"))
    with pytest.raises(DeployFailed) as caught:
        await start(runtime, plan(start=f"node index.js 6b1f0e{OWN}"), timeout_seconds=8)
    assert caught.value.cause is FailureCause.PORT_NOT_BOUND
    assert "3000" in caught.value.reason
    assert "idle" in caught.value.log_tail
    assert processes(f"6b1f0e{OWN}") == []


@pytest.mark.parametrize(
    ("the_plan", "cause"),
    [
        (plan(install="echo broken; exit 4"), FailureCause.INSTALL_FAILED),
        (plan(install="true", build="echo broken; exit 4"), FailureCause.BUILD_FAILED),
    ],
)
async def test_failed_step_names_command_and_exit_code(
    runtime: Engine, source: Path, the_plan: Plan, cause: FailureCause
) -> None:
    with pytest.raises(DeployFailed) as caught:
        await build(runtime, source, the_plan)
    assert caught.value.cause is cause
    assert "`echo broken; exit 4`" in caught.value.reason
    assert "exit code 4" in caught.value.reason
    assert "broken\n" in caught.value.log_tail
    assert "broken\n" in await log_tail(runtime, "first", LogKind.BUILD)


async def test_build_out_of_memory_is_named(runtime: Engine, source: Path) -> None:
    hungry = plan(build="node -e 'const kept = []; for (;;) kept.push(Buffer.alloc(1e7, 1))'")
    with pytest.raises(DeployFailed) as caught:
        await build(runtime, source, hungry)
    assert caught.value.cause is FailureCause.OUT_OF_MEMORY


async def test_build_out_of_disk_is_named_and_harms_no_other(runtime: Engine, source: Path) -> None:
    why = "its builder bounds no build's disk, but ends the one that fills it"
    skip_for(runtime, DockerEngine, KubernetesEngine, why=why)
    await build(runtime, source, plan(), deployment_id="neighbour")
    neighbour = await start(runtime, plan(), deployment_id="neighbour")
    with pytest.raises(DeployFailed) as caught:
        await build(runtime, source, plan(build="cat /dev/zero > filled"))
    assert caught.value.cause is FailureCause.OUT_OF_DISK
    assert await fetch(neighbour.address) == "hello"


async def test_build_timeout_kills_all_of_the_build(runtime: Engine, source: Path) -> None:
    slow = plan(
        build=f"setsid sleep 8471{OWN} & nohup sleep 8471{OWN} & echo waits; sleep 8471{OWN}"
    )
    with pytest.raises(DeployFailed) as caught:
        await build(runtime, source, slow, timeout_seconds=4)
    assert caught.value.cause is FailureCause.BUILD_TIMEOUT
    assert "waits" in caught.value.log_tail
    assert processes(f"sleep 8471{OWN}") == []


async def test_cancelled_build_leaves_no_process(runtime: Engine, source: Path) -> None:
    task = asyncio.create_task(
        build(runtime, source, plan(build=f"setsid sleep 8472{OWN} & sleep 8472{OWN}"))
    )
    await until(
        lambda: len([line for line in processes(f"sleep 8472{OWN}") if "bwrap" not in line]) >= 2
    )
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert processes(f"sleep 8472{OWN}") == []
    await build(runtime, source, plan())


async def test_step_leaves_no_process_behind(runtime: Engine, source: Path) -> None:
    await build(runtime, source, plan(install=f"setsid sleep 8473{OWN} >/dev/null 2>&1 &"))
    assert processes(f"sleep 8473{OWN}") == []


async def test_link_in_the_source_is_refused(runtime: Engine, source: Path) -> None:
    (source / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(DeployFailed) as caught:
        await build(runtime, source, plan())
    assert caught.value.cause is FailureCause.UPLOAD_INVALID
    assert "passwd" in caught.value.reason


async def test_start_is_idempotent(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text(
        SERVER.replace("'hello'", "String(process.hrtime())") % "process.env.PORT"
    )
    (source / "index.js").write_text(
        "const born = String(process.hrtime());\n" + SERVER.replace("'hello'", "born") % "3000"
    )
    await build(runtime, source, plan())
    instances = await asyncio.gather(*(start(runtime, plan()) for _ in range(3)))
    assert instances[0] == instances[1] == instances[2]
    born = await fetch(instances[0].address)
    assert await start(runtime, plan()) == instances[0]
    assert await fetch(instances[0].address) == born


async def test_start_without_a_build_is_refused(runtime: Engine) -> None:
    with pytest.raises(DeployFailed):
        await start(runtime, plan())


async def test_failed_start_can_be_tried_again(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text(
        "if (process.env.MISSING === undefined) process.exit(1);\n" + ON_PORT
    )
    await build(runtime, source, plan())
    with pytest.raises(DeployFailed):
        await start(runtime, plan())
    instance = await start(runtime, plan(), variables={"MISSING": "no longer"})
    assert await fetch(instance.address) == "hello"


async def test_app_that_no_longer_listens_is_found_out_in_time(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(
        "const server = require('http').createServer((request, response) => {\n"
        "  response.setHeader('connection', 'close').end('hello'); server.close();\n"
        "}).listen(process.env.PORT);\n"
        "setInterval(() => {}, 1000);\n"
    )
    instance = await build_and_start(sandbox, source, plan())
    assert await sandbox.running() == {"first": instance}
    assert await fetch(instance.address) == "hello"

    async def is_found_out() -> bool:
        return not await sandbox.running()

    await until(is_found_out)
    assert (await sandbox.inspect("first")).exit is None


async def test_stopped_app_can_end_in_order_and_keeps_its_logs(
    runtime: Engine, source: Path
) -> None:
    (source / "index.js").write_text(
        "process.on('SIGTERM', () => { console.log('bye'); process.exit(0); });\n"
        "console.log('up');\n" + ON_PORT
    )
    instance = await build_and_start(runtime, source, plan())
    await runtime.stop("first")
    assert await runtime.running() == {}
    assert (await runtime.inspect("first")).exit == AppExit(exit_code=0, out_of_memory=False)
    assert await log_tail(runtime, "first", LogKind.RUNTIME) == "up\nbye\n"
    assert not await is_open(instance.address)
    again = await start(runtime, plan())
    assert await fetch(again.address) == "hello"
    await until_read(
        lambda: log_tail(runtime, "first", LogKind.RUNTIME), lambda said: said == "up\nbye\nup\n"
    )


async def test_stopped_app_keeps_its_files(runtime: Engine, source: Path) -> None:
    skip_for(
        runtime,
        KubernetesEngine,
        DockerEngine,
        why="an app's image is read-only there; what must last is in its volume",
    )
    (source / "index.js").write_text(
        "require('fs').appendFileSync('starts', 'x');\n"
        "const count = require('fs').readFileSync('starts', 'utf8').length;\n"
        + SERVER.replace("'hello'", "String(count)")
        % "process.env.PORT"
    )
    await build_and_start(runtime, source, plan())
    await runtime.stop("first")
    assert await fetch((await start(runtime, plan())).address) == "2"


async def test_files_written_since_the_build_are_counted_also_once_it_is_stopped(
    runtime: Engine, source: Path
) -> None:
    skip_for(
        runtime,
        KubernetesEngine,
        DockerEngine,
        why="an app's image is read-only there, so it has written nothing",
    )
    (source / "index.js").write_text(
        "const fs = require('fs');\n"
        "fs.mkdirSync('data/.cache', {recursive: true});\n"
        "fs.writeFileSync('data/one', 'x'.repeat(5000));\n"
        "fs.writeFileSync('data/.cache/tool', 'x');\n"
        "fs.writeFileSync(process.env.HOME + '/two', '');\n" + SERVER % "process.env.PORT"
    )
    await build_and_start(runtime, source, plan(build="echo made > made"))
    expected = WrittenFiles(
        files=2,
        size_bytes=5000,
        complete=True,
        paths=("/app/data/one",),
        outside=("/home/app/two",),
    )
    assert await runtime.written("first") == expected
    await runtime.copy("first", "second")
    assert await runtime.written("second") == expected
    await runtime.stop("first")
    assert await runtime.written("first") == expected
    await runtime.stop("first", keep=Keep.LOGS)
    assert await runtime.written("nobody") is None


async def test_app_that_ignores_sigterm_is_killed(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text("process.on('SIGTERM', () => {});\n" + ON_PORT)
    await build_and_start(runtime, source, plan(start=f"node index.js 8474{OWN}"))
    await runtime.stop("first")
    assert processes(f"index.js 8474{OWN}") == []
    assert (await runtime.inspect("first")).exit == AppExit(exit_code=137, out_of_memory=False)


async def test_app_whose_name_is_no_text_is_stopped(runtime: Engine, source: Path) -> None:
    named = "require('fs').writeFileSync('/proc/self/comm', Buffer.from([0xff, 0xc3]));\n"
    (source / "index.js").write_text(named + ON_PORT)
    await build_and_start(runtime, source, plan())
    await runtime.stop("first")
    assert await runtime.running() == {}


async def test_connections_are_counted_while_they_are_open(runtime: Engine, source: Path) -> None:
    skip_for(runtime, KubernetesEngine, why="a cluster does not tell who is connected to a pod")
    assert await runtime.connections("first") == 0
    instance = await build_and_start(runtime, source, plan())
    await until(lambda: _has_connections(runtime, 0))
    held = []
    for _ in range(3):
        _, visitor = await connected(instance)
        held.append(visitor)
    await until(lambda: _has_connections(runtime, 3))
    for visitor in held:
        visitor.close()
    await until(lambda: _has_connections(runtime, 0))
    await runtime.stop("first")
    assert await runtime.connections("first") == 0


async def _has_connections(runtime: Engine, count: int) -> bool:
    return await runtime.connections("first") == count


async def test_usage_tells_processor_time_and_memory_of_what_runs(
    runtime: Engine, source: Path
) -> None:
    (source / "index.js").write_text(
        "globalThis.held = Buffer.alloc(64 << 20, 1);\n"
        "const busy = (end) => { while (Date.now() < end); };\n"
        "setInterval(() => busy(Date.now() + 5), 10);\n" + ON_PORT
    )
    await build_and_start(runtime, source, plan())
    usage = await until_read(  # a cluster's processor time is counted from the first question on
        runtime.usage, lambda usage: usage["first"].cpu_ms >= 250, pause_seconds=0.1
    )
    used = usage["first"]
    assert 64 * MIB < used.memory_bytes < LIMITS.memory_bytes
    await runtime.stop("first")
    assert await runtime.usage() == {}


async def test_remove_leaves_nothing(sandbox: Sandbox, source: Path, instance_id: str) -> None:
    before = belongings(instance_id)
    await build_and_start(sandbox, source, plan(start=f"node index.js 8475{OWN}"))
    assert all(belongings(instance_id)[kind] for kind in ("mounts", "namespaces", "groups"))
    await sandbox.stop("first", keep=Keep.NOTHING)
    assert belongings(instance_id) == before
    assert processes(f"index.js 8475{OWN}") == []
    assert await sandbox.known() == set()
    assert await log_tail(sandbox, "first", LogKind.RUNTIME) == ""


async def test_close_with_apps_leaves_nothing(tmp_path: Path, source: Path) -> None:
    runtime = make_sandbox(tmp_path / "state")
    instance_id = runtime.instance_id
    before = belongings(instance_id)
    await runtime.open()
    try:
        await build_and_start(runtime, source, plan(start=f"node index.js 8476{OWN}"))
    finally:
        await runtime.close(stop_apps=True)
    after = belongings(instance_id)
    after.pop("slots"), before.pop("slots")
    assert after == before
    assert processes(f"index.js 8476{OWN}") == []
    assert not (Path("/run/moorage") / instance_id).exists()
    assert instance_id not in subprocess.check_output(["nft", "list", "tables"], text=True)
    await runtime.open()
    try:
        assert await runtime.known() == {"first"}
        assert await fetch((await start(runtime, plan())).address) == "hello"
    finally:
        await runtime.close(stop_apps=True)


@pytest.fixture
def instance_id(sandbox: Sandbox) -> str:
    return sandbox.instance_id


async def test_app_survives_the_gateway_and_is_adopted(
    gateway: Callable[..., Gateway], source: Path
) -> None:
    (source / "index.js").write_text(
        "const born = String(process.hrtime());\n" + SERVER.replace("'hello'", "born") % "3000"
    )
    first = gateway()
    address = await first.started()
    born = await fetch(address)
    first.kill()
    assert await fetch(address) == born
    second = await first.successor()
    assert await second.running() == {
        "first": Instance(deployment_id="first", address=address, port=3000)
    }
    assert (await start(second, plan())).address == address
    assert await fetch(address) == born
    await second.stop("first")
    assert await second.running() == {}
    assert (await second.inspect("first")).exit == AppExit(exit_code=143, out_of_memory=False)


async def test_exit_while_no_gateway_ran_is_known(
    gateway: Callable[..., Gateway], source: Path
) -> None:
    (source / "index.js").write_text(
        SERVER.replace("response.end('hello')", "process.exit(9)") % "process.env.PORT"
    )
    first = gateway()
    address = await first.started()
    first.kill()
    with pytest.raises(OSError):  # noqa: PT011 (reset or closed, as it happens)
        await fetch(address)
    second = await first.successor()

    async def known() -> bool:
        return (await second.inspect("first")).exit == AppExit(exit_code=9, out_of_memory=False)

    await until(known)


async def test_build_dies_with_the_gateway_and_is_swept(gateway: Callable[..., Gateway]) -> None:
    first = gateway(step=f"echo begun; setsid sleep 8478{OWN} & sleep 8478{OWN}")
    await until(lambda: any(line.startswith("sleep") for line in processes(f"sleep 8478{OWN}")))
    first.kill()
    await until(lambda: processes(f"sleep 8478{OWN}") == [])
    second = await first.successor()
    assert await second.known() == {"first"}
    assert await second.running() == {}
    await until_read(
        lambda: log_tail(second, "first", LogKind.BUILD), lambda said: "begun\n" in said
    )
    left = belongings(first.instance_id)
    assert {kind: found for kind, found in left.items() if found} == {}
    await second.stop("first", keep=Keep.NOTHING)
    assert await second.known() == set()


async def test_closed_door_is_opened_again(sandbox: Sandbox, source: Path) -> None:
    (source / "index.js").write_text(SERVER % "process.env.PORT, '::1'")
    instance = await build_and_start(sandbox, source, plan())
    await until(lambda: len(_doors(sandbox)) == 1)
    (door,) = _doors(sandbox)
    os.kill(door, 9)
    await until(lambda: not Path(f"/proc/{door}").exists())
    assert await sandbox.running() == {}
    assert await start(sandbox, plan()) == instance
    assert await fetch(instance.address) == "hello"


def _doors(sandbox: Sandbox) -> list[int]:
    """The processes that are doors by now: they begin as something else."""
    found = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [int(entry.name) for entry in found if _is_door(entry, sandbox)]


def _is_door(entry: Path, sandbox: Sandbox) -> bool:
    try:
        groups = (entry / "cgroup").read_text()
        return (
            f"{sandbox.instance_id}/apps/door-" in groups
            and b"socket-proxyd" in (entry / "cmdline").read_bytes()
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_flushed_firewall_is_loaded_again(sandbox: Sandbox) -> None:
    table = f"moorage_{sandbox.instance_id}"
    subprocess.run(["nft", "delete", "table", "inet", table], check=True)
    await asyncio.to_thread(sandbox.maintain)
    assert "meta nfproto" in subprocess.check_output(
        ["nft", "list", "table", "inet", table], text=True
    )


async def test_unchanged_firewall_is_watched_without_a_program(sandbox: Sandbox) -> None:
    """The kernel counts a program's page faults here once it has ended."""

    def tended() -> int:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0  # where nobody else changes anything
        for _ in range(2):  # it is loaded, and looked at once more
            sandbox.maintain()
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        sandbox.maintain()
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before

    with ThreadPoolExecutor(1) as thread:
        assert await asyncio.get_running_loop().run_in_executor(thread, tended) == 0


async def test_docker_that_is_started_later_lets_apps_packets_pass(sandbox: Sandbox) -> None:
    """Docker drops what it does not know; here it is a chain of its name in another network."""
    chain = ["iptables", "-w", "-S", "DOCKER-USER"]

    def with_docker() -> list[str]:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0  # of this thread, which then ends
        sandbox.maintain()
        subprocess.run([*chain[:2], "-N", chain[3]], check=True)
        for _ in range(2):  # it is not done twice
            sandbox.maintain()
        return subprocess.check_output(chain, text=True).splitlines()

    with ThreadPoolExecutor(1) as thread:
        rules = await asyncio.get_running_loop().run_in_executor(thread, with_docker)
    apps = f"mo{sandbox.instance_id}-+"
    assert sorted(rules) == [
        f"-A DOCKER-USER -i {apps} -j ACCEPT",
        f"-A DOCKER-USER -o {apps} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-N DOCKER-USER",
    ]


async def test_connections_of_an_app_before_do_not_count_for_the_next_with_its_address(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    """The kernel follows them for minutes; an app with too many can't even ask for names."""
    slot = slots.claim(SUBNET, tmp_path)
    flows = ["inet", f"moorage_{sandbox.instance_id}", "flows"]
    counted = f"{{ {slot.app_address} ct count over 1024 }}"
    subprocess.run(["nft", "add", "element", *flows, counted], check=True)
    made = network_of(sandbox.instance_id, slot)
    made.create()
    try:
        assert slot.app_address not in subprocess.check_output(
            ["nft", "list", "set", *flows], text=True
        )
        made.create()  # with nothing to forget
    finally:
        made.remove()
        slots.release(slot.number, tmp_path)


async def test_app_that_is_stopped_has_no_slot(tmp_path: Path, source: Path) -> None:
    """So what is kept of versions that were replaced takes no network from others."""
    runtime = make_sandbox(tmp_path / "state")
    async with opened(runtime):
        await build_and_start(runtime, source, plan())
        assert len(slots_of(str(tmp_path))) == 1
        await runtime.stop("first")
        assert slots_of(str(tmp_path)) == []
        assert await fetch((await start(runtime, plan())).address) == "hello"


async def test_start_gives_no_slot_to_what_is_stopped(tmp_path: Path, source: Path) -> None:
    runtime = make_sandbox(tmp_path / "state")
    await runtime.open()
    try:
        await build_and_start(runtime, source, plan())
        await runtime.stop("first")
        await runtime.close(stop_apps=False)
        await runtime.open()
        assert slots_of(str(tmp_path)) == []
    finally:
        await runtime.close(stop_apps=True)


async def test_lost_slot_is_replaced_by_another(tmp_path: Path, source: Path) -> None:
    """As after a restart of the machine, when another gateway came first."""
    (source / "index.js").write_text(
        "require('fs').appendFileSync('starts', String(process.getuid()) + ' ');\n"
        + SERVER.replace("'hello'", "require('fs').readFileSync('starts', 'utf8')") % "3000"
    )
    runtime = make_sandbox(tmp_path / "state")
    await runtime.open()
    first = await build_and_start(runtime, source, plan())
    uid = (await fetch(first.address)).strip()
    (slot,) = slots_of(str(tmp_path))
    await runtime.close(stop_apps=True)
    slot.write_text(str(source))
    try:
        await runtime.open()
        again = await start(runtime, plan())
        uids = (await fetch(again.address)).split()
        assert uids[0] == uid
        assert uids[1] != uid
        await runtime.stop("first", keep=Keep.NOTHING)
    finally:
        await runtime.close(stop_apps=True)
        slot.unlink()


async def test_disk_that_was_not_unmounted_is_checked_and_used(
    tmp_path: Path, source: Path
) -> None:
    runtime = make_sandbox(tmp_path / "state")
    await runtime.open()
    try:
        await build_and_start(runtime, source, plan())
        await runtime.stop("first")
        image = tmp_path / "state" / "deployments" / "first" / "disk.img"
        with image.open("r+b") as file:
            file.seek(1024 + 0x3A)
            file.write(b"\0\0")
        assert await fetch((await start(runtime, plan())).address) == "hello"
    finally:
        await runtime.close(stop_apps=True)


async def test_app_inherits_nothing_but_its_output(runtime: Engine, source: Path) -> None:
    (source / "index.js").write_text(ON_PORT)
    look = "ls /proc/self/fd; ls -l /proc/self/fd; echo looked"
    looking = plan(build="ls -l /proc/self/fd", start=f"{look}; exec node index.js")
    await build_and_start(runtime, source, looking)
    lines = (await logged(runtime, "looked\n")).splitlines()
    assert lines[:4] == ["0", "1", "2", "3"]  # 3 is the directory that ls reads
    assert "-> /proc/" in next(line for line in lines if " 3 -> " in line)
    built = await log_tail(runtime, "first", LogKind.BUILD)
    assert " 3 -> /proc/" in built
    assert " 4 -> " not in built


async def test_build_log_begins_with_why_it_is_built_so(runtime: Engine, source: Path) -> None:
    because = ("engines asks for node 20", "node 20.19.4 is nearest")
    planned = msgspec.structs.replace(plan(build="echo built"), because=because)
    await build(runtime, source, planned)
    log = (await log_tail(runtime, "first", LogKind.BUILD)).splitlines()
    if not isinstance(runtime, Sandbox):
        assert log.pop(len(because)).startswith(("built on ", "FROM "))
    assert log == [*because, "$ echo built", "built"]
