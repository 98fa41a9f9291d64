"""`moorage check` asks the Docker daemon before a gateway is started on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from moorage.operate.check.machine import check_docker
from moorage.settings import Settings, load_settings

ABLE = {
    "ApiVersion": "1.45",
    "ServerVersion": "26.1.5",
    "MemoryLimit": True,
    "SwapLimit": True,
    "PidsLimit": True,
    "CpuCfsQuota": True,
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
}


def configured(path: Path, isolation: str = "docker") -> Settings:
    return load_settings(file=None, environ={}, isolation=isolation, docker_host=f"unix://{path}")


@asynccontextmanager
async def daemon(path: Path, info: dict[str, Any]) -> AsyncIterator[None]:
    """What answers as a Docker daemon does that says this of itself."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(info)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_daemon_that_holds_apps_is_told_by_its_version(tmp_path: Path) -> None:
    async with daemon(tmp_path / "socket", ABLE):
        (found,) = await check_docker(configured(tmp_path / "socket"))
    assert (found.ok, found.detail) == (True, "Docker 26.1.5")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, "runs without root"),
        ({"CpuCfsQuota": False}, "can't limit processor time"),
    ],
    ids=["rootless", "unlimited"],
)
async def test_daemon_that_does_not_hold_them_is_told_with_what_mends_it(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    async with daemon(tmp_path / "socket", {**ABLE, **change}):
        (found,) = await check_docker(configured(tmp_path / "socket"))
    assert not found.ok
    assert said in found.detail
    assert found.remedy.startswith("start ")


async def test_daemon_that_is_not_there_is_told(tmp_path: Path) -> None:
    (found,) = await check_docker(configured(tmp_path / "none"))
    assert not found.ok
    assert "no Docker daemon listens" in found.detail


async def test_gateway_whose_apps_run_elsewhere_needs_none(tmp_path: Path) -> None:
    assert await check_docker(configured(tmp_path / "none", isolation="root")) == []
