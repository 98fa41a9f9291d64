"""Finds an app's sockets in `/proc/<pid>/net/tcp`, the only way without root.

An app may have a hundred thousand sockets, so only the first part of the table is read.
"""

import ipaddress
import struct
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.host.network.listeners import Listener

_ESTABLISHED, _LISTEN = 0x01, 0x0A  # net/tcp_states.h
_MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Socket:
    """One row of the table: the socket's local address, and its state."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int
    state: int


def parse_table(text: str) -> list[Socket]:
    """Returns the rows of `tcp` or `tcp6`, without one that is cut off."""
    rows = (line.split() for line in text.splitlines()[1:])
    return [_socket(row[1], int(row[3], 16)) for row in rows if len(row) > 3]


def _socket(end: str, state: int) -> Socket:
    number, _, port = end.partition(":")
    # Words of four bytes, each in native byte order.
    words = [int(number[at : at + 8], 16) for at in range(0, len(number), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Socket(address, int(port, 16), state)


def listeners(sockets: list[Socket]) -> list[Listener]:
    """Returns the listening sockets, with addresses that reach them from inside."""
    return [_listener(it) for it in sockets if it.state == _LISTEN]


def _listener(listening: Socket) -> Listener:
    address = listening.address
    if not address.is_unspecified:
        return Listener(str(address), listening.port, loopback_only=address.is_loopback)
    target = "127.0.0.1" if address.version == 4 else "::1"  # good for IPV6_V6ONLY, too
    return Listener(target, listening.port, loopback_only=False)


def connections(sockets: list[Socket], port: int) -> int:
    """Returns the number of open connections to `port`."""
    return sum(1 for it in sockets if it.state == _ESTABLISHED and it.port == port)


def sockets_of(holder: int) -> list[Socket]:
    """Returns the TCP sockets of a process's network namespace; none if it is gone."""
    return [it for name in ("tcp", "tcp6") for it in parse_table(_table(holder, name))]


def _table(holder: int, name: str) -> str:
    try:
        with Path(f"/proc/{holder}/net/{name}").open() as table:
            return table.read(_MAX_BYTES).rpartition("\n")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
