"""Attempts to reach what an app must not reach: the host, neighbours, private networks."""

import contextlib
import os
import select
import socket
import struct
from pathlib import Path

from attempt import LIBC, Refused, main

# Where it must succeed it may take long on a busy machine; where it must not, it is waited for.
TIMEOUT_SECONDS = float(os.environ.get("ATTEMPT_SECONDS", "3"))


def gateway_address() -> str:
    """The default gateway's IPv4 address, from this network namespace's own routes."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return socket.inet_ntoa(struct.pack("<L", int(fields[2], 16)))
    raise Refused("no default route")


def resolved(host: str) -> str:
    """`host`, or what the word `gateway` stands for in here."""
    return gateway_address() if host == "gateway" else host


def tcp(host: str, port: str) -> str:
    """Read a service's greeting."""
    with socket.create_connection((resolved(host), int(port)), TIMEOUT_SECONDS) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        greeting = connection.recv(100)
    if not greeting.startswith(b"reached"):
        raise Refused(f"no greeting: {greeting!r}")
    return greeting.decode().strip()


def udp(host: str, port: str) -> str:
    """Have a datagram answered."""
    address = resolved(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
        endpoint.settimeout(TIMEOUT_SECONDS)
        endpoint.connect((address, int(port)))
        endpoint.send(b"hello")
        return endpoint.recv(100).decode().strip()


def udp_nearby(port: str) -> str:
    """Have a host on the same link answer to broadcast and multicast, IPv4 and IPv6."""
    v4 = ("255.255.255.255", "224.0.0.1")
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as four,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as six,
    ):
        four.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for index, name in socket.if_nameindex():
            if name != "lo":
                _try_send(six, ("ff02::1", int(port), 0, index))
        for address in v4:
            _try_send(four, (address, int(port)))
        answered, _, _ = select.select([four, six], [], [], TIMEOUT_SECONDS)
        if not answered:
            raise TimeoutError
        greeting, sender = answered[0].recvfrom(100)
    return f"{greeting.decode().strip()} from {sender[0]}"


def _try_send(endpoint: socket.socket, address: tuple[str | int, ...]) -> None:
    with contextlib.suppress(OSError):
        endpoint.sendto(b"hello", address)


def unix(path: str) -> str:
    """Read the greeting of a unix socket; `@name` is an abstract one."""
    name = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(name)
        return connection.recv(100).decode().strip()


def connect(*addresses: str) -> str:
    """Connect to any of several `unix:/path` or `host:port`, whoever listens there."""
    last = OSError(2, "")
    for address in addresses:
        host, _, port = address.rpartition(":")
        is_unix = host == "unix"
        with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            try:
                connection.connect(port if is_unix else (host, int(port)))
            except OSError as error:
                last = error
            else:
                return f"connected to {address}"
    raise last


def raw() -> str:
    """Open a raw IP socket."""
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    return "opened"


def raw6() -> str:
    """Open a raw IPv6 socket."""
    socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6).close()
    return "opened"


def packet() -> str:
    """Open a packet socket, which sees every frame."""
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)).close()
    return "opened"


def vsock() -> str:
    """Open a socket to the hypervisor, which no network namespace contains."""
    socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    return "opened"


def other_families() -> str:
    """Open a socket of any family besides unix, IPv4, IPv6 and netlink."""
    opened = []
    for family in range(2, 64):
        if family in {socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK}:
            continue
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
            try:
                socket.socket(family, kind).close()
            except OSError:
                continue
            opened.append(family)
            break
    if not opened:
        raise Refused("none opened")
    return f"opened families {opened}"


def other_types() -> str:
    """Open a socket of a rare type: old packet sockets, DCCP, reliable datagrams, raw ones."""
    opened = []
    for family, kind in ((2, 10), (2, 6), (2, 4), (2, 3), (10, 3), (1, 3)):
        for flags in (0, socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK):
            number = LIBC.socket(family, kind | flags, 1 if kind == socket.SOCK_RAW else 0)
            if number >= 0:
                os.close(number)
                opened.append((family, kind))
    if not opened:
        raise Refused("none opened")
    return f"opened families and types {opened}"


def source_route() -> str:
    """Say by which hosts a packet is to go: loose source routing (RFC 791)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        route = bytes([131, 11, 4, 11, 66, 66, 66, 127, 0, 0, 1, 0])
        endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, route)
    return "set"


def netlink_families() -> str:
    """Open the netlink families beyond routes: audit, netfilter, kernel events, crypto."""
    opened = []
    for protocol in (4, 6, 9, 12, 15, 16, 18, 20, 21):
        try:
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol).close()
        except OSError:
            continue
        opened.append(protocol)
    if not opened:
        raise Refused("none opened")
    return f"opened netlink protocols {opened}"


def _netlink(kind: int, flags: int, body: bytes) -> str:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as link:
        link.bind((0, 0))
        header = struct.pack("=IHHII", 16 + len(body), kind, flags | 0x1 | 0x4, 1, 0)
        link.send(header + body)
        code = -struct.unpack_from("=i", link.recv(4096), 16)[0]
    if code:
        raise OSError(code, "")
    return "accepted by the kernel"


def netlink_add_address() -> str:
    """Give the loopback interface another address."""
    attribute = struct.pack("=HH4s", 8, 2, bytes([169, 254, 169, 253]))
    return _netlink(20, 0x600, struct.pack("=BBBBI", 2, 32, 0, 0, 1) + attribute)


def netlink_add_route() -> str:
    """Add a route through the loopback interface."""
    body = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 3, 253, 1, 0)
    body += struct.pack("=HH4s", 8, 1, bytes([11, 9, 9, 9])) + struct.pack("=HHI", 8, 4, 1)
    return _netlink(24, 0x600, body)


def netlink_set_link_down() -> str:
    """Take the loopback interface down."""
    return _netlink(16, 0, struct.pack("=BxHiII", 0, 0, 1, 0, 1))


def low_port() -> str:
    """Listen on a port below 1024 without any capability."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sets = [line.split() for line in lines if line.startswith("Cap")]
    held = [f"{name} {bits}" for name, bits in sets if int(bits, 16) and name != "CapBnd:"]
    if held:
        raise Refused(f"it has capabilities: {held}")
    with socket.create_server(("127.0.0.1", 80)):
        return "listens"


main(
    {
        "low-port": low_port,
        "tcp": tcp,
        "udp": udp,
        "udp-nearby": udp_nearby,
        "unix": unix,
        "connect": connect,
        "raw": raw,
        "raw6": raw6,
        "packet": packet,
        "vsock": vsock,
        "other-families": other_families,
        "other-types": other_types,
        "source-route": source_route,
        "netlink-families": netlink_families,
        "netlink-add-address": netlink_add_address,
        "netlink-add-route": netlink_add_route,
        "netlink-link-down": netlink_set_link_down,
    }
)
