"""Where an app listens: the listening TCP sockets of its network namespace, by sock_diag(7).

`/proc/<pid>/net/tcp` would tell too, but walks every socket slot of the kernel: 1.6 ms where this
takes 0.05, which counts when it is asked every other millisecond while an app starts. An app may
listen on a hundred thousand sockets, so one port is looked for by a filter in the kernel, and of
all of them only the first are read.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from moorage.engines.host import kernel

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
    """A listening TCP socket; `target` is an address that reaches it from inside."""

    target: str  # "127.0.0.1", "10.201.0.6", "::1"
    port: int
    loopback_only: bool

    @property
    def endpoint(self) -> str:
        """As systemd-socket-proxyd takes it, which cuts at the last colon: `::1:3000`."""
        return f"{self.target}:{self.port}"


def choose(listeners: list[Listener], wanted_port: int) -> Listener | None:
    """The one to route to: the wanted port, else one open to all, else the lowest port.

    IPv4 comes before IPv6. None when nothing listens.
    """
    return min(
        listeners,
        key=lambda it: (it.port != wanted_port, it.loopback_only, it.port, ":" in it.target),
        default=None,
    )


class ListenerTable:
    """The listening sockets of one network namespace, to be asked again and again."""

    def __init__(self, diagnosis: socket.socket) -> None:
        self._diagnosis = diagnosis

    def on_port(self, port: int) -> list[Listener]:
        """What listens on `port` now. Raises OSError when the kernel can't tell."""
        return [
            parse_message(message)
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in self.dump(request(family, port=port))
        ]

    def connections_to(self, port: int) -> int:
        """How many connections `port` has taken and not closed, counted to MAX_CONNECTIONS.

        Those that wait to be accepted are among them. Raises OSError when the kernel can't tell.
        """
        asked = (
            request(family, port=port, states=_STATES_ESTABLISHED)
            for family in (socket.AF_INET6, socket.AF_INET)
        )
        messages = (message for question in asked for message in self.dump(question))
        return sum(1 for _ in islice(messages, MAX_CONNECTIONS))

    def dump(self, asked: bytes) -> Iterator[bytes]:
        """The kernel's answers to a request; one that is not read to its end spoils the table."""
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
    """The table of a network namespace. Raises OSError; FileNotFoundError without a namespace."""
    with kernel.socket_in(
        namespace, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG
    ) as diagnosis:
        diagnosis.settimeout(_TIMEOUT_SECONDS)
        yield ListenerTable(diagnosis)


def first_listeners(namespace: Path) -> list[Listener]:
    """What listens in a network namespace, at most MAX_LISTENERS of each family.

    Raises OSError; FileNotFoundError without a namespace.
    """
    found: list[Listener] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        with opened_table(namespace) as table:
            messages = islice(table.dump(request(family)), MAX_LISTENERS)
            found += [parse_message(message) for message in messages]
    return found


def request(family: int, *, port: int | None = None, states: int = _STATES_LISTEN) -> bytes:
    """The netlink message that asks for an address family's TCP sockets, the listening ones.

    `states` is a set of others, a bit for each; `port` is the sockets' own.
    """
    body = struct.pack("=BBBxI", family, socket.IPPROTO_TCP, 0, states) + bytes(48)
    if port is not None:
        body += _port_filter(port)
    header = struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST_DUMP, 1, 0)
    return header + body


def _port_filter(port: int) -> bytes:
    """Two operations, port >= and port <=, each with its operand behind it; a no leaves the end."""
    code = struct.pack("=BBHBBH", _BC_SOURCE_GE, 8, 20, 0, 0, port)
    code += struct.pack("=BBHBBH", _BC_SOURCE_LE, 8, 12, 0, 0, port)
    return struct.pack("=HH", 4 + len(code), _INET_DIAG_REQ_BYTECODE) + code


def split_messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each netlink message in a datagram."""
    offset = 0
    while offset + 16 <= len(received):
        length, kind = struct.unpack_from("=IH", received, offset)
        yield kind, received[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def parse_message(payload: bytes) -> Listener:
    """The socket that a `struct inet_diag_msg` and its attributes describe."""
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
