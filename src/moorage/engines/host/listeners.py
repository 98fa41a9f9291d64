"""Which sockets an app listens on, and the proxy from its address to one of them."""

import ipaddress
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from moorage.engines.engine import Limits
from moorage.engines.host import mounts as kernel
from moorage.engines.host import processes
from moorage.engines.isolation import bubblewrap

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_STATES_ESTABLISHED = 1 << 1
_STATES_LISTEN = 1 << 10
_INET_DIAG_SKV6ONLY = 11
_MESSAGE_BYTES = 72  # struct inet_diag_msg, before its attributes
_INET_DIAG_REQ_BYTECODE = 1
_BC_SOURCE_GE, _BC_SOURCE_LE = 2, 3  # struct inet_diag_bc_op
_TIMEOUT_SECONDS = 5.0
MAX_LISTENERS = 1024
MAX_CONNECTIONS = 4096


@dataclass(frozen=True, order=True)
class Listener:
    """A listening TCP socket; `target` is an address that reaches it from inside the namespace."""

    target: str  # "127.0.0.1", "10.201.0.6", "::1"
    port: int
    loopback_only: bool

    @property
    def endpoint(self) -> str:
        """The form for systemd-socket-proxyd, which splits at the last colon: `::1:3000`."""
        return f"{self.target}:{self.port}"


def choose(listeners: list[Listener], wanted_port: int) -> Listener | None:
    """Returns the listener to route to; None if there is none.

    Prefers the wanted port, then one that is not on loopback only, then the lowest port, then IPv4.
    """
    return min(
        listeners,
        key=lambda it: (it.port != wanted_port, it.loopback_only, it.port, ":" in it.target),
        default=None,
    )


class ListenerTable:
    """Queries the sockets of one network namespace, repeatedly."""

    def __init__(self, diagnosis: socket.socket) -> None:
        self._diagnosis = diagnosis

    def on_port(self, port: int) -> list[Listener]:
        """Returns the listeners on `port`. Raises OSError if the kernel refuses."""
        return [
            parse_message(message)
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in self.dump(request(family, port=port))
        ]

    def connections_to(self, port: int) -> int:
        """Returns the number of open connections to `port`, at most MAX_CONNECTIONS.

        Includes those that wait to be accepted. Raises OSError if the kernel refuses.
        """
        asked = (
            request(family, port=port, states=_STATES_ESTABLISHED)
            for family in (socket.AF_INET6, socket.AF_INET)
        )
        messages = (message for question in asked for message in self.dump(question))
        return sum(1 for _ in islice(messages, MAX_CONNECTIONS))

    def dump(self, asked: bytes) -> Iterator[bytes]:
        """Returns the kernel's answers to a request. Read all of them before the next request."""
        self._diagnosis.send(asked)
        while True:
            for kind, payload in split_messages(self._diagnosis.recv(65_536)):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    raise OSError(-struct.unpack_from("=i", payload)[0], "sock_diag refused")
                yield payload


@contextmanager
def opened_table(namespace: Path) -> Iterator[ListenerTable]:
    """Opens the table of a network namespace. Raises OSError; FileNotFoundError if it is gone."""
    with kernel.socket_in(
        namespace, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG
    ) as diagnosis:
        diagnosis.settimeout(_TIMEOUT_SECONDS)
        yield ListenerTable(diagnosis)


def first_listeners(namespace: Path) -> list[Listener]:
    """Returns the listeners in a network namespace, at most MAX_LISTENERS of each family.

    Raises OSError; FileNotFoundError if the namespace is gone.
    """
    found: list[Listener] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with opened_table(namespace) as table:
            messages = islice(table.dump(request(family)), MAX_LISTENERS)
            found += [parse_message(message) for message in messages]
    return found


def request(family: int, *, port: int | None = None, states: int = _STATES_LISTEN) -> bytes:
    """Returns the netlink message that asks for the TCP sockets of an address family.

    `states` is a set of bits, by default only listening; `port` is the sockets' local port.
    """
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, states) + bytes(48)
    if port is not None:
        body += _port_filter(port)
    header = struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    return header + body


def _port_filter(port: int) -> bytes:
    """Returns two operations, port >= and port <=, each followed by its operand.

    If one is false, it jumps beyond the end, which rejects the socket.
    """
    code = struct.pack("=BBHBBH", _BC_SOURCE_GE, 8, 20, 0, 0, port)
    code += struct.pack("=BBHBBH", _BC_SOURCE_LE, 8, 12, 0, 0, port)
    return struct.pack("=HH", 4 + len(code), _INET_DIAG_REQ_BYTECODE) + code


def split_messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Returns type and payload of each netlink message in a datagram."""
    offset = 0
    while offset + 16 <= len(received):
        length, kind = struct.unpack_from("=IH", received, offset)
        yield kind, received[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def parse_message(payload: bytes) -> Listener:
    """Returns the socket that a `struct inet_diag_msg` and its attributes describe."""
    family, port = payload[0], int.from_bytes(payload[4:6], "big")
    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    if family == socket.AF_INET:
        address = ipaddress.IPv4Address(payload[8:12])
    else:
        address = ipaddress.IPv6Address(payload[8:24])
        address = address.ipv4_mapped or address
    if not address.is_unspecified:
        return Listener(str(address), port, loopback_only=address.is_loopback)
    only_ipv6 = family == socket.AF_INET6 and _attributes(payload).get(_INET_DIAG_SKV6ONLY) == b"\1"
    return Listener("::1" if only_ipv6 else "127.0.0.1", port, loopback_only=False)


def _attributes(payload: bytes) -> dict[int, bytes]:
    found, offset = {}, _MESSAGE_BYTES
    while offset + 4 <= len(payload):
        length, kind = struct.unpack_from("=HH", payload, offset)
        found[kind] = payload[offset + 4 : offset + length]
        offset += (max(length, 4) + 3) & ~3
    return found


PROXY = Path("/usr/lib/systemd/systemd-socket-proxyd")
_BACKLOG = 1024  # connections that wait until the proxy takes them
_IDLE_BYTES = 64 * 1024 * 1024
_CONNECTION_BYTES = 160 * 1024  # two full pipes of 64 KiB, and what manages them
SUN_PATH_BYTES = 107  # struct sockaddr_un holds 108, the last one NUL

# LISTEN_PID must be the proxy's own id (sd_listen_fds(3)), and the socket descriptor 3. A
# connection takes six descriptors. SIGPIPE, which systemd would ignore, would kill the proxy when a
# visitor disconnects during an answer.
_LISTENING = """\
trap "" PIPE
ulimit -n "$(ulimit -H -n)"
export LISTEN_FDS=1 LISTEN_PID=$$
exec "$@"
"""


def limits(connections: int) -> Limits:
    """Returns the limits of a socket proxy for `connections` at the same time."""
    memory = _IDLE_BYTES + connections * _CONNECTION_BYTES
    return Limits(memory_bytes=memory, cpu_millis=1000, pids=32, disk_bytes=0)


def proxy_argv(enter: Sequence[str], *, listener: Listener, connections: int) -> list[str]:
    """Returns the proxy's command. `enter` enters the app's network; the socket is descriptor 3."""
    return [
        "/bin/sh", "-c", _LISTENING, "door",
        *enter, str(PROXY), f"--connections-max={connections}", listener.endpoint,
    ]  # fmt: skip


@contextmanager
def listening(path: Path, *, mode: int) -> Iterator[socket.socket]:
    """Makes a listening socket at `path` for a proxy, replacing what was there.

    Connections wait until the proxy accepts them. Raises OSError.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as endpoint:
        endpoint.bind(str(temporary))
        temporary.chmod(mode)
        endpoint.listen(_BACKLOG)
        temporary.rename(path)
        yield endpoint


def open_proxy(
    path: Path,
    *,
    groups: Sequence[Path],
    netns: Path,
    uid: int,
    listener: Listener,
    connections: int,
) -> None:
    """Starts a proxy from `path` to `listener`, as user `uid`. Raises OSError."""
    enter = bubblewrap.identity_argv(netns=netns, uid=uid)
    inner = proxy_argv(enter, listener=listener, connections=connections)
    with listening(path, mode=0o666) as endpoint:
        processes.detach(
            bubblewrap.launch_argv(bubblewrap.DETACHED_SOCKET, groups, inner),
            stdin=endpoint.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
