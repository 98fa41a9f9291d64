"""Runs the proxy's process. It is detached, so that the next gateway can take it over.

A proxy with another configuration takes the listening sockets from the one that runs, which serves
its open connections to their end: no visitor is refused, no WebSocket ends.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import resource
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
from moorage.routing.access_log import open_log
from moorage.routing.admin import ask
from moorage.routing.haproxy_config import (
    ADMIN_SOCKET,
    CERTIFICATES,
    CERTIFIED,
    ProxySettings,
    answers,
    haproxy_config,
)
from moorage.routing.probe import Answer, probe
from moorage.routing.router import Router
from moorage.whole_file import replace_file

_LIST = "list"
_SUFFIX = ".pem"


class Certificates:
    """The certificates of one proxy. A name is a host, or `*.` and a domain."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._directory = run_dir / CERTIFICATES

    def installed(self) -> dict[str, str]:
        """Returns the SHA-256, in hex, of each name's PEM."""
        return {
            name: hashlib.sha256((self._directory / _file(name)).read_bytes()).hexdigest()
            for name in self._names()
        }

    async def install(self, name: str, pem: bytes) -> None:
        """Has visitors of `name` get this certificate, from the next connection on.

        `pem` is the chain, its own certificate first, and the key. Raises ProxyFailed.
        """
        path, file = f"{CERTIFICATES}/{_file(name)}", self._directory / _file(name)
        is_new = not file.exists()
        text = "\n".join(line for line in pem.decode("ascii").splitlines() if line.strip())
        if is_new:
            await ask(self._run_dir, f"new ssl cert {path}")
        answer = await ask(self._run_dir, f"set ssl cert {path} <<\n{text}\n")
        if answer is not None:
            answer += await ask(self._run_dir, f"commit ssl cert {path}") or ""
            if "Success" not in answer:
                raise ProxyFailed(f"The proxy does not take the certificate of {name}: {answer}")
        self._directory.mkdir(mode=0o700, exist_ok=True)
        replace_file(file, pem)
        if is_new:
            await ask(self._run_dir, f"add ssl crt-list {CERTIFICATES}/{_LIST} {path}")
            await ask(self._run_dir, f"add map {CERTIFIED} {name} 1")

    async def remove(self, name: str) -> None:
        """Has visitors of `name` served over plain HTTP. Raises ProxyFailed."""
        path = f"{CERTIFICATES}/{_file(name)}"
        (self._directory / _file(name)).unlink(missing_ok=True)
        await ask(self._run_dir, f"del map {CERTIFIED} {name}")
        await ask(self._run_dir, f"del ssl crt-list {CERTIFICATES}/{_LIST} {path}")
        await ask(self._run_dir, f"del ssl cert {path}")

    def write_lists(self) -> None:
        """Writes what a proxy reads when it starts."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        names = self._names()
        files = [f"{CERTIFICATES}/{_file(name)}\n" for name in names]
        (self._directory / _LIST).write_text("".join(files))
        (self._run_dir / CERTIFIED).write_text("".join(f"{name} 1\n" for name in names))

    def _names(self) -> list[str]:
        try:
            files = os.listdir(self._directory)  # noqa: PTH208 (as in `router`)
        except FileNotFoundError:
            return []
        return [
            file.removesuffix(_SUFFIX).replace("_", "*")
            for file in files
            if file.endswith(_SUFFIX) and not file.startswith(".")
        ]


def _file(name: str) -> str:
    return name.replace("*", "_") + _SUFFIX


log = structlog.get_logger()

_START_TIMEOUT_SECONDS = 20.0
_FAILED_PAUSE_SECONDS = 5.0
_PORT_TIMEOUT_SECONDS = 0.5
_STOP_TIMEOUT_SECONDS = 3.0
_POLL_SECONDS = 0.02

_RECORD = "proxy.json"

ACCESS_LOGS = "requests"
"""In `state_dir`: files with one line for each request that has ended; see `access_log`."""

_LOG_AHEAD_BYTES = 1 << 30  # of the gateway that reads it; what is beyond is not counted
_LOG_PAUSE_SECONDS = 60.0

Confine = Callable[[int], Awaitable[None]]
"""Limits the machine's resources that the process with this id may use."""

# The environment variables that the proxy gets: none that may hold a secret of the gateway's.
_PASSED_ENVIRONMENT = ("PATH",)


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


class HAProxy:
    """One HAProxy process that serves `settings`. It keeps running if the gateway crashes.

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
        self._router = Router(settings.run_dir, settings.base_domain)
        self.certificates = Certificates(settings.run_dir)
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

        Takes over a proxy of an earlier gateway if it has the same configuration; otherwise takes
        its listening sockets over. Raises ProxyFailed, with the proxy's last line of output.
        """
        if self.alive():
            return self._port
        if not os.access(self._binary, os.X_OK):
            raise ProxyFailed(f"{self._binary} does not start: no such program.")
        for directory in (self._settings.run_dir, self._state):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = _read_record(self._record_path)
        if record is not None and await self._adopt(record):
            await self._router.load()
            return self._port
        before = await self._to_replace(record)
        if before is None:
            await self._end_all(record)
        self._port = await self._choose_port(record, is_held=before is not None)
        await self._bound(self._spawn(before))
        await self._wait_until_it_answers(record if before is not None else None)
        await self._router.load()
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
            while self.alive() and self._process is not None:
                self._let_log()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOG_PAUSE_SECONDS):
                        await wait_until_ended(self._process)
            log.warning("the proxy has ended and is started again")

    async def stop(self) -> None:
        """Ends every process of this proxy: SIGTERM, then SIGKILL after a few seconds.

        The log and the chosen port stay in `state_dir`.
        """
        record = _read_record(self._record_path)
        await self._end_all(record)
        self._process = None
        if record is not None:
            self._write_record(msgspec.structs.replace(record, process=None))

    async def _end_all(self, record: _Record | None) -> None:
        """Ends the recorded process, and every one with our command, which a crash left."""
        recorded = [] if record is None or record.process is None else [record.process]
        for process in (*recorded, *find_running(self._command())):
            await terminate(process, grace_seconds=_STOP_TIMEOUT_SECONDS)

    async def _to_replace(self, record: _Record | None) -> ProcessRecord | None:
        """Returns the running proxy whose listening sockets a new one can have, if there is one."""
        process = None if record is None else record.process
        if process is None or not is_running(process):
            return None
        is_ours = process.command[-len(self._command()) :] == self._command()
        if not is_ours or not works_in(process, self._settings.run_dir):
            return None
        answer = await ask(self._settings.run_dir, "show version")
        return process if answer else None

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

    async def _choose_port(self, record: _Record | None, *, is_held: bool) -> int:
        """Returns the port to use. `is_held`: the recorded one is that of the proxy to replace."""
        wanted = self._settings.http_port
        if record is not None and is_held and wanted in {0, record.http_port}:
            return record.http_port
        if self._settings.https_port is not None and not is_held:
            await self._require_free(self._settings.https_port)
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
                f"Free it, or set another proxy_listen (port 0 takes a free one)."
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

        HAProxy itself would share a taken port (SO_REUSEPORT).
        """
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probing:
            probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probing.bind((self._settings.listen_address, port))
                probing.listen(1)
            except OSError:
                return None
            return int(probing.getsockname()[1])

    def _spawn(self, before: ProcessRecord | None) -> ProcessRecord:
        settings = replace(self._settings, http_port=self._port)
        config = haproxy_config(settings, servers=self._router.servers()).encode()
        if not self._config_path.exists() or self._config_path.read_bytes() != config:
            replace_file(self._config_path, config)  # only if changed: the disk may be full
        for name, content in answers().items():
            replace_file(self._settings.run_dir / name, content.encode())
        self._router.write_map()
        self.certificates.write_lists()
        log_file = open_log(self._state / ACCESS_LOGS)
        taking = () if before is None else ("-x", ADMIN_SOCKET, "-sf", str(before.pid))
        try:
            self._process = process = spawn_detached(
                (str(self._binary), *taking, *self._command()),
                directory=self._settings.run_dir,
                environment={
                    name: os.environ[name] for name in _PASSED_ENVIRONMENT if name in os.environ
                },
                output=self._output_path,
                log=log_file,
            )
        except OSError as error:
            raise ProxyFailed(f"{self._binary} does not start: {error.strerror}.") from error
        finally:
            os.close(log_file)
        self._let_log()
        digest = self._config_digest(self._port)
        self._write_record(_Record(process=process, config_sha256=digest, http_port=self._port))
        return process

    def _let_log(self) -> None:
        """Lets the log grow until so much of it is unread: what was read is no more on the disk."""
        if self._process is None:
            return
        with contextlib.suppress(OSError):  # the process may have ended
            log_file = Path(f"/proc/{self._process.pid}/fd/1").stat()
            most = log_file.st_size + max(_LOG_AHEAD_BYTES - 512 * log_file.st_blocks, 0)
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            if hard == resource.RLIM_INFINITY or most < hard:
                resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (most, hard))

    async def _wait_until_it_answers(self, before: _Record | None) -> None:
        """Waits for the process that was started; if it fails, the one before keeps serving."""
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_SECONDS
        while not (await self._is_the_one() and await self._answers(self._port)):
            ended = not self.alive()
            if ended or asyncio.get_running_loop().time() > deadline:
                if before is None:
                    await self.stop()
                else:
                    if self._process is not None:
                        await terminate(self._process, grace_seconds=_STOP_TIMEOUT_SECONDS)
                    self._write_record(before)
                problem = "ended at once" if ended else "does not answer"
                raise ProxyFailed(f"The proxy {problem}. {self._last_words()}")
            await asyncio.sleep(_POLL_SECONDS)

    async def _is_the_one(self) -> bool:
        """Returns whether changes reach the process that was started, not the one before it."""
        answer = await ask(self._settings.run_dir, "show info") or ""
        return self._process is not None and f"Pid: {self._process.pid}\n" in answer

    async def _answers(self, port: int) -> bool:
        """Returns whether the proxy answers at all, asked for a host that no app can have."""
        address = self._settings.listen_address
        if address in {"", "0.0.0.0"}:  # noqa: S104 (compared, not bound)
            address = "127.0.0.1"
        seen = await probe(port, "localhost", address=address, timeout_seconds=2)
        return seen.answer is not Answer.UNREACHABLE

    def _last_words(self) -> str:
        output = self._output_path.read_text(errors="replace").strip().splitlines()
        worst = [line for line in output if "ALERT" in line] or output[-1:]
        return f"It printed: {worst[0][:500]}" if worst else "It printed nothing."

    def _command(self) -> tuple[str, ...]:
        """Returns the end of the command line by which a process is found to be this proxy."""
        return ("-db", "-f", str(self._config_path))

    def _config_digest(self, port: int) -> str:
        """Returns a digest of the configuration and the program."""
        program = self._binary.stat()
        config = haproxy_config(replace(self._settings, http_port=port))
        identity = [config, program.st_size, program.st_mtime_ns]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def _config_path(self) -> Path:
        return self._state / "haproxy.cfg"

    @property
    def _output_path(self) -> Path:
        """The file with standard output and error of the current process."""
        return self._state / "haproxy.out"

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
