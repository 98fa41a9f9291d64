"""A real sandbox, opened for one test and taken down with all its apps afterwards."""

import secrets
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from moorage.runtimes.sandbox.sandbox import Sandbox

TOOLS = ("caddy", "uv")


def make_sandbox(state_dir: Path, *, instance_id: str | None = None) -> Sandbox:
    """A sandbox that is not opened yet, with an instance id of its own unless one is given."""
    instance = instance_id or secrets.token_hex(3)
    beside_python = Path(sys.executable).parent
    return Sandbox(
        state_dir=state_dir,
        run_dir=Path("/run/moorage") / instance,
        instance_id=instance,
        tools={name: beside_python / name for name in TOOLS},
        stop_grace_seconds=2.0,
    )


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    runtime = make_sandbox(tmp_path / "state")
    await runtime.open()
    try:
        yield runtime
    finally:
        await runtime.close(stop_apps=True)
        shutil.rmtree(tmp_path / "state")
