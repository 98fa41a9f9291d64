"""Removes what a cluster leaves on this machine, once its input ends: also if the tests are killed.

`python reaper.py NAME HOST DIRECTORY`: the name of its groups and rules, its address, its files.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
BOUND_SECONDS = 30


def end_groups(name: str) -> None:
    """Kills all processes of the groups with this name, and removes the groups."""
    tops = [*GROUPS.glob(name), *GROUPS.glob(f"*/{name}")]
    deadline = time.monotonic() + BOUND_SECONDS
    while any(top.exists() for top in tops) and time.monotonic() < deadline:
        for top in tops:
            for directory, _, _ in os.walk(top, topdown=False):
                _end(Path(directory))
        time.sleep(0.01)


def _end(group: Path) -> None:
    try:
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        group.rmdir()
    except OSError:
        pass  # it has gone, or its processes are about to


def unmount(directory: Path) -> None:
    """Unmounts what is mounted below a directory, the newest first."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in reversed(mounted):
        if Path(path).is_relative_to(directory):
            subprocess.run(["umount", "--lazy", path], check=False)


def main(name: str, host: str, directory: Path) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    end_groups(name)
    unmount(directory)
    subprocess.run(["nft", "delete", "table", "ip", name], check=False)
    subprocess.run(["ip", "address", "delete", f"{host}/32", "dev", "lo"], check=False)
    subnet = f"{host.rpartition('.')[0]}.0/24"
    subprocess.run(["ip", "route", "delete", "unreachable", subnet], check=False)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
