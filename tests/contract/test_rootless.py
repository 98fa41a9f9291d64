"""What only the rootless runtime does; what every runtime does is in test_runtime.py."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from moorage.engines.engine import AppExit, Engine
from moorage.engines.host.kernel.cgroup import Hierarchy
from moorage.engines.host.network import probe
from moorage.errors import IsolationMissing
from moorage.records.log import LogKind
from remains import processes_of
from rootless_fixture import UID, RemoteRuntime, missing, opened_rootless, rootless_directory
from small_apps import OWN, SERVER, build, build_and_start, fetch, logged, plan, processes, start
from waiting import until

pytestmark = pytest.mark.root

BORN = "const born = String(process.hrtime());\n" + SERVER.replace("'hello'", "born") % "3000"


@pytest.fixture
def home() -> Path:
    """A directory of the made-up user's."""
    if reason := missing():
        pytest.skip(reason)
    return rootless_directory()


@pytest.fixture
async def gateways(home: Path) -> AsyncIterator[list[RemoteRuntime]]:
    """Gateways over one directory, each killed by its test; the last one ends it all."""
    made: list[RemoteRuntime] = []
    yield made
    await made[-1].close(stop_apps=True)
    made[-1].end()
    shutil.rmtree(home)


async def next_gateway(gateways: list[RemoteRuntime], home: Path) -> tuple[Engine, RemoteRuntime]:
    """One more gateway over the same directory, opened."""
    gateways.append(RemoteRuntime(home, instance_id=f"{os.getpid() & 0xFFFFFF:06x}"))
    await gateways[-1].open()
    return cast("Engine", gateways[-1]), gateways[-1]


async def test_app_survives_the_gateway_and_is_adopted(
    gateways: list[RemoteRuntime], home: Path, source: Path
) -> None:
    (source / "index.js").write_text(BORN)
    first, process = await next_gateway(gateways, home)
    instance = await build_and_start(first, source, plan())
    born = await fetch(instance.address)
    process.kill()
    assert await fetch(instance.address) == born
    second, _ = await next_gateway(gateways, home)
    assert await second.running() == {"first": instance}
    assert await start(second, plan()) == instance
    assert await fetch(instance.address) == born
    await second.stop("first")
    assert await second.running() == {}
    assert await second.exit_reason("first") == AppExit(exit_code=143, out_of_memory=False)


async def test_exit_while_no_gateway_ran_is_known(
    gateways: list[RemoteRuntime], home: Path, source: Path
) -> None:
    (source / "index.js").write_text(
        SERVER.replace("response.end('hello')", "process.exit(9)") % "process.env.PORT"
    )
    first, process = await next_gateway(gateways, home)
    instance = await build_and_start(first, source, plan())
    process.kill()
    with pytest.raises(OSError):  # noqa: PT011 (reset or closed, as it happens)
        await fetch(instance.address)
    second, _ = await next_gateway(gateways, home)

    async def known() -> bool:
        return await second.exit_reason("first") == AppExit(exit_code=9, out_of_memory=False)

    await until(known)


async def test_build_dies_with_the_gateway_and_is_swept(
    gateways: list[RemoteRuntime], home: Path, source: Path
) -> None:
    first, process = await next_gateway(gateways, home)
    step = f"echo begun; setsid sleep 8491{OWN} & sleep 8491{OWN}"
    task = asyncio.create_task(build(first, source, plan(build=step)))
    await until(lambda: any(line.startswith("sleep") for line in processes(f"sleep 8491{OWN}")))
    process.kill()
    with pytest.raises(asyncio.IncompleteReadError):
        await task
    await until(lambda: processes(f"sleep 8491{OWN}") == [])
    second, _ = await next_gateway(gateways, home)
    assert await second.known() == {"first"}
    assert await second.running() == {}
    assert not (home / "state" / "deployments" / "first" / "app").exists()


async def test_app_whose_record_is_lost_is_ended_by_the_next_gateway(
    gateways: list[RemoteRuntime], home: Path, source: Path
) -> None:
    first, process = await next_gateway(gateways, home)
    await build_and_start(first, source, plan(start=f"node index.js 8492{OWN}"))
    process.kill()
    (home / "state" / "deployments" / "first" / "record.json").unlink()
    second, _ = await next_gateway(gateways, home)
    assert await second.known() == set()
    await until(lambda: processes(f"index.js 8492{OWN}") == [])
    await until(lambda: not _doors())


async def test_without_the_operators_word_it_does_not_open(home: Path) -> None:
    remote = RemoteRuntime(home, accept_soft_limits=False)
    try:
        with pytest.raises(IsolationMissing) as refused:
            await remote.open()
        assert "disk" in str(refused.value)
        assert "accept_soft_limits = true" in str(refused.value)
    finally:
        remote.end()
        shutil.rmtree(home)


@pytest.fixture
def groups(home: Path) -> Iterator[Hierarchy]:
    """A part of the machine's control groups that is the made-up user's."""
    found = probe.hierarchy()
    assert found is not None
    mine = {name: mount / home.name for name, mount in found.mounts.items()}
    for directory in dict.fromkeys(mine.values()):
        directory.mkdir()
        for path in (directory, *directory.iterdir()):
            os.chown(path, UID, UID)
    yield Hierarchy(found.version, mine)
    for directory in dict.fromkeys(mine.values()):
        directory.rmdir()


async def test_control_groups_hold_an_app_where_its_user_may_make_them(
    home: Path, groups: Hierarchy, source: Path
) -> None:
    """Two processes take what one is allowed: the kernel counts them together."""
    (source / "hungry.js").write_text("const kept = []; for (;;) kept.push(Buffer.alloc(1e7, 1));")
    (source / "index.js").write_text(
        "require('child_process').fork('hungry.js').on('exit', (code, signal) =>"
        " { console.log(signal); " + SERVER % "3000" + "});"
    )
    async with opened_rootless(home, hierarchy=groups) as remote:
        runtime = cast("Engine", remote)
        await build_and_start(runtime, source, plan(build="echo built"))
        await logged(runtime, "SIGKILL\n")
        await runtime.stop("first")
        ended = await runtime.exit_reason("first")
        assert ended is not None
        assert ended.out_of_memory


async def test_close_with_apps_leaves_nothing(home: Path, source: Path) -> None:
    before = processes_of(UID)
    async with opened_rootless(home) as remote:
        runtime = cast("Engine", remote)
        await build_and_start(runtime, source, plan())
        assert len(processes_of(UID) - before) > 4  # gateway, collector, pasta, bwrap, app
        await runtime.close(stop_apps=True)
        assert not (home / "run").exists()
        await until(lambda: processes_of(UID) - before == {remote.pid})
        await runtime.open()
        assert await runtime.known() == {"first"}
        assert await fetch((await start(runtime, plan())).address) == "hello"


async def test_copy_of_a_running_app_has_its_files_and_what_links_lead_to_stays_out(
    home: Path, source: Path
) -> None:
    secret = home / "secret"
    secret.write_text("the gateway's own")
    os.chown(secret, UID, UID)
    (source / "index.js").write_text(SERVER.replace("'hello'", "__filename") % "3000")
    async with opened_rootless(home) as remote:
        runtime = cast("Engine", remote)
        made = f"ln -s {home} way; echo made > file; mkdir -p ~/kept; echo home > ~/kept/file"
        await build_and_start(runtime, source, plan(build=made))
        await runtime.copy("first", "second")
        shown = plan(start="cat file ~/kept/file; ls way/ 2>&1; echo shown; exec node index.js")
        instance = await start(runtime, shown, deployment_id="second")
        assert await fetch(instance.address) == "/app/index.js"
        said = await logged(runtime, "shown\n", deployment_id="second")
        assert said.startswith("made\nhome\n")
        assert "No such file" in said  # beyond the link
        assert "echo made" in await runtime.log_tail("second", LogKind.BUILD)
        copied = home / "state" / "deployments" / "second"
        assert (copied / "app" / "way").is_symlink()
        assert not any(path.name == "secret" for path in copied.rglob("secret"))


async def test_new_address_of_the_machine_is_forbidden_to_apps_that_run(
    home: Path, source: Path
) -> None:
    """The filter lies in each app's namespace, and was loaded before there was the address."""
    async with opened_rootless(home) as remote:
        runtime: Any = remote
        await build_and_start(runtime, source, plan())
        address = ("203.0.113.77/32", "dev", "lo")
        subprocess.run(["ip", "address", "add", *address], check=True)
        try:
            await asyncio.to_thread(runtime.tend)
            assert "203.0.113.77" in await asyncio.to_thread(_filter_of_the_app)
        finally:
            subprocess.run(["ip", "address", "delete", *address], check=True)


def _filter_of_the_app() -> str:
    """The packet filter in the namespace of the made-up user's one app."""
    ours = _network("self")
    inside = next(
        pid for pid in sorted(processes_of(UID)) if _network(str(pid)) not in (None, ours)
    )
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{inside}/ns/net", "nft", "list", "ruleset"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def _doors() -> list[int]:
    """The made-up user's doors."""
    return [pid for pid in processes_of(UID) if "socket-prox" in _name(pid)]


def _name(pid: int) -> str:
    """The name of a process; none once it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _network(process: str) -> int | None:
    """Its network namespace; None once it is gone."""
    try:
        return Path("/proc", process, "ns/net").stat().st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None
