"""What is shared can't be used up: an app or a build meets its own limits, its neighbour none."""

import asyncio
import contextlib
import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import arena
import pytest
import pytest_asyncio
from apps import (
    ATTACKS,
    MEBIBYTE,
    PATIENCE_SECONDS,
    SMALL,
    Deployer,
    answers,
    ask,
    attempts,
    plan,
    upload,
)

from conftest import Host
from moorage.engines.engine import Instance, Keep, Limits, log_tail
from moorage.engines.isolation.bubblewrap import find_servers
from moorage.engines.logs.store import CAP_BYTES
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind
from support.engines.small_apps import connected
from support.gateway.waiting import until, until_read

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]


@functools.cache
def outside(*command: str) -> dict[str, Any]:
    """An attempt's result outside the sandbox."""
    program, *args = command
    argv = [arena.PYTHON, str(ATTACKS / program), *args]
    done = subprocess.run(argv, capture_output=True, timeout=300, check=True,
                          start_new_session=True)  # fmt: skip
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(deployer: Deployer, source: Path) -> Instance:
    """An app that must not notice anything."""
    return await deployer.deploy("neighbour", source, plan(), SMALL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(deployer: Deployer, source: Path) -> Instance:
    """An app that uses up what it can."""
    return await deployer.deploy("glutton", source, plan(), SMALL)


async def attempt(
    phase: str, deployer: Deployer, app: Instance, source: Path, *command: str
) -> dict[str, Any]:
    """One attempt's result, by the app or by a build."""
    if phase == "app":
        return (await attempts(app, [list(command)]))[0]
    await deployer.build(
        "builder", source, plan(install=f"python3 attacks/{' '.join(command)}"), SMALL
    )
    return (await deployer.results("builder"))[-1]


async def answers_again(instance: Instance) -> None:
    """Returns once the app answers: its door takes new connections when old ones are gone."""
    while True:
        with contextlib.suppress(ConnectionError):
            if await answers(instance):
                return
        await asyncio.sleep(0.02)


def state_bytes(host: Host) -> int:
    """What the runtime takes of the host's disk, its apps' disks included, once all is written."""
    os.sync()
    done = subprocess.run(
        ["du", "-sx", "--block-size=1", str(host.state)], capture_output=True, check=True
    )
    return int(done.stdout.split()[0])


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_fork_bomb_meets_the_process_limit(
    phase: str, deployer: Deployer, app: Instance, neighbour: Instance, source: Path
) -> None:
    assert outside("exhaust.py", "fork", "200")["succeeded"]
    tried, unharmed = await asyncio.gather(
        attempt(phase, deployer, app, source, "exhaust.py", "fork", "200"), answers(neighbour)
    )
    assert tried["detail"] == "EAGAIN"
    assert unharmed
    assert await answers(app)


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_taking_memory_kills_only_oneself(
    phase: str, deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    assert outside("exhaust.py", "memory", "300")["succeeded"]
    greedy = "exec python3 attacks/exhaust.py memory 300"
    what = plan(build=greedy) if phase == "build" else plan(greedy)
    with pytest.raises(DeployFailed) as failure:
        await deployer.deploy("greedy", source, what, SMALL)
    assert failure.value.cause is FailureCause.OUT_OF_MEMORY
    assert await answers(neighbour)


async def test_a_child_that_takes_memory_leaves_the_neighbour_alone(
    deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    parent = await deployer.deploy("parent", source, plan(), SMALL)
    try:
        tried = (await attempts(parent, [["exhaust.py", "memory", "300"]]))[0]
        assert tried["detail"] in {"killed by SIGKILL", "exit 1"}  # or it was refused
    except (OSError, asyncio.IncompleteReadError):
        pass  # cgroup v2: the kernel kills the whole app
    assert await answers(neighbour)


@pytest.mark.parametrize("directory", ["/app", "/tmp", "/home/app"])
@pytest.mark.parametrize("phase", ["app", "build"])
async def test_filling_the_disk_fills_only_ones_own(
    phase: str,
    directory: str,
    deployer: Deployer,
    app: Instance,
    neighbour: Instance,
    source: Path,
    host: Host,
) -> None:
    assert outside("exhaust.py", "disk", str(host.directory), "80")["succeeded"]
    tried = await attempt(phase, deployer, app, source, "exhaust.py", "disk", directory, "80")
    assert tried["detail"] == "ENOSPC"
    assert await answers(neighbour)


@pytest.mark.parametrize(
    ("phase", "directory"), [("app", "/tmp"), ("app", "/dev/shm"), ("build", "/dev/shm")]
)
async def test_files_in_memory_take_no_more_than_they_may(
    phase: str, directory: str, deployer: Deployer, app: Instance, source: Path, host: Host
) -> None:
    assert outside("exhaust.py", "disk", str(host.directory), "80")["succeeded"]
    tried = await attempt(phase, deployer, app, source, "exhaust.py", "disk", directory, "80")
    assert tried["detail"] == "ENOSPC"


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_using_up_inodes_uses_only_ones_own(
    phase: str, deployer: Deployer, app: Instance, neighbour: Instance, source: Path, host: Host
) -> None:
    assert outside("exhaust.py", "inodes", str(host.directory), "20000")["succeeded"]
    tried = await attempt(phase, deployer, app, source, "exhaust.py", "inodes", "/app", "20000")
    assert tried["detail"] == "ENOSPC"
    assert await answers(neighbour)


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_no_file_system_without_a_limit_can_be_written(
    phase: str, deployer: Deployer, app: Instance, source: Path
) -> None:
    """It would be as large as half the machine's memory."""
    tried = await attempt(phase, deployer, app, source, "exhaust.py", "disk", "/dev", "80")
    assert tried["detail"] == "EROFS"


def processors_outside() -> float:
    """How many processors it has outside for a second: for now few, if the machine is busy."""
    got = json.loads(outside.__wrapped__("exhaust.py", "cpu", "1", "8")["detail"])
    return float(got["cpu_seconds"] / got["wall_seconds"])


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_cpu_is_bounded_by_the_quota(
    phase: str, deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    quota = 0.1
    limits = Limits(memory_bytes=128 * MEBIBYTE, cpu_millis=100, pids=48, disk_bytes=64 * MEBIBYTE)
    await until(lambda: processors_outside() > 2 * quota, seconds=300)
    hog = "python3 attacks/exhaust.py cpu 2 4"
    if phase == "build":
        await deployer.build("hog", source, plan(install=hog), limits)
        tried = (await deployer.results("hog"))[-1]
    else:
        hog_app = await deployer.deploy("hog", source, plan(), limits)
        await asyncio.to_thread(sandbox.maintain)  # ends the larger share that a start has
        tried = (await attempts(hog_app, [["exhaust.py", "cpu", "2", "4"]]))[0]
    used = json.loads(tried["detail"])
    # A period of quota may be left over from before.
    assert used["cpu_seconds"] < quota * used["wall_seconds"] + 0.2


async def test_log_flood_takes_no_more_than_a_log_may(
    host: Host, deployer: Deployer, sandbox: Sandbox, neighbour: Instance, source: Path
) -> None:
    flooder = await deployer.deploy("flooder", source, plan(), SMALL)
    before = state_bytes(host)
    await ask(flooder, "/exec", ["python3", "attacks/exhaust.py", "log", "1024"])
    tail = functools.partial(log_tail, sandbox, "flooder", LogKind.RUNTIME)
    await until_read(tail, lambda said: "end-of-flood" in said, seconds=300)
    assert state_bytes(host) - before < CAP_BYTES["runtime"] + MEBIBYTE
    assert len(await tail(max_chars=4096)) <= 4096
    assert await answers(flooder)
    assert await answers(neighbour)
    await sandbox.stop("flooder", keep=Keep.NOTHING)


async def test_build_log_flood_takes_no_more_than_a_log_may(
    host: Host, deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """Without a line break, and not even text."""
    before = state_bytes(host)
    flood = "python3 attacks/exhaust.py log-one-line 1024"
    await deployer.build("loud", source, plan(install=flood), SMALL)
    assert state_bytes(host) - before < CAP_BYTES["build"] + MEBIBYTE
    assert "end-of-flood" in await log_tail(sandbox, "loud", LogKind.BUILD)
    await sandbox.stop("loud", keep=Keep.NOTHING)


@functools.cache
def flows_outside() -> int:
    """How many connections the kernel remembers of 20,000 made outside the sandbox."""
    before = tracked_connections()
    outside("exhaust.py", "flows", arena.PUBLIC_ADDRESS, "20000")
    return tracked_connections() - before


def tracked_connections() -> int:
    """How many connections the kernel remembers for this thread's network namespace."""
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_connections_one_makes_do_not_fill_the_hosts_table(
    phase: str, deployer: Deployer, app: Instance, source: Path
) -> None:
    """When the kernel's table of connections is full, nobody on the host can make another."""
    assert flows_outside() >= 19_000
    before = tracked_connections()
    flows = ("exhaust.py", "flows", arena.PUBLIC_ADDRESS, "20000")
    await attempt(phase, deployer, app, source, *flows)
    assert tracked_connections() - before < 10_000


@pytest.fixture(scope="module")
def local_resolver(host: Host) -> str:
    """The machine's name server, at an address of the machine's own: nobody answers there."""
    address = find_servers()[0]
    arena.ip("addr", "add", f"{address}/32", "dev", "lo")
    return address


@functools.cache
def questions_outside(address: str) -> int:
    """How many connections the kernel remembers of 6,000 questions from outside the sandbox."""
    before = tracked_connections()
    outside("exhaust.py", "queries", address, "6000")
    return tracked_connections() - before


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_questions_to_a_resolver_on_the_host_count_as_connections(
    phase: str, deployer: Deployer, app: Instance, source: Path, local_resolver: str
) -> None:
    assert questions_outside(local_resolver) >= 5_000
    before = tracked_connections()
    await attempt(phase, deployer, app, source, "exhaust.py", "queries", local_resolver, "6000")
    assert tracked_connections() - before < 2_000


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_unread_sockets_hold_no_more_than_ones_own_memory(
    phase: str, deployer: Deployer, app: Instance, neighbour: Instance, source: Path
) -> None:
    """As many of the machine's would stop everybody's network (tcp_mem)."""
    amount = SMALL.memory_bytes // MEBIBYTE + 64
    held = json.loads(outside("exhaust.py", "sockets", str(amount))["detail"])["mebibytes"]
    assert held >= amount
    tried = await attempt(phase, deployer, app, source, "exhaust.py", "sockets", str(amount))
    assert json.loads(tried["detail"])["mebibytes"] < amount // 2
    assert await answers(neighbour)


async def test_many_connections_block_only_the_app_they_lead_to(
    app: Instance, neighbour: Instance
) -> None:
    writers = [(await connected(app))[1] for _ in range(600)]
    assert await answers(neighbour)
    for writer in writers:
        writer.close()
    await asyncio.wait_for(answers_again(app), PATIENCE_SECONDS)


@pytest.mark.parametrize("how", ["slow", "endless"])
async def test_app_that_never_finishes_an_answer_is_stopped(
    how: str, deployer: Deployer, sandbox: Sandbox, neighbour: Instance, source: Path
) -> None:
    what = plan(f"exec python3 attacks/stubborn.py {how}")
    lazy = await deployer.deploy("lazy", source, what, SMALL)
    _, writer = await connected(lazy)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await writer.drain()
    assert await answers(neighbour)
    await asyncio.wait_for(sandbox.stop("lazy"), PATIENCE_SECONDS)
    assert "lazy" not in await sandbox.running()
    writer.close()


async def test_the_gateways_own_descriptors_stay_few() -> None:
    """Last of all: what the tests above did left nothing open here."""
    assert len(list(Path("/proc/self/fd").iterdir())) < 100
