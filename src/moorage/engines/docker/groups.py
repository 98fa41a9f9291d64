"""The control group that holds all containers of apps, and where to find one container's."""

from pathlib import Path

from moorage.engines.engine import Usage
from moorage.engines.host import tool
from moorage.engines.host.kernel.cgroup import APPS, BUILDS, Cgroups
from moorage.engines.host.kernel.memory import Shares


def parent(instance_id: str, shared: str, *, systemd: bool) -> str:
    """Returns the value of `CgroupParent` for the containers of apps, or of builds.

    systemd wants the name of a slice, whose dashes say what it lies in (systemd.slice(5)).
    """
    separator = "-" if systemd else "/"
    path = separator.join((f"moorage-{instance_id}", shared))
    return f"{path}.slice" if systemd else f"/{path}"


def slice_limits(instance_id: str, shared: str, memory_bytes: int) -> list[str]:
    """Returns the command that limits a slice until the machine restarts."""
    name = parent(instance_id, shared, systemd=True)
    return [
        "systemctl", "set-property", "--runtime", name,
        f"MemoryMax={memory_bytes}", "MemorySwapMax=0", "TasksMax=75%",
    ]  # fmt: skip


def limit_slices(instance_id: str, shares: Shares) -> None:
    """Limits the memory of all apps together, and of all builds. Raises OSError."""
    for shared, memory_bytes in ((APPS, shares.apps_bytes), (BUILDS, shares.builds_bytes)):
        tool.run(slice_limits(instance_id, shared, memory_bytes))


def group_of(process_cgroups: str) -> str | None:
    """Returns a process's group, without a leading slash, by its `/proc/<pid>/cgroup`."""
    for line in process_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") or (not controllers and path != "/"):
            return path.lstrip("/")
    return None


def pids_beside(groups: Cgroups, pid: int) -> list[int]:
    """Returns all processes of the container with this first process."""
    found = _group(pid)
    return [] if found is None else Cgroups(groups.hierarchy, "").pids(found)


def usage_of(groups: Cgroups, pid: int) -> Usage | None:
    """Returns what the container with this first process has used; None if it is gone."""
    found = _group(pid)
    return None if found is None else Cgroups(groups.hierarchy, "").usage(found)


def _group(pid: int) -> str | None:
    try:
        return group_of(Path(f"/proc/{pid}/cgroup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
