"""A gateway's runtime in a process of its own, which a test kills."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from moorage.address import Address
from moorage.engines.sandbox.sandbox import Sandbox
from support.engines.sandbox_fixture import make_sandbox

GATEWAY = """
import asyncio, sys
from pathlib import Path
from support.engines.sandbox_fixture import make_sandbox
from support.engines.small_apps import build, plan, start

async def main(state, instance_id, source, step):
    runtime = make_sandbox(Path(state), instance_id=instance_id)
    await runtime.open()
    the_plan = plan(build=step or None)
    await build(runtime, Path(source), the_plan)
    print((await start(runtime, the_plan)).address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


class Gateway:
    """A process of its own that builds and starts the source's app, until it is killed."""

    def __init__(self, state_dir: Path, source: Path, *, step: str = "") -> None:
        self.state_dir = state_dir
        self.successors: list[Sandbox] = []
        self.instance_id = secrets.token_hex(3)
        here = Path(__file__).parent
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", GATEWAY, str(state_dir)),
                *(self.instance_id, str(source), step),
            ],
            env={**os.environ, "PYTHONPATH": f"{here}:{here.parent}"},
            stdout=subprocess.PIPE,
            text=True,
        )

    async def started(self) -> Address:
        """The app's address, once it runs."""
        assert self.process.stdout is not None
        return Address((await asyncio.to_thread(self.process.stdout.readline)).strip())

    def kill(self) -> None:
        """As a crash does, at once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    async def successor(self) -> Sandbox:
        """The next gateway's runtime over the same state, opened."""
        self.successors.append(make_sandbox(self.state_dir, instance_id=self.instance_id))
        await self.successors[-1].open()
        return self.successors[-1]

    async def close(self) -> None:
        """End all of it, as the last successor would."""
        self.kill()
        for runtime in self.successors or [await self.successor()]:
            await runtime.close(stop_apps=True)


@pytest.fixture
async def gateway(tmp_path: Path, source: Path) -> AsyncIterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def make(*, step: str = "") -> Gateway:
        made.append(Gateway(tmp_path / "state", source, step=step))
        return made[-1]

    yield make
    for it in made:
        await it.close()
