"""A machine's disk that is full, or nearly so: which app is ended, and what works all the same."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.engines.engine import Incident, IncidentKind, Instance, InstanceSpec, Keep, Limits
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind
from support.engines.remains import processes_in
from support.engines.sandbox_fixture import make_sandbox, opened, run_dir_of
from support.engines.small_apps import LIMITS, MIB, build, get, plan, start
from support.engines.small_disk import errors_in, fill, free_mib, small_disk
from support.gateway.waiting import until

pytestmark = pytest.mark.root

GREEDY = """\
const fs = require('fs'), one = Buffer.alloc(1 << 20, 'x');
require('http').createServer((request, response) => {
  response.end('hello');
  const file = fs.openSync('/app/' + Date.now(), 'w');
  const on = () => { for (let i = 0; i < 16; i++) fs.writeSync(file, one); setImmediate(on); };
  on();
}).listen(process.env.PORT);
"""
KEEPER = """\
const fs = require('fs');
require('http').createServer((request, response) => {
  const file = fs.openSync('/data/kept', 'w');
  fs.writeSync(file, Buffer.alloc(4 << 20, 'k'));
  fs.fsyncSync(file);
  fs.closeSync(file);
  response.end('kept');
}).listen(process.env.PORT);
"""
BIG = Limits(memory_bytes=256 * MIB, cpu_millis=1000, pids=64, disk_bytes=512 * MIB)
WITH_VOLUME = Limits(
    memory_bytes=256 * MIB, cpu_millis=1000, pids=64, disk_bytes=64 * MIB, volume_bytes=64 * MIB
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path, 700) as mounted:
        yield mounted


async def begin(runtime: Sandbox, name: str, code: str, limits: Limits, source: Path) -> Instance:
    """An app of its own, with a volume where its limits have one."""
    (source / "index.js").write_text(code)
    await build(runtime, source, plan(), deployment_id=name, limits=limits)
    return await again(runtime, name, limits)


async def again(runtime: Sandbox, name: str, limits: Limits) -> Instance:
    volume = name if limits.volume_bytes else None
    spec = InstanceSpec(deployment_id=name, plan=plan(), limits=limits, volume=volume)
    return await runtime.start(spec, timeout_seconds=30)


async def told(runtime: Sandbox) -> Incident:
    async with asyncio.timeout(120):  # only to end a hung test
        return await runtime.next_incident()


async def test_app_that_fills_the_machines_disk_is_ended_at_the_reserve(
    disk: Path, source: Path
) -> None:
    """And not started before its disk fits; its neighbour writes on, and loses nothing."""
    runtime = make_sandbox(disk / "state", disk_reserve_bytes=150 * MIB)
    async with opened(runtime):
        keeper = await begin(runtime, "keeper", KEEPER, WITH_VOLUME, source)
        greedy = await begin(runtime, "greedy", GREEDY, BIG, source)
        assert get(greedy.address) == "hello"
        assert await told(runtime) == Incident("greedy", IncidentKind.NO_SPACE)
        await until(lambda: not processes_in(runtime.instance_id, "app-greedy"))
        assert get(keeper.address) == "kept"
        subprocess.run(["sync", "-f", disk], check=True)
        assert free_mib(disk) > 0
        with pytest.raises(DeployFailed) as refused:
            await again(runtime, "greedy", BIG)
        assert refused.value.cause is FailureCause.OUT_OF_DISK
        assert (await runtime.resources()).held == {"greedy"}
        assert set(await runtime.running()) == {"keeper"}
        await runtime.stop("greedy", keep=Keep.NOTHING)
        async with asyncio.timeout(120):  # only to end a hung test
            while (await runtime.resources()).held:
                await asyncio.sleep(0.05)
    assert not errors_in(disk / "state/volumes/keeper/disk.img")


async def test_build_that_downloads_more_than_there_is_is_ended_at_the_reserve(
    disk: Path, source: Path
) -> None:
    """Its disk for downloads is larger than the machine's; its neighbour loses nothing."""
    runtime = make_sandbox(disk / "state", disk_reserve_bytes=150 * MIB)
    async with opened(runtime):
        keeper = await begin(runtime, "keeper", KEEPER, WITH_VOLUME, source)
        assert free_mib(disk) > 500
        hoard = plan(install="cat /dev/zero > $npm_config_cache")
        with pytest.raises(DeployFailed, match="the gateway's disk is nearly full") as ended:
            await build(runtime, source, hoard, deployment_id="hoard", limits=BIG, owner="0xa1")
        assert ended.value.cause is FailureCause.OUT_OF_DISK
        assert get(keeper.address) == "kept"
        assert not list(disk.glob("state/deployments/hoard/downloads.img"))
        await runtime.stop("hoard", keep=Keep.NOTHING)
        subprocess.run(["sync", "-f", disk], check=True)
        assert free_mib(disk) > 450
    assert not errors_in(disk / "state/volumes/keeper/disk.img")


async def test_volume_is_written_to_whatever_else_fills_the_disk(disk: Path, source: Path) -> None:
    async with opened(make_sandbox(disk / "state")) as runtime:
        keeper = await begin(runtime, "keeper", KEEPER, WITH_VOLUME, source)
        fill(disk)
        for _ in range(5):
            assert get(keeper.address) == "kept"
        await runtime.stop("keeper")
        assert not errors_in(disk / "state/volumes/keeper/disk.img")


async def test_app_is_stopped_started_and_removed_on_a_full_disk(disk: Path, source: Path) -> None:
    async with opened(make_sandbox(disk / "state")) as runtime:
        await begin(runtime, "keeper", KEEPER, WITH_VOLUME, source)
        mounted = run_dir_of(runtime.instance_id) / "disks/keeper"
        subprocess.run(["sync", "-f", mounted], check=True)
        filler = fill(disk)
        await runtime.stop("keeper")
        assert await runtime.running() == {}
        ended = (await runtime.inspect("keeper")).exit
        assert ended is not None
        assert get((await again(runtime, "keeper", WITH_VOLUME)).address) == "kept"
        await runtime.stop("keeper")
        await runtime.stop("keeper", keep=Keep.NOTHING)
        assert await runtime.known() == set()
        filler.unlink()


async def test_volume_that_finds_no_room_leaves_none_taken(disk: Path, source: Path) -> None:
    async with opened(make_sandbox(disk / "state")) as runtime:
        (source / "index.js").write_text(KEEPER)
        await build(runtime, source, plan(), deployment_id="keeper", limits=WITH_VOLUME)
        filler = fill(disk, leave_mib=30)
        before = free_mib(disk)
        with pytest.raises(DeployFailed) as failed:
            await again(runtime, "keeper", WITH_VOLUME)
        assert failed.value.cause is FailureCause.OUT_OF_DISK
        assert free_mib(disk) > before - 5
        filler.unlink()
        assert get((await again(runtime, "keeper", WITH_VOLUME)).address) == "kept"


async def test_volume_with_errors_is_mended_at_the_next_start(
    sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    """Its owner is told; a start after that finds nothing."""
    await begin(sandbox, "keeper", KEEPER, WITH_VOLUME, source)
    await sandbox.stop("keeper")
    image = tmp_path / "state/volumes/keeper/disk.img"
    damaged = "set_super_value state 3\nclri <11>\n"  # <11> is lost+found
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=damaged, text=True, check=True)
    assert errors_in(image)
    assert get((await again(sandbox, "keeper", WITH_VOLUME)).address) == "kept"
    assert await told(sandbox) == Incident("keeper", IncidentKind.VOLUME_REPAIRED)
    said = [line.text for line in (await sandbox.read_log("keeper", LogKind.RUNTIME)).lines]
    assert sum("/data had errors" in text for text in said) == 1
    await sandbox.stop("keeper")
    assert not errors_in(image)
    assert subprocess.run(["e2fsck", "-fn", image], check=False).returncode == 0
    await again(sandbox, "keeper", WITH_VOLUME)
    said = [line.text for line in (await sandbox.read_log("keeper", LogKind.RUNTIME)).lines]
    assert sum("/data had errors" in text for text in said) == 1


async def test_app_disk_with_errors_is_mended_at_the_next_start(
    sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    (source / "index.js").write_text("require('fs').readFileSync('/app/index.js');" + GREEDY)
    await build(sandbox, source, plan())
    await start(sandbox, plan())
    await sandbox.stop("first")
    image = tmp_path / "state/deployments/first/disk.img"
    subprocess.run(["debugfs", "-w", "-R", "set_super_value state 2", image], check=True)
    await start(sandbox, plan(), limits=LIMITS)
    await sandbox.stop("first")
    assert not errors_in(image)
