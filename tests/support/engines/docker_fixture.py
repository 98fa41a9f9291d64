"""A Docker daemon that a test run starts for itself, on a made-up machine.

Docker sets the machine's FORWARD policy to DROP, and other tests run beside it: so it has a network
namespace of its own, connected to the machine by a veth pair, and a mount namespace. All it keeps
lies in one directory. It ends with the process that started it, however that ends.
"""

import asyncio
import errno
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest

from moorage.engines.docker.docker import DockerEngine
from moorage.engines.dockerd.builder import BuilderOptions
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.images.base_images import DEFAULTS, BaseImages

SUBNET = "10.203.0.0/24"
BASE = "moorage-tests-base"
SMALL = "moorage-tests-small"  # without Node: where nodes of a cluster show this machine's
BOUND_SECONDS = 120  # only to end a hung test
_PROGRAMS = ("sh", "cat", "chown", "cp", "env", "ls", "ln", "mkdir", "sleep", "kill", "id")
_OF_ANY_LINUX = (
    "libdl.so.2", "libgcc_s.so.1", "libpthread.so.0", "librt.so.1", "libutil.so.1",
)  # fmt: skip
_START = """\
ip link set lo up
exec dockerd --config-file "$1"
"""


@dataclass(frozen=True)
class Dockerd:
    """A running daemon."""

    directory: Path
    pid: int

    @property
    def host(self) -> str:
        """The value for DOCKER_HOST, and for the setting `docker_host`."""
        return f"unix://{self.directory}/socket"

    @property
    def network(self) -> str:
        """Its network namespace."""
        return f"/proc/{self.pid}/ns/net"

    @property
    def shared(self) -> Path:
        """A directory in which the daemon sees what is mounted later."""
        return self.directory / "shared"

    def run(self, *words: str, stdin: bytes = b"") -> str:
        """What `docker WORDS` prints."""
        environment = {**os.environ, "DOCKER_HOST": self.host}
        done = subprocess.run(
            ["docker", *words], env=environment, input=stdin, capture_output=True, check=True
        )
        return done.stdout.decode()

    def inside(self, *words: str) -> str:
        """What a command prints that runs in its network."""
        return subprocess.check_output(["nsenter", f"--net={self.network}", *words], text=True)


@contextmanager
def started_dockerd(
    network: str | None = None, *, settings: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Dockerd]:
    """A daemon in a network namespace: the given one, or a new one with a way into the world.

    `settings` are for its configuration file, beside its usual ones.
    """
    directory = Path(tempfile.mkdtemp(prefix="dk-", dir="/tmp"))
    directory.chmod(0o711)
    shared = directory / "shared"
    shared.mkdir(mode=0o711)
    subprocess.run(["mount", "--bind", str(shared), str(shared)], check=True)
    subprocess.run(["mount", "--make-shared", str(shared)], check=True)
    config = directory / "daemon.json"
    config.write_bytes(msgspec.json.encode({**_config(directory), **settings}))
    entered = ["unshare", "--net"] if network is None else ["nsenter", f"--net={network}"]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "TERM", *entered),
                *("unshare", "--mount", "--propagation", "slave"),
                *("/bin/sh", "-c", _START, "sh", str(config)),
            ],
            stdout=log,
            stderr=log,
        )
    dockerd = Dockerd(directory, process.pid)
    try:
        with _uplink(process.pid) if network is None else _nothing():
            _wait(dockerd, process)
            try:
                yield dockerd
            finally:
                process.terminate()
                process.wait(BOUND_SECONDS)
    finally:
        process.kill()
        process.wait()
        subprocess.run(["umount", "--recursive", str(shared)], check=True)
        shutil.rmtree(directory)
        _remove_groups(directory.name)


def _config(directory: Path) -> dict[str, Any]:
    return {
        "hosts": [f"unix://{directory}/socket"],
        "data-root": f"{directory}/data",
        "exec-root": f"{directory}/exec",
        "pidfile": f"{directory}/pid",
        "cgroup-parent": f"/{directory.name}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "storage-driver": "overlay2",
        "shutdown-timeout": 5,
    }


def _wait(dockerd: Dockerd, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        said = (dockerd.directory / "log").read_text(errors="replace")
        assert process.poll() is None, said[-4000:]
        return "API listen on" in said

    _until(answers)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _uplink(pid: int) -> Iterator[None]:
    """A veth pair into the namespace of a process, and masquerade behind the machine's address."""
    name, slot = f"dk{pid}", pid % 16_384
    ours, theirs = (f"100.127.{slot >> 6}.{(slot & 63) * 4 + host}" for host in (1, 2))
    _wait_for_own_network(pid)
    ip = ("nsenter", f"--net=/proc/{pid}/ns/net", "ip")
    for words in (
        ("ip", "link", "add", name, "type", "veth", "peer", "name", "up0", "netns", str(pid)),
        ("ip", "address", "add", f"{ours}/30", "dev", name),
        ("ip", "link", "set", name, "up"),
        (*ip, "address", "add", f"{theirs}/30", "dev", "up0"),
        (*ip, "link", "set", "up0", "up"),
        (*ip, "route", "add", "default", "via", ours),
    ):
        subprocess.run(words, check=True, capture_output=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    rules = f"""\
table ip {name} {{
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {theirs} oifname != "{name}" masquerade
  }}
}}
"""
    subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", name], check=True)
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)


def _wait_for_own_network(pid: int) -> None:
    _until(lambda: not Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net"))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _remove_groups(name: str) -> None:
    """Removes the daemon's groups, as soon as the last process of them is gone."""
    for top, _, _ in os.walk("/sys/fs/cgroup"):
        if top.rpartition("/")[2] == name:
            for group, _, _ in os.walk(top, topdown=False):
                _until(partial(_is_removed, group))


def _is_removed(group: str) -> bool:
    try:
        Path(group).rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@asynccontextmanager
async def offered_buildkitd(dockerd: Dockerd, socket: Path) -> AsyncIterator[str]:
    """A daemon's own BuildKit as a buildkitd: its address. Connections end with it."""
    processes: list[asyncio.subprocess.Process] = []
    environment = {**os.environ, "DOCKER_HOST": dockerd.host}

    async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        process = await asyncio.create_subprocess_exec(
            *("docker", "buildx", "dial-stdio", "--builder", "default"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,  # the program starts another, which ends with it here
        )
        processes.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        await asyncio.gather(passed(reader, process.stdin), passed(process.stdout, writer))
        await process.wait()

    server = await asyncio.start_unix_server(relayed, socket)
    async with server:
        yield f"buildkit+unix://{socket}"
        server.close()
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    socket.unlink(missing_ok=True)  # Python removes it from 3.13 on


@asynccontextmanager
async def offered_by_tls(dockerd: Dockerd, certificates: Path) -> AsyncIterator[str]:
    """A daemon as one on another machine is reached: by TLS, with a client's certificate."""
    certificates.mkdir()
    made_as = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=docker"
    named = "-addext subjectAltName=IP:127.0.0.1"
    files = ("-keyout", "key.pem", "-out", "cert.pem")
    command = ["openssl", "req", *made_as.split(), *named.split(), *files]
    subprocess.run(command, cwd=certificates, check=True, capture_output=True)
    (certificates / "ca.pem").write_text((certificates / "cert.pem").read_text())
    trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates / "ca.pem")
    trusted.verify_mode = ssl.CERT_REQUIRED
    trusted.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")

    async def relayed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = dockerd.host.removeprefix("unix://")
        theirs, to_them = await asyncio.open_unix_connection(path)
        await asyncio.gather(passed(reader, to_them), passed(theirs, writer))

    server = await asyncio.start_server(relayed, "127.0.0.1", 0, ssl=trusted)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"tcp://127.0.0.1:{port}"


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hands on what comes, until one of both ends."""
    with suppress(OSError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


def import_base(
    dockerd: Dockerd, name: str = BASE, *, with_python: bool = False, with_npm: bool = False
) -> None:
    """Makes the image BASE, or SMALL, of what `write_base` writes."""
    archive = dockerd.directory / "base.tar"
    write_base(archive, with_node=name != SMALL, with_python=with_python, with_npm=with_npm)
    dockerd.run("import", str(archive), name)
    archive.unlink()


def write_base(
    archive: Path, *, with_python: bool, with_node: bool = True, with_npm: bool = False
) -> None:
    """Writes a system of this machine's own shell, a few programs and languages as a tar file."""
    languages = (*(["node"] if with_node else ()), *(["python3"] if with_python else ()))
    names = (*_PROGRAMS, *languages)
    programs = [path for name in names if (path := shutil.which(name, path="/usr/bin"))]
    standard = _python_library() if with_python else None
    linked = [] if standard is None else sorted(map(str, standard.glob("lib-dynload/*.so")))
    libraries = libraries_of(*programs, *linked)
    links = {name: f"usr/{name}" for name in ("bin", "lib", "lib64")}
    with tarfile.open(archive, "w", dereference=True) as image:
        for path in {*programs, *libraries}:
            image.add(path, path if path.startswith("/usr/") else f"/usr{path}")
        if standard is not None:
            image.add(standard)
        if with_npm:
            npm = Path("/usr/bin/npm").resolve()  # in the directory `bin` of its package
            image.add(npm.parents[1])
            links["usr/bin/npm"] = str(npm)
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            image.addfile(link)


def libraries_of(*files: str) -> set[str]:
    """The libraries that programs need, and those that packages for any Linux may (PEP 600)."""
    found = {
        word
        for line in subprocess.check_output(["ldd", *files], text=True).splitlines()
        for word in line.split()
        if word.startswith("/") and not word.endswith(":")
    }
    beside = next(Path(it).parent for it in found if Path(it).name == "libc.so.6")
    return found | {str(beside / name) for name in _OF_ANY_LINUX}


def _python_library() -> Path:
    """The standard library of /usr/bin/python3."""
    code = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    return Path(subprocess.check_output(["/usr/bin/python3", "-c", code], text=True).strip())


@pytest.fixture(scope="session")
def dockerd() -> Iterator[Dockerd]:
    """A daemon with the images BASE and SMALL."""
    with started_dockerd() as started:
        import_base(started)
        import_base(started, SMALL)
        yield started


def make_docker(
    dockerd: Dockerd, state_dir: Path, *, instance_id: str | None = None, **options: Any
) -> DockerEngine:
    """An engine that is not opened yet, with an instance id of its own unless one is given."""
    instance = instance_id or secrets.token_hex(3)
    beside_python = Path(sys.executable).parent
    configuration = HostConfiguration(
        state_dir=state_dir,
        run_dir=dockerd.shared / instance,
        instance_id=instance,
        tools={name: beside_python / name for name in ("caddy", "uv")},
        **{"stop_grace_seconds": 60.0, **options},  # only to end what does not
    )
    bases = BaseImages(images=dict.fromkeys(DEFAULTS, BASE))
    return DockerEngine(
        configuration,
        docker_host=dockerd.host,
        subnet=SUBNET,
        images=BuilderOptions(bases=bases, reads_local=True),
    )


@asynccontextmanager
async def opened_docker(engine: DockerEngine) -> AsyncIterator[DockerEngine]:
    """The engine, opened, and taken down with all its apps."""
    await engine.open()
    try:
        yield engine
    finally:
        await engine.close(stop_apps=True)


@pytest.fixture
async def docker(dockerd: Dockerd, tmp_path: Path) -> AsyncIterator[DockerEngine]:
    """The Docker engine, opened for one test."""
    async with opened_docker(make_docker(dockerd, tmp_path / "state")) as engine:
        yield engine
