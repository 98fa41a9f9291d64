"""What builds download is kept for later builds of their wallet, and harms nobody else."""

import asyncio
from pathlib import Path

import pytest

from moorage.engines.engine import Keep, log_tail
from moorage.engines.sandbox.sandbox import Sandbox
from moorage.errors import DeployFailed, FailureCause
from moorage.records.deployment import LogKind
from support.engines.sandbox_fixture import CACHE_BYTES, make_sandbox, opened
from support.engines.small_apps import OWN, build, plan, processes, start
from support.gateway.waiting import until

pytestmark = pytest.mark.root

ALICE, BOB = "0x" + "a1" * 20, "0x" + "b0" * 20
CACHE = "/var/cache/moorage"
LOOK = f"echo found; ls -A {CACHE} 2> /dev/null || true"


async def log(sandbox: Sandbox, deployment_id: str) -> str:
    return await log_tail(sandbox, deployment_id, LogKind.BUILD)


def images(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "state" / "caches").glob("*/downloads.img"))


def mounts(sandbox: Sandbox) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if sandbox.instance_id in line and ".downloads" in line]


async def look(sandbox: Sandbox, source: Path, owner: str) -> list[str]:
    """What a build of the wallet finds in its cache."""
    await build(sandbox, source, plan(build=LOOK), deployment_id="look", owner=owner)
    found = (await log(sandbox, "look")).partition("\nfound\n")[2].splitlines()
    await sandbox.stop("look", keep=Keep.NOTHING)
    return found


async def test_download_is_there_for_the_next_build_of_the_wallet_alone(
    caching_sandbox: Sandbox, source: Path
) -> None:
    fetches = plan(install='echo kept > "$npm_config_cache"', build="env")
    await build(caching_sandbox, source, fetches, owner=ALICE)
    said = (await log(caching_sandbox, "first")).splitlines()
    for variable in (f"npm_config_cache={CACHE}/npm", f"UV_CACHE_DIR={CACHE}/uv"):
        assert variable in said
    assert await look(caching_sandbox, source, ALICE) == ["npm"]
    assert await look(caching_sandbox, source, BOB) == []
    assert mounts(caching_sandbox) == []


async def test_build_of_nobody_has_no_cache(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    await build(caching_sandbox, source, plan(build=f"env; ls {CACHE} 2> /dev/null || echo none"))
    assert CACHE + "/" not in await log(caching_sandbox, "first")
    assert (await log(caching_sandbox, "first")).endswith("none\n")
    assert images(tmp_path) == []


async def test_running_app_does_not_see_the_cache(caching_sandbox: Sandbox, source: Path) -> None:
    await build(caching_sandbox, source, plan(build=f"echo > {CACHE}/fetched"), owner=ALICE)
    await start(caching_sandbox, plan(start=f"ls {CACHE}; env; exec node index.js"))
    said = await log_tail(caching_sandbox, "first", LogKind.RUNTIME)
    assert "fetched" not in said
    assert CACHE + "/" not in said


async def test_second_build_of_a_wallet_goes_without_meanwhile(
    caching_sandbox: Sandbox, source: Path
) -> None:
    waiting = plan(build=f"touch {CACHE}/first; sleep 8481{OWN}")
    first = asyncio.create_task(build(caching_sandbox, source, waiting, owner=ALICE))
    await until(lambda: any(line.startswith("sleep") for line in processes(f"sleep 8481{OWN}")))
    assert await look(caching_sandbox, source, ALICE) == []
    assert await look(caching_sandbox, source, BOB) == []
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert mounts(caching_sandbox) == []
    assert await look(caching_sandbox, source, ALICE) == ["first"]


async def test_full_cache_is_emptied(caching_sandbox: Sandbox, source: Path) -> None:
    fill = plan(build=f"cat /dev/zero > {CACHE}/zero; df {CACHE} | grep -c moorage")
    await build(caching_sandbox, source, fill, owner=ALICE)
    assert await look(caching_sandbox, source, ALICE) == []


async def test_full_cache_takes_no_more_than_it_may(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    await build(caching_sandbox, source, plan(build=f"yes > {CACHE}/yes || true"), owner=ALICE)
    (image,) = images(tmp_path)
    assert image.stat().st_blocks * 512 <= CACHE_BYTES


async def test_build_may_download_more_than_is_kept(tmp_path: Path, source: Path) -> None:
    """It is thrown away with the build."""
    made = make_sandbox(
        tmp_path / "state", cache_bytes=CACHE_BYTES, downloads_bytes=4 * CACHE_BYTES
    )
    async with opened(made) as runtime:
        much = f'head -c {2 * CACHE_BYTES} /dev/zero > "$npm_config_cache" && echo went on'
        await build(runtime, source, plan(install=much), owner=ALICE)
        assert "went on" in (await log(runtime, "first")).splitlines()
        assert images(tmp_path) == []
        assert list((tmp_path / "state").glob("deployments/*/downloads.img")) == []
        assert await look(runtime, source, ALICE) == []


async def test_builds_of_a_wallet_that_keeps_nothing_download_apart_from_their_apps(
    tmp_path: Path, source: Path
) -> None:
    async with opened(make_sandbox(tmp_path / "state")) as runtime:
        lists = f"df -P / /app {CACHE} | tail -n +2 | sort -u | wc -l"
        await build(runtime, source, plan(build=lists), owner=ALICE)
        assert (await log(runtime, "first")).endswith("\n3\n")
        assert images(tmp_path) == []


async def test_full_disk_of_the_apps_own_fails_with_a_cache_too(
    caching_sandbox: Sandbox, source: Path
) -> None:
    with pytest.raises(DeployFailed) as caught:
        await build(caching_sandbox, source, plan(build="cat /dev/zero > zero"), owner=ALICE)
    assert caught.value.cause is FailureCause.OUT_OF_DISK


async def test_damaged_cache_is_made_anew(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    await build(caching_sandbox, source, plan(build=f"touch {CACHE}/file"), owner=ALICE)
    (image,) = images(tmp_path)
    with image.open("r+b") as file:
        file.write(bytes(1024 * 1024))
    assert await look(caching_sandbox, source, ALICE) == []
    await build(caching_sandbox, source, plan(build=f"touch {CACHE}/file"), owner=ALICE)
    assert await look(caching_sandbox, source, ALICE) == ["file"]


@pytest.mark.parametrize(
    "attempt",
    [
        "mknod {cache}/null c 1 3",
        "ln /usr/bin/env {cache}/env",
        "chown 0 {cache}",
    ],
)
async def test_nothing_of_the_hosts_gets_into_the_cache(
    caching_sandbox: Sandbox, source: Path, attempt: str
) -> None:
    with pytest.raises(DeployFailed):
        await build(caching_sandbox, source, plan(build=attempt.format(cache=CACHE)), owner=ALICE)
    assert await look(caching_sandbox, source, ALICE) == []


async def test_link_in_the_cache_leads_nowhere_on_the_host(
    caching_sandbox: Sandbox, source: Path, tmp_path: Path
) -> None:
    """In place of each directory, and of the cache itself, while it is emptied and used again."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("the host's")
    outside.chmod(0o777)
    links = f"for name in npm uv cargo; do ln -s {outside} {CACHE}/$name; done"
    await build(caching_sandbox, source, plan(build=links), owner=ALICE)
    write = 'echo poison > "$npm_config_cache/file"; echo poison > "$UV_CACHE_DIR/new"; true'
    for step in (write, f"cat /dev/zero > {CACHE}/zero || true", write):
        await build(caching_sandbox, source, plan(build=step), owner=ALICE)
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_text() == "the host's"


async def test_setuid_program_in_the_cache_gives_nothing(
    caching_sandbox: Sandbox, source: Path
) -> None:
    keep = f"cp /usr/bin/id {CACHE}/id; chmod 6755 {CACHE}/id"
    await build(caching_sandbox, source, plan(build=keep), owner=ALICE)
    use = f"{CACHE}/id -u; id -u"
    await build(caching_sandbox, source, plan(build=use), deployment_id="second", owner=ALICE)
    kept, own = (await log(caching_sandbox, "second")).splitlines()[-2:]
    assert kept == own != "0"


async def test_cache_outlives_the_gateway(tmp_path: Path, source: Path) -> None:
    runtime = make_sandbox(tmp_path / "state", cache_bytes=CACHE_BYTES)
    async with opened(runtime):
        await build(runtime, source, plan(build=f"touch {CACHE}/file"), owner=ALICE)
        await runtime.stop("first", keep=Keep.NOTHING)
    async with opened(runtime):
        assert await look(runtime, source, ALICE) == ["file"]
