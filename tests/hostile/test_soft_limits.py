"""Without root, the kernel holds less: what apps and builds that want more meet then."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import cast

import arena
import pytest
import pytest_asyncio
from apps import ATTACKS, HOSTILE_APP, SMALL, Deployer, answers, attempts, plan, set_going, upload

from conftest import Host, Mode
from moorage.engines.engine import Instance
from moorage.engines.rootless.rootless import Rootless
from moorage.errors import DeployFailed, FailureCause
from moorage.records.log import LogKind
from remains import processes_saying
from rootless_fixture import UID
from waiting import until, until_read

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


@pytest.fixture(scope="module")
def deployer(rootless_mode: Mode) -> Deployer:
    """Deploys on the rootless runtime."""
    return Deployer(rootless_mode.runtime)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(deployer: Deployer, source: Path) -> Instance:
    """An app that must not notice anything."""
    return await deployer.deploy("neighbour", source, plan(), SMALL)


async def ends(mode: Mode, deployment: str) -> None:
    """Return once the app was ended for what it did."""

    async def ended() -> bool:
        return await mode.runtime.exit_reason(deployment) is not None

    await until(ended, seconds=300)


@pytest.mark.parametrize("phase", ["app", "build"])
async def test_fork_bomb_meets_the_process_limit_though_all_have_one_uid(
    phase: str, deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    """Outside, as one user: the limit of that user's processes stops all that it has."""
    bomb = "exhaust.py", "fork", "200"
    outside = subprocess.run([arena.PYTHON, str(ATTACKS / bomb[0]), *bomb[1:]], check=True,
                             capture_output=True)  # fmt: skip
    assert b'"succeeded": true' in outside.stdout
    if phase == "build":
        what = plan(install=f"python3 attacks/{' '.join(bomb)}")
        await deployer.build("bomb", source, what, SMALL)
        tried = (await deployer.results("bomb"))[-1]
    else:
        app = await deployer.deploy("bomb", source, plan(), SMALL)
        (tried,), (unharmed,) = await asyncio.gather(
            attempts(app, [list(bomb)]), attempts(neighbour, [["exhaust.py", "fork", "20"]])
        )
        assert unharmed["succeeded"]
    assert tried["detail"] == "EAGAIN"
    assert await answers(neighbour)


async def test_processes_that_take_too_much_memory_together_are_ended(
    rootless_mode: Mode, deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    """Each stays below the limit, which the kernel knows for one process alone."""
    app = await deployer.deploy("crowd", source, plan(), SMALL)
    for _ in range(4):
        hold = "b = bytearray(80 << 20); import time; time.sleep(600)"
        await set_going(app, "python3", "-c", hold)
    await ends(rootless_mode, "crowd")
    ended = await rootless_mode.runtime.exit_reason("crowd")
    assert ended is not None
    assert ended.out_of_memory
    assert await answers(neighbour)


# Each takes memory that no process need have in its own, ten times 30 MiB, and counts the times.
SHARED = {
    "a shared mapping": "m = mmap.mmap(-1, 300 << 20);"
    "[took(m.write(bytes(30 << 20))) for _ in range(10)]",
    "the zero device": "m = mmap.mmap(os.open('/dev/zero', os.O_RDWR), 300 << 20);"
    "[took(m.write(bytes(30 << 20))) for _ in range(10)]",
    "files without a name": "f = [os.memfd_create('f') for _ in range(10)];"
    "[took(os.write(each, bytes(30 << 20))) for each in f]",
    "segments of System V": "c = ctypes.CDLL(None); c.shmat.restype = ctypes.c_void_p;"
    "s = [c.shmget(0, 30 << 20, 0o1600) for _ in range(10)]; assert min(s) >= 0;"
    "[took(ctypes.memset(c.shmat(each, None, 0), 1, 30 << 20)) for each in s]",
}
TAKE = """
import ctypes, mmap, os
times = 0
def took(_):
    global times
    times += 1
try:
    {how}
finally:
    print("taken", times, "times", flush=True)
"""


@pytest.mark.parametrize("how", SHARED)
async def test_no_memory_is_to_be_had_but_ones_own(
    how: str, rootless_mode: Mode, deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    """Without control groups nobody would count it; outside, it is to be had."""
    code = TAKE.format(how=SHARED[how])
    outside = subprocess.run(["unshare", "--ipc", arena.PYTHON, "-c", code], check=True,
                             capture_output=True)  # fmt: skip
    assert outside.stdout == b"taken 10 times\n"
    app = await deployer.deploy("sharer", source, plan(), SMALL)
    await set_going(app, "python3", "-c", code)
    said = await until_read(
        lambda: rootless_mode.runtime.log_tail("sharer", LogKind.RUNTIME),
        lambda said: "taken" in said,
    )
    assert "taken 0 times" in said
    await rootless_mode.runtime.remove("sharer")
    assert await answers(neighbour)


FORKS = """
import os, time
held = b"x" * (60 << 20)
children = [os.fork() for _ in range(4)]
print("forked", flush=True)
time.sleep(600)
"""


async def test_memory_that_processes_share_counts_once(
    rootless_mode: Mode, deployer: Deployer, source: Path
) -> None:
    app = await deployer.deploy("forker", source, plan(), SMALL)
    await set_going(app, "python3", "-c", FORKS)
    await until_read(
        lambda: rootless_mode.runtime.log_tail("forker", LogKind.RUNTIME),
        lambda said: said.count("forked") == 16,
    )
    await asyncio.to_thread(cast("Rootless", rootless_mode.runtime).watch)
    assert await answers(app)
    await rootless_mode.runtime.remove("forker")


FILLERS = {
    "a file": "dd if=/dev/urandom of=/app/filler bs=1M count=60; cp /app/filler /home/app/two",
    "small files": "i=0; while [ $i -lt 30000 ]; do : > /app/f$i; i=$((i+1)); done",
    "a hidden directory": "mkdir h; cd h; dd if=/dev/urandom of=x bs=1M count=60; chmod 0 ../h;"
    " dd if=/dev/urandom of=/app/y bs=1M count=20",
}


@pytest.mark.parametrize("how", FILLERS)
async def test_app_that_fills_the_disk_is_ended(
    how: str, rootless_mode: Mode, deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    app = await deployer.deploy("filler", source, plan(), SMALL)
    await set_going(app, "sh", "-c", FILLERS[how])
    await ends(rootless_mode, "filler")
    assert await answers(neighbour)
    await rootless_mode.runtime.remove("filler")
    assert not (rootless_mode.state / "deployments" / "filler").exists()


ONE_FILE = "dd if=/dev/urandom of=big bs=1M count=100"
SEVERAL = "for i in 1 2 3; do dd if=/dev/urandom of=$i bs=1M count=30; sleep 0.5; done; sleep 99"


@pytest.mark.parametrize("step", [ONE_FILE, SEVERAL], ids=["one file", "several"])
async def test_build_that_fills_the_disk_fails(
    step: str, deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    with pytest.raises(DeployFailed) as failure:
        await deployer.build("big", source, plan(build=step), SMALL)
    assert failure.value.cause is FailureCause.OUT_OF_DISK
    assert await answers(neighbour)


async def test_file_is_sparse_but_no_larger_than_the_disk(
    rootless_mode: Mode, deployer: Deployer, source: Path
) -> None:
    """Somebody who copies it without care would write all of it."""
    with pytest.raises(DeployFailed) as failure:
        await deployer.build("sparse", source, plan(build="truncate -s 1T sparse"), SMALL)
    assert failure.value.cause is FailureCause.OUT_OF_DISK
    await rootless_mode.runtime.remove("sparse")


async def test_app_does_not_live_on_without_its_network(
    rootless_mode: Mode, deployer: Deployer, source: Path
) -> None:
    """pasta may be killed, as for want of memory: an app nobody knows of must not be left."""
    await deployer.deploy("alone", source, plan(f"{HOSTILE_APP} is-alone"), SMALL)
    (pasta,) = processes_saying(f"{rootless_mode.state}/deployments/alone")
    os.kill(pasta, signal.SIGKILL)
    await until(lambda: not processes_saying("is-alone"))
    await ends(rootless_mode, "alone")
    await rootless_mode.runtime.stop("alone")


async def test_only_ones_own_user_may_enter_the_directories(
    rootless_mode: Mode, neighbour: Instance
) -> None:
    """Other users of the machine could else use a program that an app made setuid."""
    for directory in (rootless_mode.state / "deployments", rootless_mode.run):
        status = directory.stat()
        assert (status.st_uid, status.st_mode & 0o777) == (UID, 0o700)
    path = Path(str(neighbour.address.path))
    assert path.parent == rootless_mode.run
    assert path.stat().st_mode & 0o777 == 0o600


async def test_nothing_listens_on_the_machine_for_an_app(neighbour: Instance, host: Host) -> None:
    """A port on loopback would be open to every user of the machine, and to their apps."""
    listening = subprocess.run(["ss", "-Hltnup"], check=True, capture_output=True, text=True)
    assert "pasta" not in listening.stdout
    assert "socket-proxyd" not in listening.stdout


async def test_connections_one_makes_are_bounded(
    deployer: Deployer, neighbour: Instance, source: Path
) -> None:
    """Each takes a descriptor of pasta's, and a socket of the machine's."""
    app = await deployer.deploy("flows", source, plan(), SMALL)
    await attempts(app, [["exhaust.py", "flows", arena.PUBLIC_ADDRESS, "20000"]])
    sockets = subprocess.run(["ss", "-Huan"], check=True, capture_output=True, text=True)
    assert len(sockets.stdout.splitlines()) < 3_000
    assert await answers(neighbour)
