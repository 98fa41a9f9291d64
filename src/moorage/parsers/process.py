"""One parser process, from the gateway's side."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence

import msgspec

from moorage.parsers.job import (
    HEADER_BYTES,
    MAX_ANSWER_BYTES,
    Answer,
    CurrentFile,
    Ready,
    shared_memory,
)
from moorage.threads import in_thread

_START_SECONDS = 60.0  # after which a start counts as hung
_PIECE = 256 * 1024
_MAX_OUTPUT_BYTES = 2_000  # of the standard error of a process that did not start
_OF_TIME = (signal.SIGPROF, signal.SIGXCPU)

# A new environment, so that it has nothing of the gateway's.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}

_MESSAGES: msgspec.msgpack.Decoder[Answer | Ready] = msgspec.msgpack.Decoder(Answer | Ready)


class ParserEnded(Exception):
    """The process ended instead of answering; `path` is the file that it read last, if known.

    `reason` is `time` when the job used up its processor time, `late` when it lasted too long,
    otherwise the signal's name or the exit status.
    """

    def __init__(self, reason: str, path: str | None) -> None:
        super().__init__(f"ended ({reason}) at {path!r}")
        self.reason = reason
        self.path = path


class ParserProcess:
    """A process that does one job after the other; `start` makes it, `close` ends it."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        channel: socket.socket,
        current_file: CurrentFile,
        on_end: Callable[["ParserProcess"], None],
    ) -> None:
        self.pid = process.pid
        self.jobs = 0
        self.cpu_seconds = 0.0
        self.toolbox: object = None  # the last one that was sent to it
        self._process = process
        self._channel = channel
        self._current_file = current_file
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._waiting: asyncio.Future[bytes] | None = None
        self._has_ended = False
        self._is_over = False  # whether the process has closed its socket
        self._loop.add_reader(channel, self._on_readable)

    @classmethod
    async def start(
        cls, *, max_memory_bytes: int, on_end: Callable[["ParserProcess"], None]
    ) -> "ParserProcess":
        """Starts a process and waits until it is ready; calls `on_end` if it ends without a job.

        Raises OSError or ParserEnded when it can't be started.
        """
        ours, theirs = socket.socketpair()
        memory = shared_memory()
        try:
            ours.setblocking(False)
            process = subprocess.Popen(  # noqa: ASYNC220 (returns once the program is loaded)
                _command(theirs.fileno(), memory, max_memory_bytes),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(), memory),
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
            started = cls(process, ours, CurrentFile(memory), on_end)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(memory)
        try:
            await started._answer(_START_SECONDS)
        except BaseException:
            await started.close()
            raise
        return started

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    async def ask(self, job: bytes, descriptors: Sequence[int], *, wall_seconds: float) -> Answer:
        """Does a job and returns its answer. Raises ParserEnded; then `close` the process."""
        self.jobs += 1
        message = len(job).to_bytes(HEADER_BYTES, "big") + job
        try:
            sent = socket.send_fds(self._channel, [message], descriptors)  # idle, so there is room
            if sent < len(message):
                await self._loop.sock_sendall(self._channel, memoryview(message)[sent:])
            answer = await self._answer(wall_seconds)
        except OSError as error:
            raise await self._end() from error
        if not isinstance(answer, Answer):
            raise await self._end()
        self.cpu_seconds += answer.cpu_seconds
        return answer

    async def close(self) -> None:
        """Ends the process, even at work. Closing again does nothing."""
        if self._process.returncode is None:
            self._process.kill()
        if not self._has_ended:
            self._has_ended = True
            self._loop.remove_reader(self._channel)
            self._channel.close()
            self._current_file.close()
            if self._process.stderr is not None:
                self._process.stderr.close()
            await in_thread(self._process.wait)

    async def _answer(self, wall_seconds: float) -> Answer | Ready:
        """Returns the next message. Raises ParserEnded, also after `wall_seconds` without one."""
        self._waiting = self._loop.create_future()
        if self._is_over:  # it ended while the job was being sent
            self._give(EOFError())
        is_late = False
        timer = self._loop.call_later(wall_seconds, self._give, TimeoutError())
        try:
            return _MESSAGES.decode(await self._waiting)
        except TimeoutError:
            is_late = True
        except (EOFError, msgspec.MsgspecError):
            pass
        finally:
            timer.cancel()
            self._waiting = None
        raise await self._end(is_late=is_late)

    async def _end(self, *, is_late: bool = False) -> ParserEnded:
        """Ends the process, and returns how it ended."""
        path = self._current_file.read()
        self._process.kill()  # does nothing if it has ended by itself
        status = await in_thread(self._process.wait)
        if -status in _OF_TIME:
            reason = "time"
        elif is_late or -status == signal.SIGALRM:
            reason = "late"
        else:
            reason = signal.Signals(-status).name if status < 0 else self._failure(status)
        return ParserEnded(reason, path)

    def _failure(self, status: int) -> str:
        """Returns the ended process's status, and the end of what it wrote to standard error."""
        output = self._process.stderr.read() if self._process.stderr is not None else b""
        return f"status {status}: {output[-_MAX_OUTPUT_BYTES:].decode(errors='replace')}"

    def _on_readable(self) -> None:
        try:
            piece = self._channel.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._loop.remove_reader(self._channel)
            self._is_over = True
            if self._waiting is None:
                self._on_end(self)
            self._give(EOFError())
            return
        self._buffer += piece
        if len(self._buffer) < HEADER_BYTES:
            return
        length = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if length > MAX_ANSWER_BYTES or len(self._buffer) > HEADER_BYTES + length:
            self._give(EOFError())  # no message of ours
        elif len(self._buffer) == HEADER_BYTES + length:
            message = bytes(self._buffer[HEADER_BYTES:])
            self._buffer.clear()
            self._give(message)

    def _give(self, what: bytes | EOFError | TimeoutError) -> None:
        if self._waiting is None or self._waiting.done():
            return
        if isinstance(what, bytes):
            self._waiting.set_result(what)
        else:
            self._waiting.set_exception(what)


def _command(*arguments: int) -> list[str]:
    worker = "moorage.parsers.worker"
    return [sys.executable, "-I", "-m", worker, *map(str, arguments)]
