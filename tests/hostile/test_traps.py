"""What an app leaves lying about for the gateway, which runs as root, to step on."""

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import msgspec
import pytest
from apps import SMALL, Deployer, ask, attempts, plan, upload
from remains import processes_saying

from conftest import Host
from moorage.errors import DeployFailed, FailureCause
from moorage.runtimes.runtime import LogKind
from moorage.runtimes.sandbox.sandbox import Sandbox

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]

PRECIOUS = "precious"


@pytest.fixture(scope="module")
def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


def precious_tree(host: Host, *parts: str) -> Path:
    """A file of the host's, and the directories to it."""
    path = host.directory.joinpath(*parts)
    path.parent.mkdir(parents=True)
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
    (host.directory / "link").symlink_to(naive.parent.parent)
    shutil.rmtree(host.directory / "link" / "pip")
    assert not naive.exists()

    kept = [
        precious_tree(host, "caches", *name.split("/"), "file")
        for name in ("pip", "uv", "yarn", "pnpm", "_cacache", "install", "npm/_cacache", "tmp")
    ]
    caches = host.directory / "caches"
    links = "; ".join(f"ln -s {caches} ~/{name}" for name in (".cache", ".npm", ".bun"))
    await deployer.build("linked", source, plan(install=f"{links}; ln -s {caches} /tmp/caches"))
    assert all(path.read_text() == PRECIOUS for path in kept)


async def test_directories_turned_into_links_are_not_followed_by_the_next_build(
    host: Host, deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """Outside: copying over such a tree writes through the link."""
    victim = precious_tree(host, "victim", "stubborn.py")
    naive = host.new_directory("naive-copy")
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
    shown = sandbox.log_tail("turned", LogKind.RUNTIME)
    assert PRECIOUS not in shown
    assert "root:" not in shown
    await sandbox.remove("turned")
    assert victim.read_text() == PRECIOUS
    assert owners(victim.parent) == before


@pytest.mark.parametrize("target", ["/etc/shadow", "/root", "/dev/zero"])
async def test_links_in_an_upload_show_nothing_of_the_host(
    target: str, host: Host, deployer: Deployer, sandbox: Sandbox
) -> None:
    linked = upload(host.new_directory(f"linked{target.replace('/', '-')}"))
    (linked / "link").symlink_to(target)
    assert (linked / "link").exists()  # outside, it leads there
    with pytest.raises(DeployFailed):
        await deployer.deploy("linker", linked, plan("ls -l link; cat link/* link; exit 1"), SMALL)
    assert "root:" not in sandbox.log_tail("linker", LogKind.RUNTIME)
    await sandbox.remove("linker")


async def test_pipes_in_an_upload_do_not_hang_the_gateway(host: Host, deployer: Deployer) -> None:
    piped = upload(host.new_directory("piped"))
    subprocess.run(["mkfifo", str(piped / "pipe")], check=True)
    with pytest.raises(DeployFailed):
        await asyncio.wait_for(deployer.build("piped", piped, plan()), 10)


async def test_lease_on_the_log_does_not_hold_the_gateway_up(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """An owner of a file may take a lease on it, and whoever opens it then waits 45 seconds."""
    what = plan("exec python3 attacks/stubborn.py leased")
    instance = await deployer.deploy("leaser", source, what, SMALL)
    answer = await ask(instance)
    started = time.monotonic()
    sandbox.log_tail("leaser", LogKind.RUNTIME)
    assert time.monotonic() - started < 2, answer
    await asyncio.wait_for(sandbox.remove("leaser"), 20)


async def test_log_of_a_tebibyte_is_read_and_cut(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    what = plan("exec python3 attacks/stubborn.py huge-log")
    instance = await deployer.deploy("huge", source, what, SMALL)
    await ask(instance)
    tail = await asyncio.wait_for(asyncio.to_thread(sandbox.log_tail, "huge", LogKind.RUNTIME), 10)
    assert "still here" in tail
    assert len(tail) <= 65_536
    await asyncio.wait_for(sandbox.remove("huge"), 20)


async def test_full_disk_is_a_failed_deployment_and_can_be_removed(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    """Not even one more file fits: the runtime's own must have been made before, or be refused."""
    fill = "i=0; while : > $HOME/$i; do i=$((i+1)); done; cat /dev/zero > zeros; true"
    start = plan(install=fill)
    with pytest.raises(DeployFailed) as failure:
        await deployer.deploy("full", source, start, SMALL)
        await deployer.start("full", plan("exec python3 attacks/hostile_app.py"), SMALL)
        raise DeployFailed(FailureCause.OUT_OF_DISK, "it started all the same")
    assert failure.value.cause in {
        FailureCause.OUT_OF_DISK, FailureCause.INSTALL_FAILED, FailureCause.CRASHED,
    }  # fmt: skip
    await sandbox.remove("full")
    assert "full" not in await sandbox.known()


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
