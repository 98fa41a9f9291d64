"""Runs the proxy's process. It is detached, so that the next gateway can take it over."""

import asyncio
import hashlib
import json
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from moorage.errors import ProxyFailed
from moorage.process import (
    ProcessRecord,
    find_running,
    is_running,
    reap,
    spawn_detached,
    terminate,
    wait_until_ended,
    works_in,
)
from moorage.routing.caddy_config import ProxySettings, caddy_config
from moorage.routing.probe import Answer, probe
from moorage.whole_file import replace_file

log = structlog.get_logger()

_START_TIMEOUT_SECONDS = 20.0
_FAILED_PAUSE_SECONDS = 5.0
_PORT_TIMEOUT_SECONDS = 0.5
_STOP_TIMEOUT_SECONDS = 6.0  # the proxy itself waits 3 s for open streams
_POLL_SECONDS = 0.02

_RECORD = "proxy.json"

_HEAP_PERCENT = 70  # of its memory, for Go's heap; sockets take up to 20%, code the rest
_HEAP_GROWTH_PERCENT = 400  # between two collections, while the heap is below that: a small one

Confine = Callable[[int], Awaitable[None]]
"""Limits the machine's resources that the process with this id may use."""

# The environment variables that the proxy gets: none that may hold a secret of the gateway's.
_PASSED_ENVIRONMENT = ("PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


class _Record(msgspec.Struct, frozen=True):
    """The running proxy, stored in `state_dir/proxy.json` for the next gateway."""

    process: ProcessRecord | None
    config_sha256: str
    http_port: int


def port_in_use_by(state_dir: Path) -> int | None:
    """Returns the HTTP port of the proxy that still runs with this `state_dir`; None if none."""
    record = _read_record(state_dir / _RECORD)
    if record is None or record.process is None or not is_running(record.process):
        return None
    return record.http_port


class Caddy:
    """One Caddy process that serves `settings`. It keeps running if the gateway crashes.

    Each gateway needs its own `state_dir`: `start` takes over or stops the process that runs there.
    """

    def __init__(
        self, binary: Path, settings: ProxySettings, *, confine: Confine | None = None
    ) -> None:
        self._binary = binary.absolute()
        self._confine = confine
        self._settings = settings = replace(
            settings,  # absolute paths, as the proxy's working directory is run_dir
            run_dir=settings.run_dir.absolute(),
            state_dir=settings.state_dir.absolute(),
        )
        self._state = settings.state_dir
        self._process: ProcessRecord | None = None
        self._port = settings.http_port

    @property
    def port(self) -> int:
        """Returns the HTTP port; if the settings say 0, it is 0 until `start` has chosen one."""
        return self._port

    def alive(self) -> bool:
        """Returns whether the process that `start` started or took over still runs."""
        if self._process is None:
            return False
        running = is_running(self._process)
        if not running:
            reap(self._process.pid)
            self._process = None
        return running

    async def start(self) -> int:
        """Starts the proxy unless it runs; returns the HTTP port once it answers.

        Takes over a proxy of an earlier gateway if it has the same configuration; otherwise stops
        it first. Raises ProxyFailed, with the proxy's last line of output.
        """
        if self.alive():
            return self._port
        if not os.access(self._binary, os.X_OK):
            raise ProxyFailed(f"{self._binary} does not start: no such program.")
        for directory in (self._settings.run_dir, self._state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = _read_record(self._record_path)
        if record is not None and await self._adopt(record):
            return self._port
        await self._end_all()
        self._port = await self._choose_port(record)
        await self._bound(self._spawn())
        await self._wait_until_it_answers()
        return self._port

    async def keep_running(self) -> None:
        """Restarts the proxy whenever it ends, until cancelled."""
        while True:
            try:
                await self.start()
            except (ProxyFailed, OSError) as failure:  # OSError: such as a full disk
                log.warning("the proxy does not start", error=str(failure))
                await asyncio.sleep(_FAILED_PAUSE_SECONDS)
                continue
            if self._process is not None:
                await wait_until_ended(self._process)
            log.warning("the proxy has ended and is started again")

    async def stop(self) -> None:
        """Ends the process, if one runs: SIGTERM, then SIGKILL after a few seconds.

        Certificates, logs and the chosen port stay in `state_dir`.
        """
        await self._end_all()
        self._process = None
        record = _read_record(self._record_path)
        if record is not None:
            self._write_record(msgspec.structs.replace(record, process=None))

    async def _end_all(self) -> None:
        """Ends every process with our command, also one that a crash left unrecorded."""
        for process in find_running(self._command()):
            await terminate(process, grace_seconds=_STOP_TIMEOUT_SECONDS)

    async def _adopt(self, record: _Record) -> bool:
        """Takes over the recorded process if its configuration is ours; returns whether it did."""
        process = record.process
        if process is None or not is_running(process):
            return False
        if self._settings.http_port not in {0, record.http_port}:
            return False
        fits = record.config_sha256 == self._config_digest(record.http_port)
        if not fits or not works_in(process, self._settings.run_dir):
            return False
        if not await self._answers(record.http_port):
            return False
        self._process, self._port = process, record.http_port
        await self._bound(process)
        return True

    async def _bound(self, process: ProcessRecord) -> None:
        if self._confine is not None:
            await self._confine(process.pid)

    async def _choose_port(self, record: _Record | None) -> int:
        wanted = self._settings.http_port
        if self._settings.tls is not None:
            await self._require_free(self._settings.tls.https_port)
        if wanted != 0:
            await self._require_free(wanted)
            return wanted
        if record is not None and await self._becomes_free(record.http_port):
            return record.http_port
        port = self._free_port(0)
        if port is None:
            raise ProxyFailed("No free port is left for the proxy on this machine.")
        return port

    async def _require_free(self, port: int) -> None:
        if not await self._becomes_free(port):
            raise ProxyFailed(
                f"The proxy's port {port} is taken or may not be bound. "
                f"Free it, or choose another with --proxy-port (0: any free one)."
            )

    async def _becomes_free(self, port: int) -> bool:
        """Returns whether `port` can be bound. Waits a little: a killed proxy frees it late."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PORT_TIMEOUT_SECONDS
        while self._free_port(port) is None:
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _free_port(self, port: int) -> int | None:
        """Returns `port` (0: any free one) if it can be bound now, otherwise None.

        Caddy itself would share a taken port (SO_REUSEPORT).
        """
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probing:
            probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probing.bind((self._settings.listen_address, port))
                probing.listen(1)
            except OSError:
                return None
            return int(probing.getsockname()[1])

    def _spawn(self) -> ProcessRecord:
        config = caddy_config(replace(self._settings, http_port=self._port))
        content = json.dumps(config, indent=1).encode()
        if not self._config_path.exists() or self._config_path.read_bytes() != content:
            replace_file(self._config_path, content)  # only if changed: the disk may be full
        try:
            self._process = process = spawn_detached(
                self._command(),
                directory=self._settings.run_dir,
                environment=_environment(self._settings),
                output=self._output_path,
            )
        except OSError as error:
            raise ProxyFailed(f"{self._binary} does not start: {error.strerror}.") from error
        digest = self._config_digest(self._port)
        self._write_record(_Record(process=process, config_sha256=digest, http_port=self._port))
        return process

    async def _wait_until_it_answers(self) -> None:
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_SECONDS
        while not await self._answers(self._port):
            ended = not self.alive()
            if ended or asyncio.get_running_loop().time() > deadline:
                await self.stop()
                problem = "ended at once" if ended else "does not answer"
                raise ProxyFailed(f"The proxy {problem}. {self._last_words()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _answers(self, port: int) -> bool:
        """Returns whether the proxy answers at all, asked for a host that no app can have."""
        address = self._settings.listen_address
        if address in {"", "0.0.0.0"}:  # noqa: S104 (compared, not bound)
            address = "127.0.0.1"
        seen = await probe(port, "localhost", address=address, timeout_seconds=2)
        return seen.answer is not Answer.UNREACHABLE

    def _last_words(self) -> str:
        said = self._output_path.read_text(errors="replace").strip().splitlines()
        return f"It said: {said[-1][:500]}" if said else f"See {self._state / 'caddy.log'}."

    def _command(self) -> tuple[str, ...]:
        return (str(self._binary), "run", "--config", str(self._config_path))

    def _config_digest(self, port: int) -> str:
        """Returns a digest of the configuration, the memory limit and the program."""
        program = self._binary.stat()
        config = caddy_config(replace(self._settings, http_port=port))
        memory_bytes = self._settings.memory_bytes
        identity = [config, memory_bytes, program.st_size, program.st_mtime_ns]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def _config_path(self) -> Path:
        return self._state / "caddy.json"

    @property
    def _output_path(self) -> Path:
        """The file with standard output and error of the current process."""
        return self._state / "caddy.out"

    @property
    def _record_path(self) -> Path:
        return self._state / _RECORD

    def _write_record(self, record: _Record) -> None:
        replace_file(self._record_path, msgspec.json.encode(record))


def _read_record(path: Path) -> _Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def _environment(settings: ProxySettings) -> dict[str, str]:
    """Returns Caddy's environment, in which all its directories are below `state_dir`."""
    state_dir = settings.state_dir
    environment = {name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ}
    if settings.memory_bytes is not None:
        environment["GOMEMLIMIT"] = str(settings.memory_bytes * _HEAP_PERCENT // 100)
        environment["GOGC"] = str(_HEAP_GROWTH_PERCENT)
    return environment | {
        "HOME": str(state_dir),
        "XDG_DATA_HOME": str(state_dir / "data"),
        "XDG_CONFIG_HOME": str(state_dir / "config"),
    }
