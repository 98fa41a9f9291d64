"""Programs of the machine: run, asked to end, and watched until they end."""

import asyncio
import ctypes
import logging
import os
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_WRAPPERS = frozenset({"sh", "bash", "dash", "bwrap", "docker-init", "tini"})


def ask_to_end(pids: list[int]) -> None:
    """Sends SIGTERM to an app's processes, but to shells only if there is nothing else.

    A shell would end at once, and its program be killed with it.
    """
    for pid in _targets(pids):
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue


def _targets(pids: list[int]) -> list[int]:
    names = {}
    for pid in pids:
        try:
            # An app may name its processes with any bytes, which the kernel cuts anywhere.
            names[pid] = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid, name in names.items() if name not in _WRAPPERS] or list(names)


_IN_CLOSE_WRITE, _IN_IGNORED = 0x8, 0x8000
_EVENT = struct.Struct("=iIII")  # struct inotify_event: watch, mask, cookie, length of a name
_READ_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)

logger = logging.getLogger(__name__)


class ExitWatcher:
    """Watches status files of apps.

    Calls `ended` in the event loop when one was written, which may be before the app's end.
    """

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._watched: dict[int, str] = {}
        self._awaited: set[str] = set()
        self._descriptor: int | None = None

    def open(self) -> None:
        """Starts watching. Raises OSError."""
        self._descriptor = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def close(self) -> None:
        """Stops watching."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None
        self._watched.clear()
        self._awaited.clear()

    def watch(self, deployment_id: str, status_file: Path) -> None:
        """Watches a deployment's app until the file is removed.

        Logs a warning if the kernel refuses, as it limits the number of watches. Other checks will
        find the exit later.
        """
        if self._descriptor is None:
            return
        mask = ctypes.c_uint32(_IN_CLOSE_WRITE)
        try:
            path = os.fsencode(status_file)
            watch = _checked(_libc.inotify_add_watch(self._descriptor, path, mask))
        except OSError as error:
            logger.warning("the end of %s won't be reported: %s", deployment_id, error)
        else:
            self._watched[watch] = deployment_id
            self._awaited.add(deployment_id)

    def awaits(self, deployment_id: str) -> bool:
        """Returns whether the kernel has yet to report the end of an app's command.

        From then on, or where it is not watched, others must check whether the app still runs.
        """
        return deployment_id in self._awaited

    def _read(self) -> None:
        if self._descriptor is None:
            return
        for watch, mask in _events(os.read(self._descriptor, _READ_BYTES)):
            deployment_id = self._watched.get(watch, "")
            self._awaited.discard(deployment_id)
            if mask & _IN_IGNORED:  # the file is gone
                self._watched.pop(watch, None)
            elif deployment_id:
                self._ended(deployment_id)


def _events(read: bytes) -> Iterator[tuple[int, int]]:
    """Returns watch and mask of each event."""
    offset = 0
    while offset < len(read):
        watch, mask, _, length = _EVENT.unpack_from(read, offset)
        yield watch, mask
        offset += _EVENT.size + length


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


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
