"""The fixtures of the hostile suite: a made-up host, a sandbox on it, and what apps may not get."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arena
import pytest
import pytest_asyncio
from apps import Deployer

from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.sandbox.sandbox import Sandbox

GATEWAY_SECRET = "gateway-secret-8d1f"


@dataclass(frozen=True)
class Host:
    """The made-up host: its files, and the ports and names of its services."""

    directory: Path
    facts: dict[str, str]
    network: int  # its network namespace, and the world's
    world: int

    @property
    def state(self) -> Path:
        """The sandbox's state directory."""
        return self.directory / "state"

    @property
    def run(self) -> Path:
        """The sandbox's run directory, which holds the doors."""
        return self.directory / "run"

    def new_directory(self, name: str) -> Path:
        """A fresh, empty directory that anyone on the host may enter."""
        path = self.directory / name
        path.mkdir()
        return path


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """This thread on a made-up host, with a made-up world around it."""
    # Not pytest's tmp_path: a socket's path is at most 107 bytes, and nobody may enter that one.
    directory = Path(tempfile.mkdtemp(prefix="hostile-", dir="/tmp"))
    directory.chmod(0o755)
    host_network, world_network = arena.new_network(), arena.new_network()
    greeters = arena.Greeters()
    arena.furnish(host_network, world_network)
    with arena.inside(host_network):
        facts = arena.populate(
            greeters, host=host_network, world=world_network, directory=directory
        )
        greeters.start()
        yield Host(directory, facts, host_network, world_network)
        greeters.close()
    os.close(host_network)
    os.close(world_network)
    shutil.rmtree(directory)


def instance_id(suffix: str = "") -> str:
    """A sandbox's id, unlike any other on this machine."""
    return f"{os.getpid() & 0xFFFF:04x}{suffix}"


def new_sandbox(host: Host, suffix: str = "", **options: Any) -> Sandbox:
    """A sandbox on the made-up host, not yet open."""
    state, run = (host.directory / f"{name}{suffix}" for name in ("state", "run"))
    state.mkdir()
    run.mkdir()
    return Sandbox(
        HostConfiguration(
            state_dir=state,
            run_dir=run,
            instance_id=instance_id(suffix),
            tools={},
            stop_grace_seconds=1.0,
            **options,
        )
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(host: Host) -> AsyncIterator[Sandbox]:
    """An open sandbox, started by a gateway whose environment holds a secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_SECRET", GATEWAY_SECRET)
        runtime = new_sandbox(host)
        await runtime.open()
        yield runtime
        await runtime.close(stop_apps=True)


@pytest.fixture(scope="module")
def deployer(sandbox: Sandbox) -> Deployer:
    """Deploys in the sandbox."""
    return Deployer(sandbox)
