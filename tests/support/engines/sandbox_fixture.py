"""A real sandbox, opened for one test and taken down with all its apps afterwards."""

import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from moorage.engines.disks.volume import Volume
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.environment import Store
from moorage.engines.sandbox.sandbox import DOWNLOADS_BYTES, Sandbox

TOOLS = ("caddy", "uv")
CACHE_BYTES = 64 * 1024 * 1024


def make_sandbox(
    state_dir: Path,
    *,
    instance_id: str | None = None,
    cache_bytes: int = 0,
    toolchains: Store | None = None,
    disk_reserve_bytes: int = 0,
    downloads_bytes: int = 0,
) -> Sandbox:
    """A sandbox that is not opened yet, with an instance id of its own unless one is given.

    `cache_bytes` is what builds of a wallet may keep, and download at all; twice that what all may
    keep.
    """
    instance = instance_id or secrets.token_hex(3)
    beside_python = Path(sys.executable).parent
    configuration = HostConfiguration(
        state_dir=state_dir,
        run_dir=run_dir_of(instance),
        instance_id=instance,
        tools={name: beside_python / name for name in TOOLS},
        toolchains=toolchains,
        stop_grace_seconds=2.0,
        disk_reserve_bytes=disk_reserve_bytes,
    )
    return Sandbox(
        configuration,
        wallet_cache_bytes=cache_bytes,
        total_cache_bytes=2 * cache_bytes,
        downloads_bytes=downloads_bytes or cache_bytes or DOWNLOADS_BYTES,
    )


def run_dir_of(instance_id: str) -> Path:
    """Where a sandbox mounts disks and keeps sockets."""
    return Path("/run/moorage") / instance_id


def volume_of(sandbox: Sandbox, state_dir: Path, name: str) -> Volume:
    """A volume of a sandbox, to look at beside it."""
    mounts = run_dir_of(sandbox.instance_id) / "volumes"
    return Volume(directory=state_dir / "volumes" / name, mounts=mounts / name)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with opened(make_sandbox(tmp_path / "state")) as runtime:
        yield runtime
    shutil.rmtree(tmp_path / "state")


@pytest.fixture
async def caching_sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    async with opened(make_sandbox(tmp_path / "state", cache_bytes=CACHE_BYTES)) as runtime:
        yield runtime
    shutil.rmtree(tmp_path / "state")


@asynccontextmanager
async def opened(runtime: Sandbox) -> AsyncIterator[Sandbox]:
    """The sandbox, opened, and taken down with all its apps."""
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.close(stop_apps=True)
