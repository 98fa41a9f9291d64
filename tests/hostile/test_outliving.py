"""Nothing outlives its stop, its removal, or its build, however it tries to."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import arena
import pytest
from apps import ATTACKS, PATIENCE_SECONDS, SMALL, Deployer, ask, ask_text, plan, set_going, upload

from conftest import Host, instance_id, new_sandbox
from moorage.engines.engine import Keep
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed
from support.engines.remains import everything, processes_of, processes_saying
from support.gateway.waiting import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest.fixture(scope="module")
def source(host: Host) -> Path:
    """The upload of every deployment here."""
    return upload(host.new_directory("source"))


def marked(name: str) -> str:
    """A marker for processes of this worker alone."""
    return f"{name}-{os.getpid()}"


async def test_double_forked_processes_outlive_a_plain_stop() -> None:
    """Outside, to show that the ones below would have."""
    marker = marked("stay-outside")
    with subprocess.Popen([arena.PYTHON, str(ATTACKS / "exhaust.py"), "stay", marker]) as parent:
        parent.wait()
    # Named so by the last thing that they do: their makers are gone then, and signals ignored.
    await until(lambda: len(processes_saying(f"{marker}-")) == 3)
    stayed = processes_saying(f"{marker}-")
    for pid in stayed:
        os.kill(pid, signal.SIGTERM)
    assert processes_saying(f"{marker}-") == stayed
    for pid in stayed:
        os.kill(pid, signal.SIGKILL)


async def stay(
    deployer: Deployer, deployment: str, source: Path, marker: str
) -> Callable[[], set[int]]:
    """Deploy an app that leaves processes behind; what finds all of its processes."""
    instance = await deployer.deploy(deployment, source, plan(), SMALL)
    uid: int = (await ask(instance))["uid"]
    await ask(instance, "/exec", ["python3", "attacks/exhaust.py", "stay", marker])
    await until(lambda: len(processes_saying(f"{marker}-")) == 3)

    def found() -> set[int]:
        """By the uid that it alone has."""
        return processes_saying(marker) | processes_of(uid)

    await until(lambda: len(found()) >= 4)
    return found


async def test_stop_ends_double_forked_processes(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    left = await stay(deployer, "stopped", source, marked("stay-stopped"))
    await sandbox.stop("stopped")
    assert not left()


async def test_remove_ends_double_forked_processes(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    left = await stay(deployer, "removed", source, marked("stay-removed"))
    lived = left()  # the uid itself may be another gateway's app's afterwards
    await sandbox.stop("removed", keep=Keep.NOTHING)
    assert lived
    assert not left() & lived


async def test_processes_left_by_an_exited_app_are_ended_by_stop(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    marker = marked("stay-orphan")
    start = f"python3 attacks/exhaust.py stay {marker} & exec python3 attacks/stubborn.py frozen"
    await deployer.deploy("orphan", source, plan(start), SMALL)
    await until(lambda: len(processes_saying(f"{marker}-")) == 3)
    await sandbox.stop("orphan")
    assert not processes_saying(marker)


async def test_build_leaves_no_process(deployer: Deployer, source: Path) -> None:
    marker = marked("stay-built")
    what = plan(install=f"python3 attacks/exhaust.py stay {marker}; sleep 0.2")
    await deployer.build("built", source, what, SMALL)
    assert not processes_saying(marker)


async def test_failed_build_leaves_no_process(deployer: Deployer, source: Path) -> None:
    marker = marked("stay-failed")
    what = plan(build=f"python3 attacks/exhaust.py stay {marker}; sleep 0.2; exit 3")
    with pytest.raises(DeployFailed):
        await deployer.build("broken", source, what, SMALL)
    assert not processes_saying(marker)


@pytest.mark.parametrize("how", ["deaf", "frozen"])
async def test_app_that_handles_no_signal_is_stopped(
    how: str, deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    marker = marked(f"is-{how}")
    start = f"exec python3 attacks/stubborn.py {how} {marker}"
    instance = await deployer.deploy("stubborn", source, plan(start), SMALL)
    await ask_text(instance)
    assert processes_saying(marker)
    await asyncio.wait_for(sandbox.stop("stubborn"), PATIENCE_SECONDS)
    assert not processes_saying(marker)
    assert "stubborn" not in await sandbox.running()


async def test_app_that_kills_all_it_sees_kills_only_itself(
    deployer: Deployer, sandbox: Sandbox, source: Path
) -> None:
    neighbour = await deployer.deploy("neighbour", source, plan(), SMALL)
    killer = await deployer.deploy("killer", source, plan(), SMALL)
    victims = ["sh", "-c", 'sleep 60 & exec python3 "$0" kill-everyone']
    outside = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *victims,
         str(ATTACKS / "processes.py")],
        capture_output=True, check=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert b'"succeeded": true' in outside.stdout

    async def killed() -> bool:
        return (await sandbox.inspect("killer")).exit is not None

    with arena.victim("secret", 0) as victim:
        await set_going(killer, "python3", "attacks/processes.py", "kill-everyone")
        await until(killed, seconds=PATIENCE_SECONDS)
        assert victim.process.poll() is None
    assert await ask(neighbour)
    assert "neighbour" in await sandbox.running()


async def test_nothing_remains_of_a_removed_deployment(
    deployer: Deployer, host: Host, sandbox: Sandbox, source: Path
) -> None:
    def there() -> dict[str, set[str]]:
        return everything(directories=(host.state, host.run), instance_id=instance_id())

    before = there()
    left = await stay(deployer, "gone", source, marked("stay-gone"))
    during = there()
    assert all(during[kind] - before[kind] for kind in during), "the search finds what there is"
    lived = left()  # the uid itself may be another gateway's app's afterwards
    await sandbox.stop("gone", keep=Keep.NOTHING)

    def remaining() -> dict[str, set[str]]:
        return {
            kind: found - before[kind] for kind, found in there().items() if found - before[kind]
        }

    await nothing_in(remaining)
    assert lived
    assert not left() & lived
    assert "gone" not in await sandbox.known()


async def nothing_in(remaining: Callable[[], dict[str, set[str]]]) -> None:
    """A loop device goes with its last user, who may be another test's, for a moment."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: not remaining())
    assert remaining() == {}


async def test_nothing_remains_of_a_closed_sandbox(host: Host, source: Path) -> None:
    links, rules = arena.links(), arena.ruleset()
    directories = (host.directory / "state2", host.directory / "run2")
    sandbox = new_sandbox(host, suffix="2")
    deployer = Deployer(sandbox)
    before = everything(directories=directories, instance_id=instance_id("2"))
    await sandbox.open()
    assert arena.ruleset() != rules
    left = await stay(deployer, "closed", source, marked("stay-closed"))
    assert arena.links() > links
    lived = left()  # the uid itself may be another gateway's app's afterwards
    await sandbox.close(stop_apps=True)

    def remaining() -> dict[str, set[str]]:
        after = everything(directories=directories, instance_id=instance_id("2"))
        after["files"] = before["files"]  # builds and their logs are kept, apps are not
        return {kind: found for kind, found in after.items() if found != before[kind]}

    await nothing_in(remaining)
    assert arena.links() == links
    assert arena.ruleset() == rules
    assert lived
    assert not left() & lived
