"""The collector: a small process that reads the pipes of a gateway's builds and apps into logs.

It keeps running when the gateway ends, as apps do. If it ends, the next one continues: pipes keep
unread output as long as the app runs. It imports only little of the standard library.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from weakref import WeakValueDictionary

from moorage.engines.logs.store import CAP_BYTES, ERR, GATEWAY, LINE_BYTES, OUT, append

RATE_BYTES = 1024 * 1024
"""How many bytes a log accepts per second, in the long run, counted as on disk."""

BURST_BYTES = 4 * RATE_BYTES
"""How many bytes it accepts at once, after it got less for a while."""

HELD_BYTES = 64 * 1024
"""How many bytes are kept of the end of excess output, as they often say why an app ended."""

_PREFIX_BYTES = 17  # of a line on disk: time, letter, blanks, line feed
_UTF8_MAX_BYTES = 4
_WHY = "a log takes 1 MiB a second, 4 MiB at once, and no more than the disk has room for"

Entry = tuple[bytes, list[bytes]]
"""The log's letter for the source of some lines, and the lines."""


class Lines:
    """Splits a stream of bytes into lines, at line feeds and after LINE_BYTES."""

    def __init__(self) -> None:
        self.rest = b""  # the start of a line without an end yet
        self._is_begun = False  # whether a piece of the current line was returned already

    def feed(self, chunk: bytes) -> list[bytes]:
        """Adds bytes; returns the lines that are complete now."""
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        if whole and self._is_begun and not whole[0]:
            del whole[0]  # the end of a line whose text was returned already
            self._is_begun = False
        elif whole:
            self._is_begun = False
        if any(len(text) > LINE_BYTES for text in whole):
            whole = [piece for text in whole for piece in _pieces(text)]
        if len(self.rest) > LINE_BYTES:
            *given, self.rest = _pieces(self.rest)
            self._is_begun = True
            whole += given
        return whole

    def flush(self) -> list[bytes]:
        """Returns the rest, which has no end yet, as a line."""
        if not self.rest:
            return []
        rest, self.rest, self._is_begun = self.rest, b"", True
        return [rest]


class Budget:
    """The bytes that one log may accept, a token bucket. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._bytes = float(BURST_BYTES)
        self._at = now

    def left(self, now: float) -> float:
        """Returns the bytes that are left; negative if more were spent than there were."""
        self._bytes = min(BURST_BYTES, self._bytes + (now - self._at) * RATE_BYTES)
        self._at = now
        return self._bytes

    def spend(self, texts: Sequence[bytes]) -> None:
        """Subtracts these lines."""
        self._bytes -= sum(map(len, texts)) + _PREFIX_BYTES * len(texts)


class Intake:
    """One stream. While its log's budget is used up, all output but the end is dropped."""

    def __init__(self, letter: bytes, budget: Budget) -> None:
        self._letter = letter
        self._budget = budget
        self._lines = Lines()
        self._held = b""
        self._left_out_bytes = 0
        self._remarked_bytes = 0  # in the last remark
        self._is_flooded = False

    @property
    def pending(self) -> bool:
        """Whether `flush` would return something."""
        return bool(self._lines.rest or self._held or self._left_out_bytes)

    def take(self, chunk: bytes, now: float) -> list[Entry]:
        """Adds `chunk`; returns what to write to the log now."""
        left = self._budget.left(now)
        if left <= 0:
            self._is_flooded = True
        if not self._is_flooded:
            return self._remark() + self._given(self._lines.feed(chunk))
        self._hold(chunk)
        # Waits for the budget of a second, as otherwise most of the log would be remarks.
        return self._let_in() if left >= RATE_BYTES else []

    def flush(self) -> list[Entry]:
        """Returns what to write at the end of the stream, or when nothing comes for a while."""
        return self._let_in() + self._given(self._lines.flush())

    def lose(self, entries: Sequence[Entry]) -> None:
        """Counts entries that could not be written as left out."""
        for letter, texts in entries:
            if letter == GATEWAY:
                self._left_out_bytes += self._remarked_bytes
            else:
                self._left_out_bytes += sum(len(text) + 1 for text in texts)

    def _hold(self, chunk: bytes) -> None:
        held = self._held + chunk
        self._held = held[-HELD_BYTES:]
        self._left_out_bytes += len(held) - len(self._held)

    def _let_in(self) -> list[Entry]:
        held, self._held, self._is_flooded = self._held, b"", False
        if not self._left_out_bytes:
            return self._given(self._lines.feed(held))
        begun = self._given(self._lines.flush())
        fragment, _, whole = held.partition(b"\n")
        if whole:
            self._left_out_bytes += len(fragment) + 1
            held = whole
        return begun + self._remark() + self._given(self._lines.feed(held))

    def _remark(self) -> list[Entry]:
        """Returns a line that says how many bytes were left out here, if any."""
        if not self._left_out_bytes:
            return []
        self._remarked_bytes, self._left_out_bytes = self._left_out_bytes, 0
        text = f"{self._remarked_bytes} bytes left out: {_WHY}"
        return [(GATEWAY, [text.encode()])]

    def _given(self, texts: list[bytes]) -> list[Entry]:
        self._budget.spend(texts)
        return [(self._letter, texts)] if texts else []


def _pieces(text: bytes) -> list[bytes]:
    """Splits `text` into pieces of at most LINE_BYTES, not within a UTF-8 character."""
    pieces = []
    while len(text) > LINE_BYTES:
        end = LINE_BYTES
        while end > LINE_BYTES - _UTF8_MAX_BYTES and text[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(text[:end])
        text = text[end:]
    return [*pieces, text]


STREAMS = {"out": OUT, "err": ERR}

_PIPE_BYTES = 1024 * 1024  # that an app can write before the collector reads again
# An app may reopen /dev/stdout for writing. It must not be the owner, who could change the mode.
_MODE = 0o602


def pipe_path(pipes: Path, kind: str, stream: str) -> Path:
    """Returns the path of the pipe of one stream of one log."""
    return pipes / f"{kind}.{stream}"


class Pipes:
    """Descriptors for a command's stdout and stderr; a context manager that closes them."""

    def __init__(self, pipes: Path, kind: str) -> None:
        """Opens pipes in the directory `pipes`, making what is missing. Raises OSError."""
        pipes.mkdir(mode=0o700, exist_ok=True)
        with contextlib.ExitStack() as stack:
            self.out, self.err = (_open(pipe_path(pipes, kind, name), stack) for name in STREAMS)
            self._opened = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


def _open(path: Path, stack: contextlib.ExitStack) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, _MODE)
    path.chmod(_MODE)  # whatever the umask
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    with contextlib.suppress(OSError):  # the machine allows less; then apps wait sooner
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return descriptor


_READ_BYTES = 64 * 1024
_TURNS = 16  # how often the ready pipes are read before other ones are sought
_DRAIN_READS = 64
_BREATH_SECONDS = 0.01  # a pause, to write the output of this time together
_REST_SECONDS = 1.0  # after which a line without an end is written as it is
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
        """Reads once; returns False if there was nothing, None if there is no writer any more.

        Raises FileNotFoundError if the log is gone.
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
        """Writes text that waits for the end of its line. Raises FileNotFoundError."""
        self._write(self._intake.flush())

    def flush_if_rested(self, now: float) -> bool:
        """Does the same if nothing came for a while; returns whether text still waits."""
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
            except OSError:  # such as a full disk; the app must not have to wait
                self._intake.lose(entries[place:])
                return


class Collector:
    """Reads all pipes below `deployments`, and answers the gateway at a control socket."""

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
        """Collects until SIGTERM, or until the control socket or the deployments are gone."""
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
        """Returns whether the control socket is still ours, and the deployments exist."""
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
        """Reads a pipe once, and closes it at its end; returns whether there may be more."""
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
        """Does what the gateway asks, then answers."""
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(_REST_SECONDS)
                verb, *words = connection.recv(_REQUEST_BYTES).decode().split()
                if verb in _VERBS and len(words) == 2:
                    _VERBS[verb](self, *words)
                connection.send(b"%d %b" % (os.getpid(), sys.argv[-1].encode()))

    def _watch(self, deployment_id: str, kind: str) -> None:
        """Starts to read a log's pipes, if they have a writer."""
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
            except OSError:  # it is missing, or there is no free descriptor
                continue
            self._close(key)
            self._pipes[key] = pipe
            self._by_descriptor[pipe.descriptor] = key
            self._poll.register(pipe.descriptor, select.EPOLLIN)
            self._read(key)  # closes it if it has no writer, which epoll would not report

    def _drain(self, deployment_id: str, kind: str) -> None:
        """Writes everything in a log's pipes to the log."""
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
            os.close(pipe.descriptor)  # which removes it from epoll


_VERBS = {"watch": Collector._watch, "drain": Collector._drain}


def _listen(path: Path) -> socket.socket:
    """Makes a socket for the gateway's user only, replacing one of an earlier collector."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(64)
    return listener


def _hold(lock: Path) -> bool:
    """Takes the lock until the process ends; returns False if another collector has it."""
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
    """Runs the collector; its arguments are DEPLOYMENTS CONTROL LOCK VERSION."""
    deployments, control, lock, _version = sys.argv[-4:]
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Each app takes two descriptors.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    if _hold(Path(lock)):
        Collector(Path(deployments), Path(control)).run()
