"""What an app leaves lying about for the gateway, which may be root, to step on."""

import asyncio
import gc
import os
import resource
import shutil
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from apps import PATIENCE_SECONDS, SMALL, Deployer, ask, attempts, plan, upload

from conftest import Host
from moorage.engines.engine import Keep, log_tail
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind
from support.engines.remains import processes_saying
from support.gateway.waiting import until_read

pytestmark = [
    pytest.mark.root,
    pytest.mark.asyncio(loop_scope="module"),
]

PRECIOUS = "precious"
LEASE_SECONDS = 45  # that the kernel leaves to the holder of a lease


@pytest.fixture(scope="module")
def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


def precious_tree(host: Host, *parts: str) -> Path:
    """A file of the host's, and the directories to it."""
    path = host.directory.joinpath("root", *parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PRECIOUS)
    return path


def owners(directory: Path) -> set[tuple[int, int]]:
    """Who owns what lies in a directory, and how it may be used."""
    return {(p.lstat().st_uid, p.lstat().st_mode) for p in (directory, *directory.rglob("*"))}


async def test_build_caches_that_are_links_delete_nothing_of_the_host(
    host: Host, deployer: Deployer, source: Path
) -> None:
    """Outside: `rm -r link/pip` deletes what the link leads to."""
    naive = precious_tree(host, "naive", "pip", "file")
    link = naive.parents[2] / "link"
    link.symlink_to(naive.parent.parent)
    shutil.rmtree(link / "pip")
    assert not naive.exists()

    kept = [
        precious_tree(host, "caches", *name.split("/"), "file")
        for name in ("pip", "uv", "yarn", "pnpm", "_cacache", "install", "npm/_cacache", "tmp")
    ]
    caches = link.parent / "caches"
    links = "; ".join(f"ln -s {caches} ~/{name}" for name in (".cache", ".npm", ".bun"))
    await deployer.build("linked", source, plan(install=f"{links}; ln -s {caches} /tmp/caches"))
    assert all(path.read_text() == PRECIOUS for path in kept)


DEEP = (
    "mkdir -p {0}; node -e 'process.chdir(process.argv[1]);"
    'for (let i = 0; i < {1}; i++) {{ fs.mkdirSync("d"); process.chdir("d"); }}\' {0}'
)


async def test_directories_within_each_other_without_end_are_removed_with_bounded_means(
    host: Host, deployer: Deployer, source: Path
) -> None:
    """Outside: a recursive walk needs a stack, or a descriptor, for each."""
    depth = 3_000
    naive = host.new_directory("naive-depth")
    subprocess.run(["sh", "-c", DEEP.format(naive, depth)], check=True)
    with pytest.raises((RecursionError, OSError)):
        walked_with(descriptors=256, directory=naive)
    subprocess.run(["rm", "-rf", naive], check=True)

    places = ("/tmp/deep", "~/.cache/pip", "~/.npm/_cacache")
    deep = "; ".join(DEEP.format(place, depth) for place in places)
    await deployer.build("deep", source, plan(install=deep))
    log = await log_tail(deployer.runtime, "deep", LogKind.BUILD)
    assert "begun again" not in log


def walked_with(*, descriptors: int, directory: Path) -> None:
    """Remove a tree by a walk, as Python's library does, with so many descriptors at most."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, before[1]))
    try:
        shutil.rmtree(directory)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_directories_turned_into_links_are_not_followed_by_the_next_build(
    host: Host, sandbox: Sandbox, deployer: Deployer, source: Path
) -> None:
    """Outside: copying over such a tree writes through the link."""
    victim = precious_tree(host, "victim", "stubborn.py")
    naive = victim.parents[1] / "naive-copy"
    naive.mkdir()
    (naive / "attacks").symlink_to(victim.parent)
    shutil.copytree(source, naive, dirs_exist_ok=True)
    assert victim.read_text() != PRECIOUS

    victim.write_text(PRECIOUS)
    before = owners(victim.parent)
    turn = (
        f"rm -r attacks && ln -s {victim.parent} attacks && ln -s /etc/shadow log; ln -s / ~/root"
    )
    for _ in range(2):
        await deployer.build("turned", source, plan(install=turn))
    with pytest.raises(DeployFailed):
        await deployer.start("turned", plan("cat attacks/stubborn.py log"))
    shown = await log_tail(sandbox, "turned", LogKind.RUNTIME)
    assert PRECIOUS not in shown
    assert "root:" not in shown
    await sandbox.stop("turned", keep=Keep.NOTHING)
    assert victim.read_text() == PRECIOUS
    assert owners(victim.parent) == before


@pytest.mark.parametrize("target", ["/etc/shadow", "/root", "/dev/zero"])
async def test_links_in_an_upload_show_nothing_of_the_host(
    target: str, sandbox: Sandbox, deployer: Deployer, tmp_path: Path
) -> None:
    linked = upload(tmp_path)
    (linked / "link").symlink_to(target)
    assert (linked / "link").exists()  # outside, it leads there
    with pytest.raises(DeployFailed):
        await deployer.deploy("linker", linked, plan("ls -l link; cat link/* link; exit 1"), SMALL)
    assert "root:" not in await log_tail(sandbox, "linker", LogKind.RUNTIME)
    await sandbox.stop("linker", keep=Keep.NOTHING)


async def test_pipes_in_an_upload_do_not_hang_the_gateway(
    deployer: Deployer, tmp_path: Path
) -> None:
    piped = upload(tmp_path)
    subprocess.run(["mkfifo", str(piped / "pipe")], check=True)
    with pytest.raises(DeployFailed):
        await asyncio.wait_for(deployer.build("piped", piped, plan()), PATIENCE_SECONDS)


async def test_lease_on_the_log_does_not_hold_the_gateway_up(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """An owner of a file may take a lease on it, and whoever opens it then waits 45 seconds."""
    what = plan("exec python3 attacks/stubborn.py leased")
    instance = await deployer.deploy("leaser", source, what, SMALL)
    answer = await ask(instance)
    reading = log_tail(sandbox, "leaser", LogKind.RUNTIME)
    try:
        await asyncio.wait_for(reading, LEASE_SECONDS / 2)
    except TimeoutError:
        pytest.fail(f"reading the log waits for the app: {answer}")
    finally:
        await sandbox.stop("leaser", keep=Keep.NOTHING)


async def test_what_an_app_does_to_its_output_pipe_harms_nobody_else(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """It has the pipe open, so it may make it small and slow, but not its own."""
    neighbour = await deployer.deploy("neighbour-log", source, plan(), SMALL)
    meddler = await deployer.deploy(
        "meddler", source, plan("exec python3 attacks/stubborn.py meddling"), SMALL
    )

    def said_by(deployment: str) -> Coroutine[Any, Any, str]:
        return log_tail(sandbox, deployment, LogKind.RUNTIME)

    await until_read(lambda: said_by("meddler"), lambda said: said == "still here\n")
    done = await ask(meddler)  # which sets off the flood
    refused = {name for name, outcome in done.items() if outcome != "done"}
    assert refused == {"grow", "lease", "own", "read"}  # the pipe is root's
    await until_read(lambda: said_by("meddler"), lambda said: said.endswith("\n\n"))
    await ask(neighbour, "/exec", ["python3", "attacks/exhaust.py", "log", "0"])
    await until_read(lambda: said_by("neighbour-log"), lambda said: "end-of-flood" in said)
    tail = await asyncio.wait_for(said_by("meddler"), PATIENCE_SECONDS)
    assert len(tail) <= 65_536
    for deployment in ("meddler", "neighbour-log"):
        await asyncio.wait_for(sandbox.stop(deployment, keep=Keep.NOTHING), PATIENCE_SECONDS)


FILL = "python3 attacks/exhaust.py fill /app"


async def test_full_disk_between_two_steps_is_a_failed_deployment_at_most(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """Not one more file or byte fits, where the runtime, too, has something to write."""
    what = plan(install=f"{FILL}; true", build="true")
    try:
        await deployer.build("full", source, what, SMALL)
    except DeployFailed as failed:
        assert failed.cause is FailureCause.OUT_OF_DISK  # noqa: PT017
    await sandbox.stop("full", keep=Keep.NOTHING)
    assert "full" not in await sandbox.known()


async def test_full_disk_at_the_start_is_a_failed_deployment(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """The app may start, if all there is to write was written before; if not, it says why not."""
    try:
        await deployer.deploy("full", source, plan(install=f"{FILL}; true"), SMALL)
    except DeployFailed as failed:
        assert failed.cause in {FailureCause.OUT_OF_DISK, FailureCause.CRASHED}  # noqa: PT017
    await sandbox.stop("full")
    await sandbox.stop("full", keep=Keep.NOTHING)
    assert "full" not in await sandbox.known()


def processor_seconds(pid: int) -> float:
    """What a process's first thread, which runs the loop, has worked: not what it waited for."""
    nanoseconds, *_ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(nanoseconds) / 1e9


async def test_finding_a_port_among_thousands_does_not_hold_the_gateway_up(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """Whoever asks it something else meanwhile is answered at once."""
    longest = 0.0
    gc.collect()  # else it may come in between: it takes as long as this process has objects
    gateway = os.getpid()

    async def watch() -> None:
        nonlocal longest
        while True:
            before = processor_seconds(gateway)
            await sandbox.known()
            await asyncio.sleep(0.005)
            longest = max(longest, processor_seconds(gateway) - before)

    watching = asyncio.create_task(watch())
    what = plan("exec python3 attacks/stubborn.py crowded")
    await deployer.deploy("crowded", source, what)
    watching.cancel()
    # To read them all in the loop takes several times as long.
    assert 0 < longest < 0.025
    await sandbox.stop("crowded", keep=Keep.NOTHING)


async def test_environment_and_commands_are_not_seen_by_other_users(
    deployer: Deployer, source: Path
) -> None:
    """A secret of one app in nobody's process list: any user of the host could read it there."""
    what = plan()
    secret = "run-env-secret-40aa"
    what = msgspec.structs.replace(what, run_env={"API_KEY": secret})
    instance = await deployer.deploy("secretive", source, what, SMALL)
    result = (await attempts(instance, [["processes.py", "sweep-processes", secret[::-1]]]))[0]
    assert result["succeeded"]  # the app itself has it
    assert not processes_saying(secret)
