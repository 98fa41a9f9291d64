"""Nothing outlives its stop, its removal, or its build, however it tries to."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import arena
import pytest
from apps import ATTACKS, SMALL, Deployer, ask, ask_text, plan, upload

from conftest import Host, instance_id, new_sandbox
from moorage.errors import DeployFailed
from moorage.runtimes.sandbox.sandbox import Sandbox
from remains import everything, processes_of, processes_saying
from waiting import until

pytestmark = [pytest.mark.root, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


async def test_double_forked_processes_outlive_a_plain_stop() -> None:
    """Outside, to show that the ones below would have."""
    marker = f"stay-outside-{os.getpid()}"
    with subprocess.Popen([arena.PYTHON, str(ATTACKS / "exhaust.py"), "stay", marker]) as parent:
        parent.wait()
    stayed = processes_saying(marker)
    assert len(stayed) == 3
    for pid in stayed:
        os.kill(pid, signal.SIGTERM)
    assert processes_saying(marker) == stayed
    for pid in stayed:
        os.kill(pid, signal.SIGKILL)


async def stay(deployer: Deployer, deployment: str, source: Path, marker: str) -> int:
    """Deploy an app that leaves processes behind; its uid."""
    instance = await deployer.deploy(deployment, source, plan(), SMALL)
    uid: int = (await ask(instance))["uid"]
    await ask(instance, "/exec", ["python3", "attacks/exhaust.py", "stay", marker])
    await until(lambda: len(processes_saying(marker)) >= 3)
    assert len(processes_of(uid)) >= 4
    return uid


async def test_stop_ends_double_forked_processes(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    uid = await stay(deployer, "stopped", source, "stay-stopped")
    await sandbox.stop("stopped")
    assert not processes_of(uid)
    assert not processes_saying("stay-stopped")


async def test_remove_ends_double_forked_processes(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    uid = await stay(deployer, "removed", source, "stay-removed")
    await sandbox.remove("removed")
    assert not processes_of(uid)
    assert not processes_saying("stay-removed")


async def test_processes_left_by_an_exited_app_are_ended_by_stop(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    start = "python3 attacks/exhaust.py stay stay-orphan & exec python3 attacks/stubborn.py frozen"
    await deployer.deploy("orphan", source, plan(start), SMALL)
    await until(lambda: len(processes_saying("stay-orphan")) >= 3)
    await sandbox.stop("orphan")
    assert not processes_saying("stay-orphan")


async def test_build_leaves_no_process(deployer: Deployer, sandbox: Sandbox, source: Path) -> None:
    what = plan(install="python3 attacks/exhaust.py stay stay-built; sleep 0.2")
    await deployer.build("built", source, what, SMALL)
    assert not processes_saying("stay-built")


async def test_failed_build_leaves_no_process(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    what = plan(build="python3 attacks/exhaust.py stay stay-failed; sleep 0.2; exit 3")
    with pytest.raises(DeployFailed):
        await deployer.build("broken", source, what, SMALL)
    assert not processes_saying("stay-failed")


@pytest.mark.parametrize("how", ["deaf", "frozen"])
async def test_app_that_handles_no_signal_is_stopped(
    how: str, deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    instance = await deployer.deploy(
        "stubborn", source, plan(f"exec python3 attacks/stubborn.py {how}"), SMALL
    )
    await ask_text(instance)
    uid = instance_uid(instance.deployment_id)
    assert processes_of(uid)
    await asyncio.wait_for(sandbox.stop("stubborn"), 20)
    assert not processes_of(uid)
    assert "stubborn" not in await sandbox.running()


def instance_uid(deployment: str) -> int:
    """The uid of the one stubborn app that runs."""
    pids = processes_saying("attacks/stubborn.py")
    uids = {Path("/proc", str(pid)).stat().st_uid for pid in pids}
    assert len(uids) == 1, deployment
    return uids.pop()


async def test_app_that_kills_all_it_sees_kills_only_itself(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    neighbour = await deployer.deploy("neighbour", source, plan(), SMALL)
    killer = await deployer.deploy("killer", source, plan(), SMALL)
    victims = ["sh", "-c", "sleep 60 & exec python3 $0 kill-everyone"]
    outside = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *victims,
         str(ATTACKS / "processes.py")],
        capture_output=True, check=True, timeout=20,
    )  # fmt: skip
    assert b'"succeeded": true' in outside.stdout
    with arena.victim("secret") as victim:
        await ask(killer, "/exec", ["python3", "attacks/processes.py", "kill-everyone"])
        while await sandbox.exit_reason("killer") is None:
            await asyncio.sleep(0.02)
        assert victim.process.poll() is None
    assert await ask(neighbour)
    assert "neighbour" in await sandbox.running()


async def test_nothing_remains_of_a_removed_deployment(
    deployer: Deployer, sandbox: Sandbox, source: Path, host: Host
) -> None:
    def there() -> dict[str, set[str]]:
        return everything(directories=(host.state, host.run), instance_id=instance_id())

    before = there()
    uid = await stay(deployer, "gone", source, "stay-gone")
    during = there()
    assert all(during[kind] - before[kind] for kind in during), "the search finds what there is"
    await sandbox.remove("gone")
    after = there()
    assert {kind: after[kind] - before[kind] for kind in after} == {kind: set() for kind in after}
    assert not processes_of(uid)
    assert "gone" not in await sandbox.known()


async def test_nothing_remains_of_a_closed_sandbox(host: Host, source: Path) -> None:
    links, rules = arena.links(), arena.ruleset()
    directories = (host.directory / "state2", host.directory / "run2")
    sandbox = new_sandbox(host, suffix="2")
    deployer = Deployer(sandbox)
    before = everything(directories=directories, instance_id=instance_id("2"))
    await sandbox.open()
    assert arena.ruleset() != rules
    uid = await stay(deployer, "closed", source, "stay-closed")
    assert arena.links() > links
    lived = processes_of(uid)  # the uid itself may be another gateway's app's afterwards
    await sandbox.close(stop_apps=True)
    after = everything(directories=directories, instance_id=instance_id("2"))
    after["files"] = before["files"]  # builds and their logs are kept, apps are not
    assert after == before
    assert arena.links() == links
    assert arena.ruleset() == rules
    assert lived
    assert not processes_of(uid) & lived
