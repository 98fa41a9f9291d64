"""The collector: a small process that reads the pipes of a gateway's builds and apps into logs.

It outlives the gateway, as apps do. Whoever dies of the two, the next one goes on: pipes keep what
nobody read yet, as long as the app lives. Only the standard library is imported, and little of it.
"""

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from weakref import WeakValueDictionary

from moorage.engines.logs.intake import Budget, Entry, Intake
from moorage.engines.logs.pipes import STREAMS, pipe_path
from moorage.engines.logs.store import CAP_BYTES, append

_READ_BYTES = 64 * 1024
_TURNS = 16  # how often each pipe is read before all others get their turn again
_DRAIN_READS = 64
_BREATH_SECONDS = 0.01  # what comes meanwhile is written at once
_REST_SECONDS = 1.0  # a line that gets no end for so long is written as it is
_LOOK_SECONDS = 10.0
_REQUEST_BYTES = 256


class _Pipe:
    """One stream of one log."""

    def __init__(self, path: Path, log: Path, intake: Intake) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.inode = os.fstat(self.descriptor).st_ino
        self._log = log
        self._intake = intake
        self._heard = time.monotonic()

    def read(self) -> bool | None:
        """Take in what came: False when that was nothing, None when nobody can write any more.

        Raises FileNotFoundError when the log is gone.
        """
        try:
            chunk = os.read(self.descriptor, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            return None
        self._heard = time.monotonic()
        self._write(self._intake.take(chunk, self._heard))
        return True

    def flush(self) -> None:
        """Write what waits for its line's end. Raises FileNotFoundError."""
        self._write(self._intake.flush())

    def flush_if_rested(self, now: float) -> bool:
        """The same after a while; whether there is something left to wait for."""
        if self._intake.pending and now - self._heard >= _REST_SECONDS:
            self.flush()
        return self._intake.pending

    def _write(self, entries: list[Entry]) -> None:
        at_ms = time.time_ns() // 1_000_000
        cap = CAP_BYTES[self._log.name]
        for place, (letter, texts) in enumerate(entries):
            try:
                append(self._log, letter, texts, at_ms=at_ms, cap_bytes=cap)
            except FileNotFoundError:
                raise
            except OSError:  # the disk is full, say: the app must not wait for that
                self._intake.lose(entries[place:])
                return


class Collector:
    """All pipes below `deployments`, and the control socket at which the gateway asks."""

    def __init__(self, deployments: Path, control: Path) -> None:
        self._deployments = deployments
        self._control = control
        self._listener = _listen(control)
        self._inode = control.stat().st_ino
        self._waking, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._pipes: dict[tuple[str, str, str], _Pipe] = {}
        self._budgets: WeakValueDictionary[tuple[str, str], Budget] = WeakValueDictionary()
        self._by_descriptor: dict[int, tuple[str, str, str]] = {}
        self._poll = select.epoll()
        self._poll.register(self._listener, select.EPOLLIN)
        self._poll.register(self._waking, select.EPOLLIN)
        self._is_ending = False

    def run(self) -> None:
        """Collect until SIGTERM, or until there is nothing left to collect for."""
        signal.set_wakeup_fd(self._woken)
        signal.signal(signal.SIGTERM, self._end)
        for found in self._deployments.glob("*/pipes/*.out"):
            self._watch(found.parent.parent.name, found.stem)
        timeout = _REST_SECONDS
        while not self._is_ending and self._is_ours():
            events = self._poll.poll(timeout)
            self._round({descriptor for descriptor, _ in events})
            timeout = _REST_SECONDS if self._flush_rested() else _LOOK_SECONDS
        for deployment_id, kind, _ in list(self._pipes):
            self._drain(deployment_id, kind)

    def _end(self, *_: object) -> None:
        self._is_ending = True

    def _is_ours(self) -> bool:
        """Whether the control socket is still this one's, and the deployments' directory there."""
        try:
            return self._control.stat().st_ino == self._inode and self._deployments.is_dir()
        except FileNotFoundError:
            return False

    def _round(self, ready: set[int]) -> None:
        if self._listener.fileno() in ready:
            self._answer()
        pipes = {key for key in map(self._by_descriptor.get, ready) if key is not None}
        for _ in range(_TURNS):
            pipes = {key for key in pipes if self._read(key)}
            if not pipes:
                break
        if any(descriptor in self._by_descriptor for descriptor in ready):
            time.sleep(_BREATH_SECONDS)

    def _read(self, key: tuple[str, str, str]) -> bool:
        """Whether there may be more at once."""
        pipe = self._pipes.get(key)
        if pipe is None:
            return False
        try:
            more = pipe.read()
            if more is None:
                pipe.flush()
        except FileNotFoundError:
            more = None
        if more is None:
            self._close(key)
        return bool(more)

    def _flush_rested(self) -> bool:
        now, waits = time.monotonic(), False
        for key, pipe in list(self._pipes.items()):
            try:
                waits |= pipe.flush_if_rested(now)
            except FileNotFoundError:
                self._close(key)
        return waits

    def _answer(self) -> None:
        """Do what the gateway asks; it waits for the answer."""
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_REST_SECONDS)
                verb, *words = connection.recv(_REQUEST_BYTES).decode().split()
                if verb in _VERBS and len(words) == 2:
                    _VERBS[verb](self, *words)
                connection.send(b"%d %b" % (os.getpid(), sys.argv[-1].encode()))

    def _watch(self, deployment_id: str, kind: str) -> None:
        """Read a log's pipes from now on, where anybody can write to them."""
        directory = self._deployments / deployment_id
        budget = self._budgets.get((deployment_id, kind)) or Budget(time.monotonic())
        self._budgets[deployment_id, kind] = budget
        for stream, letter in STREAMS.items():
            key, path = (deployment_id, kind, stream), pipe_path(directory / "pipes", kind, stream)
            known = self._pipes.get(key)
            try:
                if known is not None and known.inode == path.stat().st_ino:
                    continue
                pipe = _Pipe(path, directory / "logs" / kind, Intake(letter, budget))
            except OSError:  # it is not there, or the machine has no descriptor left
                continue
            self._close(key)
            self._pipes[key] = pipe
            self._by_descriptor[pipe.descriptor] = key
            self._poll.register(pipe.descriptor, select.EPOLLIN)
            self._read(key)  # without a writer it is closed again; epoll would not say so

    def _drain(self, deployment_id: str, kind: str) -> None:
        """Have all that was written so far in the log."""
        for stream in STREAMS:
            key = (deployment_id, kind, stream)
            for _ in range(_DRAIN_READS):
                if not self._read(key):
                    break
            with contextlib.suppress(FileNotFoundError):
                if key in self._pipes:
                    self._pipes[key].flush()

    def _close(self, key: tuple[str, str, str]) -> None:
        pipe = self._pipes.pop(key, None)
        if pipe is not None:
            del self._by_descriptor[pipe.descriptor]
            os.close(pipe.descriptor)  # epoll forgets it with that


_VERBS = {"watch": Collector._watch, "drain": Collector._drain}


def _listen(path: Path) -> socket.socket:
    """A socket for the gateway alone, in place of one that a dead collector left."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def _hold(lock: Path) -> bool:
    """Be the one collector of this directory, by a lock that goes with the process."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d" % os.getpid(), 0)
    return True


def main() -> None:
    """`collector DEPLOYMENTS CONTROL LOCK VERSION`."""
    deployments, control, lock, _version = sys.argv[-4:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each app takes two descriptors
    if _hold(Path(lock)):
        Collector(Path(deployments), Path(control)).run()
