"""The stage for the hostile tests: a host and a world around it, both made up.

The tests' own thread moves into a fresh network namespace, which plays the host: what the sandbox
then sets up, it sets up there. A second namespace plays the world, and holds the addresses an app
must not reach (169.254.169.254, private ranges) as well as one that it may. So every attempt could
succeed, and none leaves the machine, however broken the sandbox is.
"""

import contextlib
import ctypes
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PYTHON = "/usr/bin/python3"  # the one that sandboxed apps see, too
CLONE_NEWNET = 0x40000000
IPC_CREAT = 0o1000
IPC_RMID = 0

HOST_ADDRESS = "198.51.100.2"
HOST_ADDRESS6 = "fd00:66::2"
WORLD_ADDRESS = "198.51.100.1"
WORLD_ADDRESS6 = "fd00:66::1"

#: Where an app may go: any public address. This one is nobody's here but the made-up world's.
PUBLIC_ADDRESS = "11.66.66.66"
PUBLIC_ADDRESS6 = "2600:66::66"

#: What the made-up world answers on, and no app may reach.
FORBIDDEN = {
    "metadata": "169.254.169.254",
    "link-local": "169.254.66.66",
    "private-10": "10.66.66.66",
    "private-172": "172.20.66.66",
    "private-192": "192.168.66.66",
    "carrier-nat": "100.64.66.66",
    "protocol-assignments": "192.0.0.192",
    "benchmarking": "198.18.66.66",
    "uplink": WORLD_ADDRESS,
}
FORBIDDEN6 = {
    "metadata-6": "fd00:ec2::254",
    "unique-local-6": WORLD_ADDRESS6,
    "public-6": PUBLIC_ADDRESS6,
    "mapped-metadata": "::ffff:169.254.169.254",
    "mapped-private": "::ffff:10.66.66.66",
}
SERVICE_PORT = 80
MAIL_PORTS = (25, 465, 587)

_LIBC = ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _current_network() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY)


def _join(network: int) -> None:
    _checked(_LIBC.setns(network, CLONE_NEWNET))


@contextlib.contextmanager
def inside(network: int) -> Iterator[None]:
    """This thread, and the processes it starts, in another network namespace for a while."""
    before = _current_network()
    _join(network)
    try:
        yield
    finally:
        _join(before)
        os.close(before)


def new_network() -> int:
    """A descriptor of a fresh network namespace; it lasts as long as the descriptor."""
    before = _current_network()
    try:
        _checked(_LIBC.unshare(CLONE_NEWNET))
        return _current_network()
    finally:
        _join(before)
        os.close(before)


def ip(*args: str) -> None:
    """Run `ip` in this thread's network namespace."""
    subprocess.run(["ip", *args], check=True, capture_output=True)


def furnish(host: int, world: int) -> None:
    """Connect both namespaces, and give the world its addresses."""
    with inside(world):
        ip("link", "set", "lo", "up")
        for address in [*FORBIDDEN.values(), PUBLIC_ADDRESS]:
            if address != WORLD_ADDRESS:
                ip("addr", "add", f"{address}/32", "dev", "lo")
        for address in [*FORBIDDEN6.values(), PUBLIC_ADDRESS6]:
            if "ffff" not in address and address != WORLD_ADDRESS6:
                ip("addr", "replace", f"{address}/128", "dev", "lo")
    with inside(host):
        ip("link", "set", "lo", "up")
        peer = f"/proc/{os.getpid()}/fd/{world}"
        ip("link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", peer)
        ip("addr", "add", f"{HOST_ADDRESS}/24", "dev", "up0")
        ip("addr", "add", f"{HOST_ADDRESS6}/64", "dev", "up0", "nodad")
        ip("link", "set", "up0", "up")
    with inside(world):
        ip("addr", "add", f"{WORLD_ADDRESS}/24", "dev", "up1")
        ip("addr", "add", f"{WORLD_ADDRESS6}/64", "dev", "up1", "nodad")
        ip("link", "set", "up1", "up")
        ip("route", "add", "default", "via", HOST_ADDRESS)
        ip("-6", "route", "add", "default", "via", HOST_ADDRESS6)
    with inside(host):
        ip("route", "add", "default", "via", WORLD_ADDRESS)
        ip("-6", "route", "add", "default", "via", WORLD_ADDRESS6)


class Greeters:
    """Services that greet whoever reaches them; one thread serves all."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def add(self, endpoint: socket.socket, name: str) -> socket.socket:
        """Greet on `endpoint` as `name`, from `start` on."""
        endpoint.setblocking(False)
        self._selector.register(endpoint, selectors.EVENT_READ, f"reached {name}\n".encode())
        return endpoint

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and close every endpoint."""
        self._wake.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

    def _serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                endpoint = key.fileobj
                assert isinstance(endpoint, socket.socket)
                if endpoint is self._woken:
                    return
                # Whoever came may be gone again: that is theirs to find out.
                with contextlib.suppress(OSError):
                    self._greet(endpoint, key.data)

    @staticmethod
    def _greet(endpoint: socket.socket, greeting: bytes) -> None:
        if endpoint.type == socket.SOCK_DGRAM:
            _, sender = endpoint.recvfrom(100)
            endpoint.sendto(greeting, sender)
            return
        connection, _ = endpoint.accept()
        with connection:
            connection.sendall(greeting)


def _bound(family: int, kind: int, address: str | tuple[str, int]) -> socket.socket:
    endpoint = socket.socket(family, kind)
    if family == socket.AF_INET6:
        endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if family != socket.AF_UNIX:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    endpoint.bind(address)
    if kind == socket.SOCK_STREAM:
        endpoint.listen(64)
    return endpoint


def populate(greeters: Greeters, *, host: int, world: int, directory: Path) -> dict[str, str]:
    """Start the services of both namespaces; their ports and names."""
    stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
    with inside(world):
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            for port in (SERVICE_PORT, *MAIL_PORTS):
                greeters.add(_bound(family, stream, (any_address, port)), "the world")
        for address in (FORBIDDEN["metadata"], FORBIDDEN["private-10"]):
            for port in (53, 123):  # bound to the address: the answer must come from there
                greeters.add(_bound(socket.AF_INET, datagram, (address, port)), "the world")
    unix_path, abstract = str(directory / "gateway.sock"), f"moorage-hostile-{os.getpid()}"
    with inside(host):
        local = greeters.add(_bound(socket.AF_INET, stream, ("127.0.0.1", 0)), "the host")
        everywhere = greeters.add(_bound(socket.AF_INET, stream, ("0.0.0.0", 0)), "the host")
        port = everywhere.getsockname()[1]
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            greeters.add(_bound(family, datagram, (any_address, port)), "the host")
        greeters.add(_bound(socket.AF_INET6, stream, ("::", port)), "the host")
        # Only now, lest it be given that very port.
        local6 = greeters.add(_bound(socket.AF_INET6, stream, ("::1", 0)), "the host")
        greeters.add(_bound(socket.AF_UNIX, stream, unix_path), "the host")
        greeters.add(_bound(socket.AF_UNIX, stream, "\0" + abstract), "the host")
    Path(unix_path).chmod(0o777)
    return {
        "local_port": str(local.getsockname()[1]),
        "local6_port": str(local6.getsockname()[1]),
        "port": str(port),
        "unix": unix_path,
        "abstract": f"@{abstract}",
    }


@dataclass(frozen=True)
class Victim:
    """A process of the host that keeps a secret in its memory and its environment."""

    process: subprocess.Popen[bytes]
    address: int

    @property
    def pid(self) -> str:
        """Its process id, as a command line holds it."""
        return str(self.process.pid)


_VICTIM = """
import ctypes, sys
secret = ctypes.create_string_buffer(sys.stdin.buffer.readline().strip())
print(ctypes.addressof(secret), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def victim(secret: str, uid: int = 0) -> Iterator[Victim]:
    """Run a victim, as a user."""
    with subprocess.Popen(
        [PYTHON, "-c", _VICTIM],
        user=uid,
        group=uid,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "HOST_SECRET": secret},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(secret.encode() + b"\n")
        process.stdin.flush()
        yield Victim(process, int(process.stdout.readline()))
        process.stdin.close()


@contextlib.contextmanager
def shared_memory() -> Iterator[int]:
    """The key of a System V shared memory segment of the host."""
    key = 0x6D6F0000 | (os.getpid() & 0xFFFF)
    identifier = _checked(_LIBC.shmget(key, 4096, IPC_CREAT | 0o666))
    try:
        yield key
    finally:
        _checked(_LIBC.shmctl(identifier, IPC_RMID, None))


def links() -> set[str]:
    """The network interfaces of this thread's namespace."""
    return {name for _, name in socket.if_nameindex()}


def ruleset() -> str:
    """The firewall's rules in this thread's network namespace."""
    done = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True)
    return done.stdout


assert sys.platform == "linux"
