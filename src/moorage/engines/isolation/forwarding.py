"""Forwards one port of an app's address to the port that the app listens on, in the kernel.

The rules are in the app's own network, where the app has no right to change them. An app sees each
visitor's connection come from 127.0.0.1, as from a proxy beside it, also if it listens on loopback
alone. All other new connections from the host are refused. Each deployment has a port of its own:
whoever still asks for an app that is gone does not reach the next one at that address.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.host import tool
from moorage.engines.host.network.listeners import Listener

_FIRST_PORT, _PORTS = 10_000, 50_000

# The kernel lets packets for 127.0.0.1 in by the app's interface, which only the host is on. It
# keeps no memory of a connection that it did not see begin, and little of one that has ended.
_LOAD = """\
set -eu
echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
nft -f -
echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose
echo 2 > /proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait
"""


@dataclass(frozen=True, kw_only=True)
class Forwarding:
    """From a port of the app's address to `listener`, for so many connections at a time."""

    port: int
    listener: Listener
    connections: int


def reaches(listener: Listener) -> bool:
    """Returns whether a listener can be forwarded to: IPv4 can't be led to IPv6's loopback."""
    return ":" not in listener.target


class Ports:
    """Gives ports to deployments: at one address none twice, until all others were given there."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}  # by slot

    def new(self, slot: int) -> int:
        """Returns a port for a deployment in `slot`, which none before it had there."""
        last = self._last.get(slot)
        at = secrets.randbelow(_PORTS) if last is None else (last - _FIRST_PORT + 1) % _PORTS
        self._last[slot] = _FIRST_PORT + at
        return self._last[slot]

    def note(self, slot: int, port: int) -> None:
        """Notes a port that a deployment was given before this gateway's start."""
        self._last.setdefault(slot, port)


def ruleset(forwarding: Forwarding) -> str:
    """Returns the text for `nft -f -` that replaces the table in one transaction.

    The kernel tracks the forwarded connections alone, so that an app can't fill its memory with
    others. The answers of a forwarded connection leave by loopback, until they are translated.
    """
    target, port = forwarding.listener.target, forwarding.listener.port
    return f"""\
table inet visits {{}}
delete table inet visits
table inet visits {{
  chain untracked_in {{
    type filter hook prerouting priority raw; policy accept;
    iifname "eth0" tcp dport {forwarding.port} accept
    notrack
  }}
  chain untracked_out {{
    type filter hook output priority raw; policy accept;
    oifname "lo" tcp sport {port} ip saddr {target} accept
    notrack
  }}
  chain forwarded {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" tcp dport {forwarding.port} dnat ip to {target}:{port}
  }}
  chain from_loopback {{
    type nat hook input priority srcnat; policy accept;
    iifname "eth0" ct status dnat snat ip to 127.0.0.1
  }}
  chain admitted {{
    type filter hook input priority filter; policy accept;
    iifname "eth0" ct state new ct count over {forwarding.connections} reject with tcp reset
    iifname "eth0" ct state untracked tcp flags & (syn | ack) == syn reject with tcp reset
  }}
}}
"""


def load(forwarding: Forwarding, *, netns: Path) -> None:
    """Forwards the port in a network, in place of what was forwarded there. Raises OSError."""
    argv = ["nsenter", f"--net={netns}", "/bin/sh", "-c", _LOAD]
    tool.run(argv, stdin=ruleset(forwarding))
