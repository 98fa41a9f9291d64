"""Toolchains of the store, as builds and apps see them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.engines.engine import Engine, log_tail
from moorage.errors import DeployFailed
from moorage.records.deployment import LogKind
from support.engines.sandbox_fixture import make_sandbox, opened
from support.engines.small_apps import build, logged, plan, start

pytestmark = pytest.mark.root

USED = {"tool": "1.2.3"}


class Store:
    """A store below a directory that nobody but root may enter."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(mode=0o700)

    async def ensure(self, program: str, version: str) -> Path:
        found = self.directory / program / version
        await asyncio.to_thread(_install, found / "bin" / program, version)
        return found


def _install(program: Path, version: str) -> None:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho {program.name} {version}\n")
    program.chmod(0o755)


@pytest.fixture
async def equipped(tmp_path: Path) -> AsyncIterator[Engine]:
    """A sandbox with a store."""
    async with opened(
        make_sandbox(tmp_path / "state", toolchains=Store(tmp_path / "store"))
    ) as runtime:
        yield runtime


async def test_build_and_app_find_their_toolchain_before_the_machines_programs(
    equipped: Engine, source: Path
) -> None:
    look = "tool; uname; command -v tool"
    (source / "node_modules" / ".bin").mkdir(parents=True)
    used = plan(
        install=look,
        start="tool; exec node index.js",
        toolchains={"tool": "1.2.3", "uname": "2.0.0"},
    )
    await build(equipped, source, used)
    await start(equipped, used)
    said = (await log_tail(equipped, "first", LogKind.BUILD)).splitlines()[1:]
    assert said == ["tool 1.2.3", "uname 2.0.0", "/opt/moorage/toolchains/tool/bin/tool"]
    assert await logged(equipped, "\n") == "tool 1.2.3\n"


async def test_toolchain_can_not_be_changed_from_inside(equipped: Engine, source: Path) -> None:
    program = "/opt/moorage/toolchains/tool/bin/tool"
    for attempt in ("echo > {0}", "rm {0}", "touch {0}/../new", "chmod 777 {0}"):
        with pytest.raises(DeployFailed):
            await build(equipped, source, plan(build=attempt.format(program), toolchains=USED))
    await build(equipped, source, plan(build=f"ls {Path(program).parent}; tool", toolchains=USED))
    said = (await log_tail(equipped, "first", LogKind.BUILD)).splitlines()
    assert said[-2:] == [
        "tool",
        "tool 1.2.3",
    ]


async def test_version_installed_anew_is_seen(tmp_path: Path, source: Path) -> None:
    runtime = make_sandbox(tmp_path / "state", toolchains=Store(tmp_path / "store"))
    async with opened(runtime):
        await build(runtime, source, plan(build="tool", toolchains=USED))
        (tmp_path / "store" / "tool").rename(tmp_path / "collected")
        await build(runtime, source, plan(build="tool", toolchains=USED))
        assert "tool 1.2.3" in await log_tail(runtime, "first", LogKind.BUILD)


async def test_close_unmounts_all_toolchains(tmp_path: Path, source: Path) -> None:
    runtime = make_sandbox(tmp_path / "state", toolchains=Store(tmp_path / "store"))
    async with opened(runtime):
        await build(runtime, source, plan(build="tool", toolchains=USED))
    assert runtime.instance_id not in Path("/proc/self/mountinfo").read_text()


async def test_machine_without_a_store_says_so(tmp_path: Path, source: Path) -> None:
    async with opened(make_sandbox(tmp_path / "state")) as runtime:
        with pytest.raises(DeployFailed, match=r"tool 1\.2\.3"):
            await build(runtime, source, plan(build="tool", toolchains=USED))
