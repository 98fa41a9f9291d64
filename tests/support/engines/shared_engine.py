"""An engine bound to no machine: what it knows lies in a directory that all gateways have mounted.

Each app is a small server, a process with a loopback address of its own. It says its file
`page.txt`; a build whose files have `slow` takes as many seconds as that says.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Unpack

import msgspec

from moorage.address import Address
from moorage.engines.engine import (
    BuildSpec,
    Engine,
    Instance,
    InstanceSpec,
    Keep,
    Lines,
    LogPage,
)
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import EngineKind, EngineOptions
from moorage.engines.logs import logs, store
from moorage.errors import DeployFailed, FailureCause
from moorage.process import ProcessRecord, is_running, reap, spawn_detached, terminate
from moorage.records.deployment import LogKind
from moorage.whole_file import replace_file
from support.engines.file_engine import FileEngine
from support.gateway.waiting import until

DIRECTORY = "SHARED_DIRECTORY"
"""The variable that names the shared directory."""

PORT = 8477
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
page = open(sys.argv[2], "rb").read()
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)
    def log_message(self, *_):
        pass
class Server(ThreadingHTTPServer):
    request_queue_size = 128
Server((sys.argv[1], int(sys.argv[3])), Handler).serve_forever()
"""


class SharedEngine(FileEngine):
    """An `Engine` that every gateway opens."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, directory / "none.sock")
        self._directory = directory

    async def open(self) -> str:
        await super().open()
        (self._directory / "apps").mkdir(exist_ok=True)
        return "shared"

    async def build(self, spec: BuildSpec) -> None:
        await self.stop(spec.deployment_id, keep=Keep.NOTHING)
        await self._log(spec.deployment_id, LogKind.BUILD, "building")
        slow = spec.source / "slow"
        if slow.exists():
            await asyncio.sleep(float(slow.read_text()))
        shutil.copytree(spec.source, self._files(spec.deployment_id))
        await super().build(spec)
        await self._log(spec.deployment_id, LogKind.BUILD, "built")

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        await super().copy(origin_id, deployment_id)
        shutil.copytree(self._files(origin_id), self._files(deployment_id), dirs_exist_ok=True)

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        found = (await self.running()).get(spec.deployment_id)
        if found is not None:
            return found
        page = self._files(spec.deployment_id) / "page.txt"
        if not page.exists():
            raise DeployFailed(FailureCause.CRASHED, "there is no page.txt")
        record = spawn_detached(
            (sys.executable, "-ISc", SERVER, _ip(spec.deployment_id), str(page), str(PORT)),
            directory=self._directory,
            environment=dict(os.environ),
            output=self._directory / "apps" / f"{spec.deployment_id}.out",
        )
        address = _address(spec.deployment_id)

        async def listens() -> bool:
            with contextlib.suppress(OSError):
                _, writer = await address.connect()
                writer.close()
                await writer.wait_closed()
                return True
            return False

        await until(listens)
        replace_file(self._record(spec.deployment_id), msgspec.json.encode(record))
        await self._log(spec.deployment_id, LogKind.RUNTIME, "started")
        return self._at(spec.deployment_id)

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        path = self._record(deployment_id)
        with contextlib.suppress(FileNotFoundError):
            record = msgspec.json.decode(path.read_bytes(), type=ProcessRecord)
            path.unlink(missing_ok=True)  # from now on it is not running, whoever asks
            await terminate(record, grace_seconds=1)
        await super().stop(deployment_id, keep=keep)
        if keep is not Keep.ALL:
            shutil.rmtree(self._files(deployment_id), ignore_errors=True)
        if keep is Keep.NOTHING:
            shutil.rmtree(self._directory / "logs" / deployment_id, ignore_errors=True)

    async def running(self) -> dict[str, Instance]:
        found = {}
        for path in (self._directory / "apps").glob("*.json"):
            with contextlib.suppress(FileNotFoundError):
                record = msgspec.json.decode(path.read_bytes(), type=ProcessRecord)
                if is_running(record):
                    found[path.stem] = self._at(path.stem)
                else:
                    reap(record.pid)
        return found

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        log = self._directory / "logs" / deployment_id / kind
        return logs.read_log(log, **lines)

    async def note(self, deployment_id: str, text: str, *, log: LogKind = LogKind.RUNTIME) -> None:
        await self._log(deployment_id, log, text)

    async def _log(self, deployment_id: str, kind: LogKind, text: str) -> None:
        log = self._directory / "logs" / deployment_id / kind
        log.mkdir(parents=True, exist_ok=True)
        store.append(log, store.OUT, [text.encode()], at_ms=1, cap_bytes=1 << 20)

    def _files(self, deployment_id: str) -> Path:
        return self._directory / "files" / deployment_id

    def _record(self, deployment_id: str) -> Path:
        return self._directory / "apps" / f"{deployment_id}.json"

    def _at(self, deployment_id: str) -> Instance:
        return Instance(deployment_id=deployment_id, address=_address(deployment_id), port=PORT)


def _ip(deployment_id: str) -> str:
    number = uuid.UUID(deployment_id).int
    return f"127.{1 + number % 254}.{(number >> 16) % 256}.{1 + (number >> 32) % 254}"


def _address(deployment_id: str) -> Address:
    return Address(f"{_ip(deployment_id)}:{PORT}")


def _make(configuration: HostConfiguration, options: EngineOptions) -> Engine:
    return SharedEngine(Path(os.environ[DIRECTORY]))


KIND = EngineKind(
    name="shared",
    capabilities=SharedEngine.capabilities,
    run_directory=lambda _data_dir: Path("/run/moorage"),
    missing=lambda _run_dir: (),
    forwards_packets=False,
    make=_make,
    machine_bound=False,
    exports=None,
)
