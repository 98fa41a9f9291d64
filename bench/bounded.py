"""A bounded share of a core for one process, by a control group of version 2 or 1.

Two processes that are bounded so much that neither the machine, nor the load generator, nor a
server that both use is busy show what two machines would do.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moorage.engines.host.cgroup import Hierarchy, find_hierarchy

PERIOD_US = 20_000
"""Short, so that who has a lock of the database keeps it little longer than it would unbounded."""


def hierarchy() -> Hierarchy | None:
    """Where groups that bound processor time can be made; None without root, or where none can."""
    if os.geteuid() != 0:
        return None
    found = find_hierarchy(
        Path("/proc/self/mountinfo").read_text(),
        lambda point: (point / "cgroup.controllers").read_text(),
    )
    if found is None:
        return None
    try:
        with bounded(os.getpid(), 1_000, found):
            return found
    except OSError:
        return None


@contextmanager
def bounded(pid: int, cpu_millis: int, found: Hierarchy) -> Iterator[None]:
    """Gives a process at most `cpu_millis` thousandths of a core; afterwards it has its old group.

    Its children stay where they are. Raises OSError.
    """
    root = found.mounts["cpu"]
    if found.version == 2:
        (root / "cgroup.subtree_control").write_text("+cpu")
    former = _group(pid, found)
    group = root / f"moorage-bench-{pid}"
    group.mkdir()
    try:
        for file, text in _writes(found.version, cpu_millis):
            (group / file).write_text(text)
        realtime = group / "cpu.rt_runtime_us"
        if realtime.exists():  # else the thread that watches disks keeps the process out
            realtime.write_text(str(PERIOD_US))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        if Path(f"/proc/{pid}").exists():
            (former / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def _group(pid: int, found: Hierarchy) -> Path:
    """The directory of a process's group."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(",") or (found.version == 2 and not controllers):
            return found.mounts["cpu"] / path.lstrip("/")
    raise FileNotFoundError(f"process {pid} has no group")


def _writes(version: int, cpu_millis: int) -> list[tuple[str, str]]:
    quota_us = cpu_millis * PERIOD_US // 1_000
    if version == 2:
        return [("cpu.max", f"{quota_us} {PERIOD_US}")]
    return [("cpu.cfs_period_us", str(PERIOD_US)), ("cpu.cfs_quota_us", str(quota_us))]
