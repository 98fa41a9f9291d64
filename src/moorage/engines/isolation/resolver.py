"""Finds the name servers for apps: those of the machine that a network namespace can reach."""

import ipaddress
from pathlib import Path

# In this order. The second has the real servers if the first names only systemd-resolved's stub,
# which is on loopback.
SOURCES = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
_MAX_SERVERS = 3  # resolvers read no more (resolv.conf(5))


def parse_servers(text: str) -> tuple[str, ...]:
    """Returns the IPv4 name servers in a `resolv.conf` that are not on loopback, in order."""
    servers = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[0] == "nameserver":
            try:
                address = ipaddress.IPv4Address(fields[1])
            except ValueError:
                continue  # IPv6, or no address, which resolvers skip too
            if not address.is_loopback:
                servers.append(str(address))
    return tuple(dict.fromkeys(servers))[:_MAX_SERVERS]


def find_servers() -> tuple[str, ...]:
    """Returns the machine's name servers that apps can reach; empty when there is none."""
    for source in SOURCES:
        if source.exists() and (servers := parse_servers(source.read_text())):
            return servers
    return ()


def resolv_conf(servers: tuple[str, ...]) -> str:
    """Returns the text of an app's `/etc/resolv.conf`."""
    return "".join(f"nameserver {server}\n" for server in servers)
