"""What a gateway knows of a machine whose apps another one keeps."""

import os
import time
from pathlib import Path

import pytest

from moorage.engines.engine import Capabilities
from moorage.engines.host.machine import SILENT_SECONDS, MachineView, tell
from moorage.errors import KeeperAway, NoCapacity
from support.gateway.fakes import FakeRuntime


@pytest.fixture
def view(tmp_path: Path) -> MachineView:
    return MachineView(
        capabilities=Capabilities(volumes=True, caches=True), state_dir=tmp_path, told=tmp_path
    )


async def test_machine_of_which_nobody_has_told_has_no_room_and_is_not_ready(
    view: MachineView,
) -> None:
    with pytest.raises(NoCapacity):
        await view.disks()
    with pytest.raises(KeeperAway):
        await view.check()


async def test_keeper_that_stands_still_is_told_of(view: MachineView, tmp_path: Path) -> None:
    runtime = FakeRuntime()
    await tell(runtime, tmp_path)
    assert await view.disks() == await runtime.disks()
    await view.check()

    (told,) = tmp_path.iterdir()
    then = time.time() - SILENT_SECONDS - 1
    os.utime(told, (then, then))
    with pytest.raises(KeeperAway, match="end it"):
        await view.check()
