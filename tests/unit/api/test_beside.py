"""A gateway beside the one that keeps the apps."""

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from moorage.errors import ProxyFailed
from moorage.gateway.platform import Opening
from moorage.gateway.platform_beside import open_beside
from moorage.loop import always
from moorage.settings import load_settings
from moorage.toolchains.store import nothing_needed
from support.gateway.clock import MovableClock


async def test_start_ends_when_nobody_starts_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader may have ended before it did: then this gateway has its lock."""
    sleep = asyncio.sleep

    async def wait(_: float) -> None:
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", wait)
    settings = load_settings(
        file=None,
        environ={},
        data_dir=str(tmp_path),
        run_dir=str(tmp_path),
        proxy_listen=0,
    )
    async with AsyncExitStack() as stack:
        with socket.socket() as listener, pytest.raises(ProxyFailed, match="proxy_listen"):
            await open_beside(
                stack,
                settings,
                Opening(
                    listener=listener,
                    clock=MovableClock(),
                    instance="abcdef",
                    stop_apps=False,
                    keeps=always,
                    needed_toolchains=nothing_needed,
                ),
            )
