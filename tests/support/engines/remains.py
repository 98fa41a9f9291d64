"""What a sandbox leaves on a machine: found by looking everywhere, not by asking it."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
NETWORKS = Path("/run/netns")
_EXITING = 0x4  # PF_EXITING of <linux/sched.h>: it will do nothing more, and cannot be stopped


def processes_of(uid: int) -> set[int]:
    """Live processes that run as `uid`, however they are called and whoever started them."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if directory.stat().st_uid == uid and _is_alive(directory):
                found.add(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def processes_saying(text: str) -> set[int]:
    """Live processes whose command line holds a text."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (directory / "cmdline").read_bytes():
                found.add(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found - {os.getpid()}


def everything(*, directories: tuple[Path, ...], instance_id: str) -> dict[str, set[str]]:
    """All that belongs to a sandbox: by its directories, and by its id in names."""
    return {
        "files": {str(p) for d in directories for p in _below(d)},
        "mounts": set(_mounts(directories)),
        "loop devices": set(_loops(directories)),
        "networks": _of(instance_id, NETWORKS.glob("*")),
        "cgroups": _of(instance_id, _directories(CGROUPS)),
        "processes": {str(pid) for pid in _in_cgroups(instance_id)},
    }


def of_gateway(data_dir: Path, instance_id: str) -> dict[str, set[str]]:
    """What a gateway has on the machine besides its own records.

    The caches of wallets' builds outlive what was built, and are collected by their age and size;
    a template of each size of disk is kept as well. Programs that serve all apps, such as the
    proxy, run as long as the gateway does.
    """
    kept = [data_dir / name for name in ("sources", "spool", "apps")]
    run_dir = Path("/run/moorage") / instance_id
    found = everything(directories=(*kept, run_dir), instance_id=instance_id)
    kept_on = tuple(str(data_dir / "apps" / name) for name in ("caches", "templates"))
    return found | {
        "files": {path for path in found["files"] if not path.startswith(kept_on)},
        # By place: their numbers change with each start.
        "mounts": {line.split()[4] for line in found["mounts"]},
        "processes": {pid for pid in found["processes"] if not _serves_all(pid)},
    }


def _below(directory: Path) -> Iterator[Path]:
    for place, names, files in os.walk(directory):
        # What lies on an app's own disk goes with the disk.
        names[:] = [n for n in names if not os.path.ismount(Path(place, n))]
        yield from (Path(place, name) for name in (*names, *files))


def _mounts(directories: tuple[Path, ...]) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if any(str(directory) in line for directory in directories):
            yield line


def _loops(directories: tuple[Path, ...]) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = path.read_text().strip()
        except OSError:
            continue
        if any(str(directory) in backing for directory in directories):
            yield backing


def _directories(root: Path) -> Iterator[Path]:
    for place, names, _ in os.walk(root):
        yield from (Path(place, name) for name in names)


def _of(instance_id: str, paths: Iterator[Path]) -> set[str]:
    return {str(path) for path in paths if _names(instance_id, str(path))}


def _names(instance_id: str, text: str) -> bool:
    """Whether a gateway's groups or networks are named: the digits alone are in others' ids too."""
    return re.search(rf"/(moorage-|mo){instance_id}(?![0-9a-f])", text) is not None


def _in_cgroups(instance_id: str) -> set[int]:
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            groups = (directory / "cgroup").read_text()
            if _names(instance_id, groups) and _is_alive(directory):
                found.add(int(directory.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def processes_in(instance_id: str, group: str) -> set[int]:
    """Live processes in a sandbox's control group of that name."""
    return {pid for pid in _in_cgroups(instance_id) if f"/{group}" in _groups_of(pid)}


def _groups_of(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cgroup").read_text()
    return ""


def _serves_all(pid: str) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "/services/" in Path(f"/proc/{pid}/cgroup").read_text()
    return False


def _is_alive(directory: Path) -> bool:
    """Of a process's directory: neither dead nor about to be. Its group may be empty by then."""
    state, *numbers = (directory / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return state not in {"Z", "X"} and not int(numbers[5]) & _EXITING
