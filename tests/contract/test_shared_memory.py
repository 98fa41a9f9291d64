"""The machine's memory is divided among apps, builds and services, and each group is held to it."""

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage.engines.engine import Limits
from moorage.engines.host import probe
from moorage.engines.host.cgroup import Cgroups
from moorage.engines.sandbox.sandbox import Sandbox
from support.engines.small_apps import MIB

pytestmark = pytest.mark.root

# Takes 64 MiB once it is told to.
GROWING = "input(); held = bytearray(64 << 20)"


def groups_of(sandbox: Sandbox) -> Cgroups:
    groups = probe.made_groups(sandbox.instance_id)
    assert groups is not None
    return groups


def group(sandbox: Sandbox, name: str) -> Path:
    """A group's directory where memory is limited."""
    groups = groups_of(sandbox)
    return groups.hierarchy.mounts["memory"] / groups.root / name


def limit_bytes(directory: Path) -> int:
    """What is counted as memory, and on version 1 as sockets, which is counted apart."""
    if (directory / "memory.max").exists():
        return int((directory / "memory.max").read_text())
    files = ("memory.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes")
    return sum(int((directory / file).read_text()) for file in files)


def machine_bytes() -> int:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemTotal"].split()[0]) * 1024


async def test_apps_and_builds_together_leave_the_reserve(sandbox: Sandbox) -> None:
    apps, builds = (limit_bytes(group(sandbox, name)) for name in ("apps", "builds"))
    page = 4096  # the kernel counts whole ones
    assert builds <= apps
    left = machine_bytes() - apps - builds
    assert 1024 * MIB <= left <= 1024 * MIB + 4 * page


async def test_service_is_held_to_its_memory(sandbox: Sandbox) -> None:
    with subprocess.Popen([sys.executable, "-c", GROWING], stdin=subprocess.PIPE) as service:
        groups_of(sandbox).confine("proxy", service.pid, memory_bytes=32 * MIB)
        service.communicate(b"\n")
    assert service.returncode == -signal.SIGKILL


async def test_service_goes_on_when_its_bound_changes(sandbox: Sandbox) -> None:
    with subprocess.Popen([sys.executable, "-c", GROWING], stdin=subprocess.PIPE) as service:
        for memory_bytes in (64 * MIB, 32 * MIB, 256 * MIB):
            groups_of(sandbox).confine("proxy", service.pid, memory_bytes=memory_bytes)
        service.communicate(b"\n")
    assert service.returncode == 0
    assert limit_bytes(group(sandbox, "services/proxy")) == pytest.approx(256 * MIB, abs=16_384)


async def test_share_below_what_apps_use_ends_none_of_them(sandbox: Sandbox) -> None:
    """As when the gateway is started again with a greater reserve."""
    groups = groups_of(sandbox)
    before = limit_bytes(group(sandbox, "apps"))
    limits = Limits(memory_bytes=128 * MIB, cpu_millis=1000, pids=16, disk_bytes=0)
    groups.create("apps/app-held", limits)
    with subprocess.Popen(
        [sys.executable, "-c", f"{GROWING}; print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as app:
        groups.join("apps/app-held", app.pid)
        assert app.stdin is not None
        assert app.stdout is not None
        app.stdin.write(b"\n")
        app.stdin.flush()
        app.stdout.readline()
        with pytest.raises(OSError, match=r"(?i)busy|in use") as refused:
            groups.limit_together("apps", memory_bytes=32 * MIB, pids=1000)
        app.communicate(b"\n")
    groups.remove("apps/app-held")
    assert app.returncode == 0
    assert refused.value.errno == errno.EBUSY
    assert limit_bytes(group(sandbox, "apps")) == before
