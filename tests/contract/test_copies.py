"""A deployment made of another's files, as a rollback and a change of configuration make it."""

import subprocess
from pathlib import Path

import pytest

from moorage.engines.disks import disk
from moorage.engines.engine import Instance, Keep, log_tail
from moorage.engines.host import mounts
from moorage.engines.isolation.network import Network
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed
from moorage.records.deployment import LogKind
from support.engines.sandbox_fixture import make_sandbox
from support.engines.small_apps import SERVER, build, build_and_start, fetch, logged, plan, start
from support.gateway.waiting import until

pytestmark = pytest.mark.root

WRITES_AND_COUNTS = """\
const fs = require('fs');
let written = 0;
setInterval(() => { fs.appendFileSync('lines', 'x'.repeat(99) + '\\n'); written++; }, 1);
console.log('runs');
""" + SERVER.replace("'hello'", "String(written)")


async def written_beyond(lines: int, app: Instance) -> None:
    """Wait until the app that counts has written more lines than that."""

    async def has_more() -> bool:
        return int(await fetch(app.address)) > lines

    await until(has_more)


async def test_copy_serves_what_the_origin_was_built_to(sandbox: Sandbox, source: Path) -> None:
    await build(sandbox, source, plan(build="echo made > made; echo built here"))
    await sandbox.copy("first", "second")
    await sandbox.stop("first", keep=Keep.NOTHING)
    instance = await start(
        sandbox, plan(start="cat made; exec node index.js"), deployment_id="second"
    )
    assert await fetch(instance.address) == "hello"
    assert "built here" in await log_tail(sandbox, "second", LogKind.BUILD)
    assert await logged(sandbox, "made\n", deployment_id="second") == "made\n"


async def test_copy_has_its_disk_and_its_network_before_it_is_started(
    sandbox: Sandbox, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await build(sandbox, source, plan())
    await sandbox.copy("first", "second")
    monkeypatch.setattr(disk, "mount_image", _is_late)
    monkeypatch.setattr(Network, "create", _is_late)
    instance = await start(sandbox, plan(), deployment_id="second")
    assert await fetch(instance.address) == "hello"


def _is_late(*_: object) -> None:
    raise AssertionError("a start makes what the copy could have made")


async def test_copy_of_what_runs_is_whole_and_leaves_it_running(
    sandbox: Sandbox, source: Path
) -> None:
    (source / "index.js").write_text(WRITES_AND_COUNTS % "process.env.PORT")
    origin = await build_and_start(sandbox, source, plan())
    await written_beyond(0, origin)
    await sandbox.copy("first", "second")
    copied_at = int(await fetch(origin.address))
    copy = await start(
        sandbox,
        plan(start="wc -l < lines; exec node index.js"),
        deployment_id="second",
    )
    await written_beyond(copied_at, origin)
    assert await fetch(copy.address)
    log = (await logged(sandbox, "runs\n", deployment_id="second")).splitlines()
    assert 0 < int(log[0]) <= copied_at
    assert log[1:] == ["runs"]  # nothing of what the origin said


async def test_copy_and_origin_change_apart(sandbox: Sandbox, source: Path) -> None:
    (source / "index.js").write_text(
        "require('fs').appendFileSync('starts', 'x');"
        + SERVER.replace("'hello'", "require('fs').readFileSync('starts', 'utf8')") % "3000"
    )
    await build(sandbox, source, plan())
    await sandbox.copy("first", "second")
    assert await fetch((await start(sandbox, plan())).address) == "x"
    assert await fetch((await start(sandbox, plan(), deployment_id="second")).address) == "x"


async def test_copy_is_idempotent(sandbox: Sandbox, source: Path) -> None:
    await build(sandbox, source, plan())
    await sandbox.copy("first", "second")
    await start(sandbox, plan(), deployment_id="second")
    await sandbox.copy("first", "second")
    assert await sandbox.running() == {}
    assert await fetch((await start(sandbox, plan(), deployment_id="second")).address) == "hello"


async def test_copy_of_what_was_never_built_is_refused(sandbox: Sandbox, source: Path) -> None:
    with pytest.raises(DeployFailed):
        await build(sandbox, source, plan(build="exit 1"))
    for origin in ("first", "unheard-of"):
        with pytest.raises(DeployFailed, match="no finished build"):
            await sandbox.copy(origin, "second")
    assert await sandbox.known() == {"first"}


async def test_copy_that_takes_too_long_lets_the_app_go_on(
    sandbox: Sandbox, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "index.js").write_text(WRITES_AND_COUNTS % "process.env.PORT")
    origin = await build_and_start(sandbox, source, plan())
    monkeypatch.setattr(disk, "FREEZE_SECONDS", 0.0)
    with pytest.raises(disk.CopyTooSlow):
        await sandbox.copy("first", "second")
    before = int(await fetch(origin.address))
    await written_beyond(before, origin)
    images = Path("/run/moorage") / sandbox.instance_id / "disks"
    assert [path.name for path in images.iterdir()] == ["first"]
    with pytest.raises(DeployFailed):
        await start(sandbox, plan(), deployment_id="second")


def test_disk_left_frozen_by_a_killed_copy_is_copied_by_the_next(tmp_path: Path) -> None:
    image, mounted = tmp_path / "disk.img", tmp_path / "mounted"
    disk.make_image(image, disk.MIN_BYTES)
    disk.mount_image(image, mounted)
    try:
        subprocess.run(["fsfreeze", "--freeze", mounted], check=True)
        with mounts.frozen(mounted, patience_seconds=0.1):
            again = subprocess.run(["fsfreeze", "--freeze", mounted], check=False)
            assert again.returncode != 0
        assert not mounts.thaw(mounted)
    finally:
        subprocess.run(["umount", mounted], check=True)


async def test_disk_left_frozen_by_a_crash_is_thawed(tmp_path: Path, source: Path) -> None:
    (source / "index.js").write_text(WRITES_AND_COUNTS % "process.env.PORT")
    crashed = make_sandbox(tmp_path / "state")
    successor = make_sandbox(tmp_path / "state", instance_id=crashed.instance_id)
    await crashed.open()
    try:
        origin = await build_and_start(crashed, source, plan())
        await crashed.close(stop_apps=False)
        frozen = Path("/run/moorage") / crashed.instance_id / "disks" / "first"
        subprocess.run(["fsfreeze", "--freeze", str(frozen)], check=True)
        await successor.open()
        before = int(await fetch(origin.address))
        await written_beyond(before, origin)
    finally:
        await successor.close(stop_apps=True)
