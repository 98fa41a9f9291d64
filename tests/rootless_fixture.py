"""A rootless runtime in a process of its own, run by a made-up user, and called from the tests.

The tests are root. The process has a mount namespace, where /dev/net/tun may be opened by anybody,
as on most machines, and the interpreter read, wherever it lies: the machine's own stay as they are.
"""

import asyncio
import contextlib
import inspect
import os
import pickle
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from moorage.engines.engine import BuildSpec, Engine
from moorage.engines.host import tool
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.rootless.rootless import Rootless
from moorage.errors import MoorageError

# Of a range that systemd's table of user ids lists as unused; of this run of the tests alone.
UID = 1_890_000_000 + os.getpid()
BOUND_SECONDS = 60  # only to end a hung test
_ENTER = """\
set -eu
mkdir -p "$1/dev"
[ -e "$1/dev/tun" ] || mknod -m 666 "$1/dev/tun" c 10 200
mount --bind "$1/dev/tun" /dev/net/tun
if [ -n "$4" ]; then
  mkdir -p "$1/python"
  mount --bind "$3" "$1/python"
  mount -t tmpfs -o mode=755 none "$4"
  mkdir -p "$3"
  mount --move "$1/python" "$3"
fi
uid=$2
shift 4
exec setpriv --reuid "$uid" --regid "$uid" --clear-groups --inh-caps=-all --bounding-set=-all "$@"
"""


def missing() -> str | None:
    """Why the rootless runtime can't be tried here."""
    if not tool.found("pasta"):
        return "pasta is not installed: apt-get install passt"
    if not Path("/dev/net/tun").exists():
        return "the kernel has no /dev/net/tun: modprobe tun"
    return None


def _closed(path: Path) -> str:
    """The first directory on the way to `path` that only its owner may enter; "" for none."""
    ways = reversed(path.parents)
    return next((str(way) for way in ways if not way.stat().st_mode & 0o001), "")


def as_user(directory: Path) -> list[str]:
    """Runs what follows as the made-up user, whose directory is `directory`."""
    return [
        *("unshare", "--mount", "/bin/sh", "-c", _ENTER, "sh", str(directory), str(UID)),
        *(sys.base_prefix, _closed(Path(sys.base_prefix))),
    ]


class RemoteRuntime:
    """A `Rootless` in the other process: its methods, by the same names."""

    capabilities = Rootless.capabilities

    def __init__(self, directory: Path, **options: Any) -> None:
        self.directory = directory
        self._socket = directory / "calls"
        self._process = subprocess.Popen(
            [*as_user(directory), sys.executable, __file__, str(directory)],
            stdin=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(directory)},
        )
        assert self._process.stdin is not None
        self._process.stdin.write(pickle.dumps(options))
        self._process.stdin.close()

    @property
    def pid(self) -> int:
        """The process that stands for the gateway."""
        return self._process.pid

    def kill(self) -> None:
        """As a crash does, at once."""
        self._process.kill()
        self._process.wait()
        self._socket.unlink(missing_ok=True)

    def end(self) -> None:
        """End the process."""
        self._process.terminate()
        assert self._process.wait(BOUND_SECONDS) == 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(Rootless, name)
        return self._async(name) if inspect.iscoroutinefunction(method) else self._sync(name)

    def _async(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if name == "build":
                args = (self._within_reach(*args),)
            reader, writer = await self._connect()
            try:
                writer.write(_framed((name, args, kwargs)))
                size = struct.unpack("=I", await reader.readexactly(4))[0]
                return _outcome(await reader.readexactly(size))
            except asyncio.CancelledError:
                writer.write_eof()  # which cancels the call there; its end is waited for
                await reader.read()
                raise
            finally:
                writer.close()

        return call

    def _within_reach(self, spec: BuildSpec) -> BuildSpec:
        """The build, of files that the made-up user may read."""
        source = self.directory / f"source-{secrets.token_hex(4)}"
        subprocess.run(["cp", "-a", str(spec.source), str(source)], check=True)  # pipes, too
        for path in (source, *source.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)
        return replace(spec, source=source)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(BOUND_SECONDS):
            while True:
                try:
                    return await asyncio.open_unix_connection(str(self._socket))
                except (FileNotFoundError, ConnectionRefusedError):  # it is only starting
                    await asyncio.sleep(0.01)

    def _sync(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self._socket))
                connection.sendall(_framed((name, args, kwargs)))
                with connection.makefile("rb") as answer:
                    return _outcome(answer.read(struct.unpack("=I", answer.read(4))[0]))

        return call


def _framed(value: object) -> bytes:
    data = pickle.dumps(value)
    return struct.pack("=I", len(data)) + data


def _outcome(data: bytes) -> Any:
    kind, value = pickle.loads(data)
    if kind == "returned":
        return value
    error_type, args, attributes = value
    error = error_type.__new__(error_type, *args)
    error.args, error.__dict__ = args, attributes
    raise error


def rootless_directory(within: str = "/tmp") -> Path:
    """A directory of the made-up user's; its path is short, as sockets lie there."""
    directory = Path(tempfile.mkdtemp(prefix="rl-", dir=within))
    os.chown(directory, UID, UID)
    return directory


@contextlib.asynccontextmanager
async def opened_rootless(
    directory: Path | None = None, **options: Any
) -> AsyncIterator[RemoteRuntime]:
    """An open runtime below a directory of the made-up user's; afterwards nothing is left."""
    remote = RemoteRuntime(directory or rootless_directory(), **options)
    try:
        await remote.open()
        try:
            yield remote
        finally:
            await remote.close(stop_apps=True)
    finally:
        remote.end()
        shutil.rmtree(remote.directory)


@pytest.fixture(params=["sandbox", "rootless"])
def runtime(request: pytest.FixtureRequest) -> Engine:
    """A real runtime, opened for one test: of the root mode, and again of the rootless one."""
    return cast("Engine", request.getfixturevalue(request.param))


@pytest.fixture
async def rootless() -> AsyncIterator[Engine]:
    """A real rootless runtime, opened for one test."""
    if reason := missing():
        pytest.skip(reason)
    async with opened_rootless() as runtime:
        yield cast("Engine", runtime)


class _Server:
    """The other end, within the process of the made-up user."""

    def __init__(self, runtime: Rootless) -> None:
        self._runtime = runtime

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Make one call; whoever hangs up cancels it."""
        size = struct.unpack("=I", await reader.readexactly(4))[0]
        call = asyncio.create_task(self._call(*pickle.loads(await reader.readexactly(size))))
        gone = asyncio.create_task(reader.read(1))
        await asyncio.wait((call, gone), return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            gone.cancel()
            writer.write(_framed(call.result()))
            await writer.drain()
        else:
            call.cancel()
            await asyncio.wait((call,))
        writer.close()

    async def _call(self, name: str, args: Any, kwargs: Any) -> tuple[str, Any]:
        try:
            result = getattr(self._runtime, name)(*args, **kwargs)
            return ("returned", await result if inspect.isawaitable(result) else result)
        except (MoorageError, OSError, ValueError, RuntimeError) as error:
            return ("raised", (type(error), error.args, vars(error)))


async def _serve(directory: Path) -> None:
    options = pickle.loads(sys.stdin.buffer.read())
    beside_python = Path(sys.executable).parent
    defaults: dict[str, Any] = {
        "instance_id": secrets.token_hex(3),
        "tools": {name: beside_python / name for name in ("caddy", "uv")},
        "stop_grace_seconds": 2.0,
        "accept_soft_limits": True,
        "hierarchy": None,
    }
    options = {**defaults, **options}
    own = {name: options.pop(name) for name in ("accept_soft_limits", "hierarchy")}
    configuration = HostConfiguration(
        state_dir=directory / "state", run_dir=directory / "run", **options
    )
    runtime = Rootless(configuration, **own)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    server = await asyncio.start_unix_server(
        _Server(runtime).answer, str(directory / "calls"), backlog=128
    )
    await ended.wait()
    server.close()


if __name__ == "__main__":
    os.umask(0o077)
    asyncio.run(_serve(Path(sys.argv[1])))
