"""A machine that can't hold apps is refused, and told what it lacks."""

import subprocess
import sys
from pathlib import Path

import pytest

from support.gateway.gateway_fixture import MOORAGE

pytestmark = pytest.mark.root

OPEN = """
import asyncio, sys
from pathlib import Path
from moorage.errors import IsolationMissing
from support.engines.sandbox_fixture import make_sandbox

runtime = make_sandbox(Path(sys.argv[1]))
try:
    print(asyncio.run(runtime.open()))
except IsolationMissing as refused:
    print("refused:", *refused.missing, sep="\\n")
"""


def open_where(prepare: str, state: Path) -> str:
    """What opening the sandbox says on a machine that was prepared by a script."""
    here = Path(__file__).parents[1]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", prepare + '\nexec "$@"', "sh",
         sys.executable, "-c", OPEN, str(state)],
        env={"PYTHONPATH": str(here), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        check=True, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.stdout


def test_machine_without_control_groups_is_refused_and_told_why(tmp_path: Path) -> None:
    """Limits of each process would not hold an app of many; that much less is not offered."""
    said = open_where("umount --recursive --lazy /sys/fs/cgroup", tmp_path)
    assert said.startswith("refused:\n")
    assert "control groups (memory, cpu, pids) are not mounted" in said
    assert "mount -t cgroup2" in said


def test_gateway_without_root_is_refused_and_told_the_ways_out(tmp_path: Path) -> None:
    said = open_where('set -- unshare --user "$@"', tmp_path)
    assert said.startswith("refused:\nthe gateway does not run as root: start it with sudo")
    assert 'isolation = "kubernetes"' in said


@pytest.mark.parametrize("command", ["check", "dev"])
def test_commands_without_root_say_so_and_end(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--user", MOORAGE, command],
        cwd=tmp_path, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "does not run as root" in done.stdout + done.stderr
    assert "sudo make dev" in done.stdout + done.stderr


def test_machine_whose_control_groups_are_read_only_is_refused(tmp_path: Path) -> None:
    read_only = (
        "for mount in $(findmnt --list --noheadings --output TARGET --types cgroup,cgroup2);"
        ' do mount -o remount,bind,ro "$mount"; done'
    )
    said = open_where(read_only, tmp_path)
    assert said.startswith("refused:\n")
    assert "control groups can't be made" in said
