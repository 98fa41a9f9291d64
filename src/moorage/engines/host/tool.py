"""Runs the machine's own programs, such as `ip`, `nft`, `mkfs.ext4`."""

import os
import subprocess
from collections.abc import Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C"}
_TIMEOUT_SECONDS = 60


class ToolFailed(OSError):
    """A program of the machine failed; `argv` and `output` say which and why."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"`{' '.join(argv)}` failed with exit code {code}: {output.strip()}")
        self.argv = tuple(argv)
        self.output = output


def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    accept: tuple[int, ...] = (0,),
    pass_fds: Sequence[int] = (),
) -> str:
    """Returns what `argv` prints on stdout; blocks. Raises ToolFailed, FileNotFoundError."""
    done = _run(argv, stdin, pass_fds)
    if done.returncode not in accept:
        raise ToolFailed(argv, done.returncode, done.stderr or done.stdout)
    return done.stdout


def run_leniently(argv: Sequence[str], *, stdin: str = "") -> str:
    """Returns what `argv` prints on stderr, and ignores its exit code; blocks."""
    return _run(argv, stdin).stderr


def detach(
    argv: Sequence[str], *, stdin: int, stdout: int, stderr: int, pass_fds: Sequence[int] = ()
) -> None:
    """Runs a launcher, which starts a detached process, with these descriptors.

    Returns when the launcher has ended. Raises ToolFailed.
    """
    done = subprocess.run(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        check=False,
        env=ENVIRONMENT,
        cwd="/",
        timeout=_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        raise ToolFailed(argv, done.returncode, "")


def _run(
    argv: Sequence[str], stdin: str, pass_fds: Sequence[int] = ()
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv,
        pass_fds=pass_fds,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
        cwd="/",
        timeout=_TIMEOUT_SECONDS,
    )


def found(name: str) -> bool:
    """Returns whether a program is installed in the machine's own directories."""
    return any(os.access(f"{directory}/{name}", os.X_OK) for directory in PATH.split(":"))
