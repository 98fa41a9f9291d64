"""Which name servers apps use: the machine's own, as far as a network namespace reaches them."""

import ipaddress
from pathlib import Path

# In this order: systemd-resolved's stub listens on loopback only, and keeps the real ones here.
SOURCES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_MAX_SERVERS = 3  # what resolvers read (resolv.conf(5))


def parse_servers(text: str) -> tuple[str, ...]:
    """The IPv4 name servers of a `resolv.conf` that are not on loopback, in order."""
    servers = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] == "nameserver":
            try:
                address = ipaddress.IPv4Address(fields[1])
            except ValueError:
                continue  # IPv6, or no address at all, which resolvers pass over too
            if not address.is_loopback:
                servers.append(str(address))
    return tuple(dict.fromkeys(servers))[:_MAX_SERVERS]


def find_servers() -> tuple[str, ...]:
    """The machine's name servers that apps can reach; empty when there is none."""
    for source in SOURCES:
        if source.exists() and (servers := parse_servers(source.read_text())):
            return servers
    return ()


def resolv_conf(servers: tuple[str, ...]) -> str:
    """An app's `/etc/resolv.conf`."""
    return "".join(f"nameserver {server}\n" for server in servers)
