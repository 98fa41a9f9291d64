"""The gateway's client of the log collector: starts or takes over the process, and asks it."""

import asyncio
import fcntl
import hashlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from moorage.engines.logs import collector, store
from moorage.process import (
    process_handle,
    process_record,
    reap,
    spawn_detached,
    wait_until_ended,
)
from moorage.threads import in_thread

logger = logging.getLogger(__name__)

_START_SECONDS = 10.0
_ANSWER_SECONDS = 5.0
_END_SECONDS = 3.0
_AGAIN_SECONDS = 2.0
_BREATH_SECONDS = 0.1
_POLL_SECONDS = 0.005
_BEGIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from moorage.engines.logs.collector import main; main()"
)
_SOURCES = (collector, store)


class CollectorFailed(OSError):
    """The process that collects the apps' output does not start, or does not answer."""


class Collecting:
    """One collector for the deployments of one gateway. Methods block, except `keep`."""

    def __init__(self, *, deployments: Path, state_dir: Path, run_dir: Path) -> None:
        self._deployments = deployments
        self._control = run_dir / "collector"
        self._lock = state_dir / "collector.lock"
        self._output = state_dir / "collector.out"
        self._starting = threading.Lock()

    def watch(self, deployment_id: str, kind: str) -> None:
        """Makes the collector read a log's pipes, which must be open."""
        self._ask("watch", deployment_id, kind)

    def drain(self, deployment_id: str, kind: str) -> None:
        """Waits until everything written so far is in the log."""
        self._ask("drain", deployment_id, kind)

    def ensure(self) -> int:
        """Starts a collector of this version unless one answers; returns its process id.

        Raises CollectorFailed.
        """
        with self._starting:
            pid, version = self._running()
            if pid is not None and version == _version():
                return pid
            self._end()
            self._start()
            return self._wait_until_it_answers()

    async def keep(self) -> None:
        """Restarts the collector whenever it ends, until cancelled."""
        while True:
            try:
                await _ended(await in_thread(self.ensure))
                logger.warning("the collector of logs has ended and is started again")
                await asyncio.sleep(_BREATH_SECONDS)  # in case each one ends at once
            except CollectorFailed as error:
                logger.warning("%s", error)
                await asyncio.sleep(_AGAIN_SECONDS)

    def end(self) -> None:
        """Ends the collector and removes its files."""
        with self._starting:
            self._end()
            for path in (self._control, self._lock, self._output):
                path.unlink(missing_ok=True)

    def _ask(self, *words: str) -> None:
        """Sends a request; if the collector is gone, starts a new one and repeats it.

        Logs a failure and continues, as the next collector finds all pipes by itself.
        """
        request = " ".join(words)
        if self._exchange(request) is not None:
            return
        try:
            self.ensure()
        except CollectorFailed as error:
            logger.warning("%s; was to %s", error, request)
        else:
            self._exchange(request)

    def _exchange(self, request: str) -> str | None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
            asking.settimeout(_ANSWER_SECONDS)
            try:
                asking.connect(str(self._control))
                asking.send(request.encode())
                return asking.recv(256).decode() or None
            except OSError:
                return None

    def _running(self) -> tuple[int | None, str]:
        """Returns process id and version of the collector that answers, if any."""
        pid, _, version = (self._exchange("which") or "").partition(" ")
        return (int(pid), version) if pid else (None, "")

    def _start(self) -> None:
        source = Path(store.__file__).parents[3]
        arguments = (source, self._deployments, self._control, self._lock, _version())
        spawn_detached(
            (sys.executable, "-I", "-S", "-c", _BEGIN, *map(str, arguments)),
            directory=Path("/"),
            environment={"LC_ALL": "C.UTF-8"},
            output=self._output,
        )

    def _wait_until_it_answers(self) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            pid, _ = self._running()
            if pid is not None:
                return pid
            time.sleep(_POLL_SECONDS)
        output = self._output.read_text(errors="replace").strip()[-500:]
        raise CollectorFailed(f"the collector of the apps' output does not start: {output}")

    def _end(self) -> None:
        """Ends the collector that holds the lock, if any."""
        pid = self._holder()
        if pid is None:
            return
        with process_handle(pid) as handle:
            # Checked with the handle open, so that the id can't be reused.
            if handle is None or self._holder() != pid:
                return
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if not select.select([handle], [], [], _END_SECONDS)[0]:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], _END_SECONDS)
        reap(pid)

    def _holder(self) -> int | None:
        """Returns the id of the process that holds the lock; None if none does."""
        try:
            lock = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.pread(lock, 32, 0) or b"0") or None
        else:
            return None
        finally:
            os.close(lock)


def _version() -> str:
    """Returns a digest of the collector's program; a collector with another one is replaced."""
    digest = hashlib.blake2b(digest_size=8)
    for module in _SOURCES:
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


async def _ended(pid: int) -> None:
    """Waits until the process is gone."""
    record = process_record(pid)
    if record is not None:
        await wait_until_ended(record)
    reap(pid)
