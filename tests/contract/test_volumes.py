"""A volume outlives the deployments that have it, and is seen by two of them at once."""

import asyncio
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from moorage.archive.tree import Tree, read_tree
from moorage.engines.disks.volume import Volume
from moorage.engines.engine import Instance, InstanceSpec, Keep, Limits
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed
from moorage.failpoints import armed
from support.engines.sandbox_fixture import make_sandbox, volume_of
from support.engines.small_apps import LIMITS, MIB, belongings, build, get, plan, start

pytestmark = pytest.mark.root

# Answers what the query says: an expression, evaluated in the app.
SHELL = """\
const fs = require('fs'), child = require('child_process');
require('http').createServer((request, response) => {
  let said;
  try { said = eval(decodeURIComponent(request.url.slice(2))); }
  catch (error) { said = error.code || String(error); }
  response.end(JSON.stringify(said === undefined ? null : said));
}).listen(process.env.PORT);
"""
WITH_VOLUME = Limits(
    memory_bytes=LIMITS.memory_bytes,
    cpu_millis=1000,
    pids=64,
    disk_bytes=LIMITS.disk_bytes,
    volume_bytes=64 * MIB,
)


@pytest.fixture
def shell(source: Path) -> Path:
    (source / "index.js").write_text(SHELL)
    return source


async def begin(runtime: Sandbox, deployment_id: str, volume: str | None = "shop") -> Instance:
    """Start an app that was built, with a volume."""
    spec = InstanceSpec(deployment_id=deployment_id, plan=plan(), limits=WITH_VOLUME, volume=volume)
    return await runtime.start(spec, timeout_seconds=30)


def ask(instance: Instance, expression: str) -> object:
    """What an expression gives, inside the app."""
    asked = "".join(f"%{byte:02x}" for byte in expression.encode())
    return json.loads(get(instance.address, f"/?{asked}"))


async def said(instance: Instance, expression: str) -> object:
    return await asyncio.to_thread(ask, instance, expression)


def shop_volume(runtime: Sandbox, tmp_path: Path) -> Volume:
    return volume_of(runtime, tmp_path / "state", "shop")


async def test_what_an_app_writes_to_data_outlives_its_deployment(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    first = await begin(sandbox, "first")
    assert await said(first, "process.env.DATA_DIR") == "/data"
    await said(first, "fs.writeFileSync('/data/note', 'kept')")
    await sandbox.stop("first", keep=Keep.NOTHING)
    assert not shop_volume(sandbox, tmp_path).disk.mounted

    await build(sandbox, shell, plan(), deployment_id="second")
    second = await begin(sandbox, "second")
    assert await said(second, "fs.readFileSync('/data/note', 'utf8')") == "kept"
    assert await said(second, "fs.statSync('/data/note').uid === process.getuid()") is True
    assert await sandbox.volumes() == {"shop"}


async def test_two_versions_see_the_same_files_as_their_own(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        await build(sandbox, shell, plan(), deployment_id=name)
    old, new = await begin(sandbox, "old"), await begin(sandbox, "new")
    await said(old, "fs.mkdirSync('/data/a', 0o700); fs.writeFileSync('/data/a/b', '1')")
    assert await said(new, "fs.appendFileSync('/data/a/b', '2')") is None
    assert await said(old, "fs.readFileSync('/data/a/b', 'utf8')") == "12"
    uids = [
        await said(app, "fs.statSync('/data/a/b').uid - process.getuid()") for app in (old, new)
    ]
    assert uids == [0, 0]

    await sandbox.stop("old")
    assert await said(new, "fs.readFileSync('/data/a/b', 'utf8')") == "12"
    assert shop_volume(sandbox, tmp_path).users() == {"new"}


async def test_files_of_a_volume_are_exported_whether_an_app_uses_it_or_not(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    app = await begin(sandbox, "first")
    await said(app, "fs.mkdirSync('/data/a'); fs.writeFileSync('/data/a/b', 'kept')")
    await said(app, "fs.symlinkSync('/etc/passwd', '/data/link')")

    running = await sandbox.read_volume("shop", tmp_path / "running")
    assert await said(app, "fs.readFileSync('/data/a/b', 'utf8')") == "kept"
    await sandbox.stop("first")
    assert not shop_volume(sandbox, tmp_path).disk.mounted
    stopped = await sandbox.read_volume("shop", tmp_path / "stopped")

    assert not shop_volume(sandbox, tmp_path).disk.mounted
    for tree in (running, stopped):
        target = made_of(tree, tmp_path / f"{id(tree)}")
        found = {path.relative_to(target).as_posix() for path in target.rglob("*")}
        assert found == {"a", "a/b", "link"}
        assert (target / "a/b").read_text() == "kept"
        assert (target / "link").readlink() == Path("/etc/passwd")
    assert await sandbox.read_volume("none", tmp_path / "none") is None


def made_of(tree: Tree | None, directory: Path) -> Path:
    """A tree's files, in a new directory."""
    assert tree is not None
    directory.mkdir()
    with tree.path.open("rb") as source:
        read_tree(source, directory, digest=tree.digest, max_bytes=64 * MIB)
    return directory


ODD = """
fs.writeFileSync('/data/kept', 'kept');
fs.writeFileSync('/data/sparse', 'begin'); fs.truncateSync('/data/sparse', 2 ** 41);
fs.linkSync('/data/kept', '/data/again');
fs.writeFileSync('/data/closed', 'closed'); fs.chmodSync('/data/closed', 0);
child.execSync('mkfifo /data/pipe');
require('net').createServer().listen('/data/socket');
fs.appendFileSync('/data/grows', 'x');
setInterval(() => fs.appendFileSync('/data/grows', Buffer.alloc(65536)), 5); 0
"""


async def test_nothing_that_an_app_can_put_into_a_volume_keeps_it_from_being_exported(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    """Not a file of two tebibytes, of which the disk holds four kilobytes."""
    await build(sandbox, shell, plan(), deployment_id="first")
    app = await begin(sandbox, "first")
    await said(app, ODD)
    data = made_of(await sandbox.read_volume("shop", tmp_path / "archive"), tmp_path / "data")
    found = {path.name: path for path in data.iterdir()}
    assert found.keys() == {"kept", "sparse", "again", "closed", "grows"}
    assert found["again"].samefile(found["kept"])
    assert found["closed"].read_text() == "closed"
    sparse = found["sparse"].stat()
    assert (sparse.st_size, sparse.st_blocks * 512 < MIB) == (2**41, True)


async def test_app_without_a_volume_has_no_data(sandbox: Sandbox, shell: Path) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    app = await start(sandbox, plan())
    assert await said(app, "fs.existsSync('/data')") is False
    assert await said(app, "process.env.DATA_DIR") is None
    assert await sandbox.volumes() == set()


async def test_build_sees_no_volume(sandbox: Sandbox, shell: Path) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    await begin(sandbox, "first")
    await build(sandbox, shell, plan(build="test ! -e /data"), deployment_id="second")


async def test_volumes_of_two_projects_are_apart(sandbox: Sandbox, shell: Path) -> None:
    for name in ("ours", "theirs"):
        await build(sandbox, shell, plan(), deployment_id=name)
    ours, theirs = await begin(sandbox, "ours", "a"), await begin(sandbox, "theirs", "b")
    await said(ours, "fs.writeFileSync('/data/secret', 'x')")
    assert await said(theirs, "fs.readdirSync('/data')") == []


async def test_full_volume_is_told_to_its_app_alone(sandbox: Sandbox, shell: Path) -> None:
    for name in ("greedy", "other"):
        await build(sandbox, shell, plan(), deployment_id=name)
    greedy, other = await begin(sandbox, "greedy", "a"), await begin(sandbox, "other", "b")
    fill = "const one = Buffer.alloc(1 << 20); for (;;) fs.appendFileSync('/data/full', one)"
    assert await said(greedy, f"(() => {{ {fill} }})()") == "ENOSPC"
    size = await said(greedy, "fs.statSync('/data/full').size")
    assert isinstance(size, int)
    assert 32 * MIB < size < 64 * MIB
    assert await said(greedy, "fs.writeFileSync('/app/still', 'x')") is None
    assert await said(other, "fs.writeFileSync('/data/fits', Buffer.alloc(1 << 20))") is None


async def test_nothing_in_data_gains_rights(sandbox: Sandbox, shell: Path) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    app = await begin(sandbox, "first")
    flags = await said(
        app, "fs.readFileSync('/proc/mounts', 'utf8').split('\\n').find(l => l.includes(' /data '))"
    )
    assert isinstance(flags, str)
    assert {"rw", "nosuid", "nodev"} <= set(flags.split()[3].split(","))
    for forbidden in ("/data/..", "/data/../.disk", "/data/lost+found"):
        assert await said(app, f"fs.existsSync('{forbidden}/lost+found')") is False
    made = "child.spawnSync('mknod', ['/data/null', 'c', '1', '3']).status"
    assert await said(app, made) != 0


async def test_volume_outlives_the_gateway_and_a_crash_of_the_machine(
    tmp_path: Path, shell: Path
) -> None:
    runtime = make_sandbox(tmp_path / "state")
    await runtime.open()
    await build(runtime, shell, plan(), deployment_id="first")
    app = await begin(runtime, "first")
    await said(app, "fs.writeFileSync('/data/note', 'kept')")
    await runtime.close(stop_apps=False)

    again = make_sandbox(tmp_path / "state", instance_id=runtime.instance_id)
    await again.open()
    try:
        app = await begin(again, "first")  # it runs: it is adopted
        assert await said(app, "fs.readFileSync('/data/note', 'utf8')") == "kept"
        await said(app, "child.execSync('sync')")
        # As a crash would leave the disk: its journal not replayed.
        image = shop_volume(again, tmp_path).disk.image
        crashed = tmp_path / "crashed.img"
        subprocess.run(["cp", "--sparse=always", str(image), str(crashed)], check=True)
        assert "needs_recovery" in subprocess.check_output(
            ["dumpe2fs", "-h", str(crashed)], text=True, stderr=subprocess.DEVNULL
        )
        await again.stop("first")
        shutil.copyfile(crashed, image)
        app = await begin(again, "first")
        assert await said(app, "fs.readFileSync('/data/note', 'utf8')") == "kept"
    finally:
        await again.close(stop_apps=True)
    assert belongings(runtime.instance_id) == {kind: [] for kind in belongings(runtime.instance_id)}


async def test_gateway_that_died_leaves_no_view_behind(tmp_path: Path, shell: Path) -> None:
    runtime = make_sandbox(tmp_path / "state")
    await runtime.open()
    await build(runtime, shell, plan(), deployment_id="first")
    await begin(runtime, "first")
    volume = shop_volume(runtime, tmp_path)
    await asyncio.to_thread(volume.show, "gone", 12_345, size_bytes=1)
    await runtime.close(stop_apps=False)

    again = make_sandbox(tmp_path / "state", instance_id=runtime.instance_id)
    await again.open()
    try:
        assert shop_volume(again, tmp_path).users() == {"first"}
    finally:
        await again.close(stop_apps=True)


async def test_volume_that_was_being_made_is_made_anew(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    volume = shop_volume(sandbox, tmp_path)
    volume.directory.mkdir()
    (volume.directory / "unfinished.img").write_bytes(b"half")
    await build(sandbox, shell, plan(), deployment_id="first")
    app = await begin(sandbox, "first")
    assert await said(app, "fs.readdirSync('/data')") == []


async def test_removed_volume_is_gone(sandbox: Sandbox, shell: Path) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    await begin(sandbox, "first")
    await sandbox.stop("first")
    await sandbox.delete_volume("shop")
    await sandbox.delete_volume("shop")
    assert await sandbox.volumes() == set()
    app = await begin(sandbox, "first")
    assert await said(app, "fs.readdirSync('/data')") == []


async def test_volume_is_cleared_only_while_no_app_has_it(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    await build(sandbox, shell, plan(), deployment_id="first")
    app = await begin(sandbox, "first")
    await said(app, "fs.writeFileSync('/data/kept', 'x')")
    await sandbox.delete_volume("shop", unless_used=True)
    assert await said(app, "fs.readdirSync('/data')") == ["kept"]

    await sandbox.stop("first")
    await sandbox.delete_volume("shop", unless_used=True)
    assert not shop_volume(sandbox, tmp_path).disk.image.exists()
    app = await begin(sandbox, "first")
    assert await said(app, "fs.readdirSync('/data')") == []


async def test_clearing_a_volume_that_was_never_made_makes_none(sandbox: Sandbox) -> None:
    await sandbox.delete_volume("shop", unless_used=True)
    assert await sandbox.volumes() == set()


@pytest.mark.parametrize("name", ["", "..", "a/b", "x" * 65])
async def test_volume_of_no_possible_name_is_refused(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="can't name"):
        await sandbox.delete_volume(name)


async def test_app_that_crashes_at_its_start_leaves_the_volume_unmounted(
    sandbox: Sandbox, shell: Path, tmp_path: Path
) -> None:
    (shell / "index.js").write_text("process.exit(3)")
    await build(sandbox, shell, plan(), deployment_id="first")
    with pytest.raises(DeployFailed):
        await begin(sandbox, "first")
    assert not shop_volume(sandbox, tmp_path).disk.mounted
    assert await sandbox.volumes() == {"shop"}


async def test_disk_and_volume_grow_with_the_size_and_keep_what_they_have(
    sandbox: Sandbox, shell: Path
) -> None:
    await build(sandbox, shell, plan(), deployment_id="app")
    small = await begin(sandbox, "app")
    await said(small, "fs.writeFileSync('/data/kept', 'kept')")
    await sandbox.stop("app")
    larger = replace(WITH_VOLUME, disk_bytes=2 * LIMITS.disk_bytes, volume_bytes=128 * MIB)
    spec = InstanceSpec(
        deployment_id="app", plan=plan(), limits=larger, volume="shop", resizes=True
    )
    grown = await sandbox.start(spec, timeout_seconds=30)
    filled = "fs.writeFileSync('/data/big', Buffer.alloc(80 * 2 ** 20, 1))"
    assert await said(grown, filled) is None
    written = "fs.writeFileSync('big', Buffer.alloc(80 * 2 ** 20, 1))"
    assert await said(grown, written) is None
    assert await said(grown, "fs.readFileSync('/data/kept', 'utf8')") == "kept"


async def test_disk_does_not_shrink_below_its_files(sandbox: Sandbox, shell: Path) -> None:
    await build(sandbox, shell, plan(), deployment_id="app")
    app = await begin(sandbox, "app")
    await said(app, "fs.writeFileSync('big', Buffer.alloc(24 * 2 ** 20, 1))")
    await sandbox.stop("app")
    smaller = replace(WITH_VOLUME, disk_bytes=16 * MIB)
    spec = InstanceSpec(deployment_id="app", plan=plan(), limits=smaller, resizes=True)
    with pytest.raises(DeployFailed, match="do not fit on a disk of 16 MiB"):
        await sandbox.start(spec, timeout_seconds=30)
    assert await said(await begin(sandbox, "app"), "fs.statSync('big').size") == 24 * MIB


async def test_disk_that_could_not_be_made_smaller_is_as_it_was(
    sandbox: Sandbox, shell: Path
) -> None:
    await build(sandbox, shell, plan(), deployment_id="app")
    app = await begin(sandbox, "app")
    await said(app, "fs.writeFileSync('big', Buffer.alloc(8 * 2 ** 20, 1))")
    await sandbox.stop("app")
    smaller = replace(WITH_VOLUME, disk_bytes=LIMITS.disk_bytes // 2)
    spec = InstanceSpec(deployment_id="app", plan=plan(), limits=smaller, resizes=True)

    def end(step: str) -> None:
        if step == "resized":
            raise OSError("ends here")

    with pytest.raises(OSError, match="ends here"), armed(end):
        await sandbox.start(spec, timeout_seconds=30)
    await sandbox.stop("app")
    again = await sandbox.start(spec, timeout_seconds=30)
    assert await said(again, "fs.statSync('big').size") == 8 * MIB
