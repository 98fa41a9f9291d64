"""The connection to a Docker daemon, and what it must be able to do."""

import contextlib
import io
import os
import socket
import ssl
import struct
import tarfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError
from aiohttp import StreamReader

from moorage.errors import ConfigurationInvalid
from moorage.trust import trusting

_SCHEME = "unix://"
_API_SECONDS = 120.0  # a machine under load takes long to make a container
_LEAST_VERSION = 24
_NEEDED = {
    "MemoryLimit": "memory", "SwapLimit": "swap", "PidsLimit": "processes",
    "CpuCfsQuota": "processor time",
}  # fmt: skip
_PODMANS = "BuildahVersion"  # Podman alone has it
_UCRED = struct.Struct("=iII")  # struct ucred: process, user, group
_NOT_FOUND, _REFUSED = 404, 400
_NO_USER = "unable to find "  # a user or group that the image lacks: Docker answers 500
_NS_A_SECOND = 1_000_000_000
_ANY_HOST = "http://docker"  # HTTP wants a host; the connection is the socket
_ENDLESS = aiohttp.ClientTimeout(total=None)


class DaemonFailed(OSError):
    """The Docker daemon does not answer, or failed; with its words."""


class NotFound(DaemonFailed):
    """The Docker daemon has no such container, image or network."""


class Refused(DaemonFailed):
    """The Docker daemon says that the request can't be carried out as it is."""


@dataclass(frozen=True)
class Daemon:
    """A Docker daemon that was reached. Close it at the end."""

    docker: Docker
    session: aiohttp.ClientSession
    host: str  # the value for DOCKER_HOST
    info: Mapping[str, Any]  # `docker info`
    path: Path | None = None  # of its socket; None for one on another machine
    pid: int = 0  # of the process that made the socket
    url: str = _ANY_HOST
    certificates: Path | None = None  # the value for DOCKER_CERT_PATH

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.path is not None

    @property
    def network(self) -> Path:
        """The network namespace that has Docker's bridges, also of a daemon that was restarted.

        Blocks for a moment. Raises DaemonFailed.
        """
        if self.path is None:
            raise DaemonFailed(f"{self.host} is another machine")
        return Path(f"/proc/{_maker(self.path)}/ns/net")

    @property
    def uses_systemd(self) -> bool:
        """Whether systemd makes the control groups of containers."""
        return self.info.get("CgroupDriver") == "systemd"

    async def close(self) -> None:
        """Closes all connections."""
        await self.docker.close()
        await self.session.close()

    async def update(self, container_id: str, change: Mapping[str, Any]) -> None:
        """Changes the limits of a running container. Raises DaemonFailed."""
        async with calling():
            url = f"{self.url}/containers/{container_id}/update"
            async with self.session.post(url, json=change) as answer:
                if answer.status != 200:
                    raise DaemonFailed(f"Docker failed: {await answer.text()}")

    async def beginning(self, container_id: str, path: str, *, max_bytes: int) -> bytes:
        """Returns the beginning of a file in a container; b"" if it is none. Raises DaemonFailed.

        `max_bytes` counts for what is read, which is a tar archive.
        """
        url = f"{self.url}/containers/{container_id}/archive"
        archive = bytearray()
        async with calling(), self.session.get(url, params={"path": path}) as answer:
            if answer.status == _NOT_FOUND:
                return b""
            answer.raise_for_status()
            while left := max_bytes - len(archive):
                if not (chunk := await answer.content.read(left)):
                    break
                archive += chunk
        return first_file(bytes(archive))

    @asynccontextmanager
    async def output(self, container_id: str, *, since_ns: int) -> AsyncIterator[StreamReader]:
        """Gives what a container writes, from a time on and until it ends, as frames.

        Each is a header of 8 bytes and a line with its time (Docker Engine API, ContainerAttach).
        Raises DaemonFailed, also while it is read.
        """
        query = {
            "stdout": "1", "stderr": "1", "follow": "1", "timestamps": "1",
            "since": f"{since_ns // _NS_A_SECOND}.{since_ns % _NS_A_SECOND:09d}",
        }  # fmt: skip
        url = f"{self.url}/containers/{container_id}/logs"
        async with calling(), self.session.get(url, params=query, timeout=_ENDLESS) as answer:
            if answer.status == _NOT_FOUND:
                raise NotFound("no such container")
            answer.raise_for_status()
            yield answer.content


def first_file(archive: bytes) -> bytes:
    """Returns what there is of a tar archive's first entry, if that is a file."""
    with contextlib.suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entry = tar.next()
        if entry is not None and entry.isreg():
            return archive[entry.offset_data : entry.offset_data + entry.size]
    return b""


@asynccontextmanager
async def calling() -> AsyncIterator[None]:
    """Turns errors of the client into ours. Raises NotFound, Refused, DaemonFailed."""
    try:
        yield
    except DockerError as error:
        if error.status == _NOT_FOUND:
            raise NotFound(error.message) from error
        if error.status == _REFUSED or error.message.startswith(_NO_USER):
            raise Refused(error.message) from error
        raise DaemonFailed(f"Docker failed: {error.message}") from error
    except (aiohttp.ClientError, TimeoutError) as error:
        raise DaemonFailed(f"Docker does not answer: {error or 'timeout'}") from error


def socket_path(docker_host: str) -> Path:
    """Returns the socket of `unix:///path`. Raises ConfigurationInvalid for another address."""
    path = Path(docker_host.removeprefix(_SCHEME))
    if not docker_host.startswith(_SCHEME) or not path.is_absolute():
        raise ConfigurationInvalid(
            f"docker_host: {docker_host!r} must be unix:///path: apps run on the gateway's machine"
        )
    return path


async def connect(docker_host: str) -> Daemon:
    """Reaches this machine's daemon. Raises DaemonFailed, ConfigurationInvalid."""
    path = socket_path(docker_host)
    pid = _maker(path)
    # Not limited: each running app has its log followed.
    return await _connected(
        aiohttp.UnixConnector(str(path), limit=0), host=f"{_SCHEME}{path}", path=path, pid=pid
    )


async def connect_anywhere(docker_host: str, certificates: str) -> Daemon:
    """Reaches this machine's daemon, or one at `tcp://host:port` by a client's certificate.

    `certificates` is a directory with ca.pem, cert.pem and key.pem, as Docker's clients have it.
    Raises DaemonFailed, ConfigurationInvalid.
    """
    if docker_host.startswith(f"{_SCHEME}/"):
        return await connect(docker_host)
    place = urlsplit(docker_host)
    if place.scheme != "tcp" or not place.hostname:
        raise ConfigurationInvalid(
            f"kubernetes_builder: {docker_host!r} must be unix:///path or tcp://host:port, after "
            "buildkit+ for a buildkitd"
        )
    try:
        trusted = trusting(only=f"{certificates}/ca.pem")
        trusted.load_cert_chain(f"{certificates}/cert.pem", f"{certificates}/key.pem")
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationInvalid(
            f"kubernetes_credentials: {certificates!r} must have ca.pem, cert.pem and "
            f"key.pem ({error})"
        ) from error
    return await _connected(
        aiohttp.TCPConnector(ssl=trusted),
        host=docker_host,
        url=f"https://{place.netloc}",
        certificates=Path(certificates),
    )


async def _connected(
    connector: aiohttp.BaseConnector, *, url: str = _ANY_HOST, **known: Any
) -> Daemon:
    session = aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=_API_SECONDS)
    )
    docker = Docker(
        url,
        connector=session.connector,
        session=session,
        timeout=aiohttp.ClientTimeout(total=_API_SECONDS),
    )
    try:
        async with calling():
            info = await docker.system.info()
    except BaseException:
        await docker.close()
        await session.close()
        raise
    return Daemon(docker=docker, session=session, info=info, url=url, **known)


def _maker(path: Path) -> int:
    """Returns the process that listens at a unix socket, see unix(7). Raises DaemonFailed."""
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(_API_SECONDS)
            asking.connect(str(path))
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError as error:
        raise DaemonFailed(f"no Docker daemon listens at {path}: {error.strerror}") from error
    pid, _, _ = _UCRED.unpack(credentials)
    return int(pid)


def lacking(info: Mapping[str, Any], pid: int) -> list[str]:
    """Returns a sentence, with what repairs it, for each thing that the daemon can't do."""
    if _PODMANS in info:
        return ["this is Podman, which has no BuildKit: name a Docker daemon in docker_host"]
    missing = [
        f"Docker can't limit {what}: start Docker where the kernel has that control group"
        for name, what in _NEEDED.items()
        if not info.get(name) and not (name == "SwapLimit" and not _has_swap())
    ]
    options = " ".join(info.get("SecurityOptions", ()))
    if "name=seccomp" not in options:
        missing.append("Docker filters no system calls: use a Docker built with seccomp")
    if "name=rootless" in options:
        missing.append(
            "Docker runs without root, and so would run builds without limits: start it as the"
            " machine's own service"
        )
    missing += too_old(info)
    if not _sees(pid):
        missing.append(
            "the gateway does not see Docker's processes: run it beside Docker, not in it"
        )
    return missing


def too_old(info: Mapping[str, Any]) -> list[str]:
    """Returns a sentence if the daemon is older than what is needed."""
    version = str(info.get("ServerVersion", "0")).partition(".")[0]
    if version.isdigit() and int(version) < _LEAST_VERSION:
        return [f"Docker is older than {_LEAST_VERSION}: upgrade it"]
    return []


def _has_swap() -> bool:
    return len(Path("/proc/swaps").read_text().splitlines()) > 1


def _sees(pid: int) -> bool:
    """Returns whether a process is in this one's process id namespace."""
    try:
        return pid > 0 and Path(f"/proc/{pid}/ns/pid").samefile("/proc/self/ns/pid")
    except OSError:
        return False


def environment(daemon: Daemon) -> dict[str, str]:
    """Returns what the `docker` program must find in its environment to use this daemon."""
    found = {"DOCKER_HOST": daemon.host, "PATH": os.environ.get("PATH", os.defpath)}
    if daemon.certificates is None:
        return found
    return {**found, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(daemon.certificates)}
