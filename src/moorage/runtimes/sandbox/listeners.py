"""Where an app listens: `/proc/<pid>/net/tcp` and `tcp6` of its network namespace."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

_STATE_LISTEN = "0A"


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


def parse_listeners(table: str) -> list[Listener]:
    """The listening sockets of a `/proc/net/tcp` or `tcp6` table, in its order."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split(maxsplit=4)
        if len(fields) >= 4 and fields[3] == _STATE_LISTEN:
            address, _, port = fields[1].partition(":")
            found.append(_listener(address, int(port, 16)))
    return found


def _listener(address_hex: str, port: int) -> Listener:
    """The kernel prints an address as 32-bit words of the machine's (little endian) order."""
    words = [address_hex[i : i + 8] for i in range(0, len(address_hex), 8)]
    packed = b"".join(bytes.fromhex(word)[::-1] for word in words)
    address = ipaddress.ip_address(packed)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        target = "::1" if isinstance(address, ipaddress.IPv6Address) else "127.0.0.1"
        return Listener(target, port, loopback_only=False)
    return Listener(str(address), port, loopback_only=address.is_loopback)


def choose(listeners: list[Listener], wanted_port: int) -> Listener | None:
    """The one to route to: the wanted port, else one open to all, else the lowest port.

    IPv4 comes before IPv6. None when nothing listens.
    """
    return min(
        listeners,
        key=lambda it: (it.port != wanted_port, it.loopback_only, it.port, ":" in it.target),
        default=None,
    )


def read_listeners(pid: int) -> list[Listener]:
    """What listens in the network namespace of `pid`; empty when the process is gone."""
    tables = []
    for name in ("tcp", "tcp6"):
        try:
            tables.append(Path(f"/proc/{pid}/net/{name}").read_text())
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue  # gone, or a kernel without IPv6
    return [listener for table in tables for listener in parse_listeners(table)]
