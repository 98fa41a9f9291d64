"""The packet filter inside an app's own network namespace, where the app cannot change it.

What it lets out is what `sandbox.firewall` lets out. pasta opens a socket of the gateway's user for
each connection, so the machine's own addresses are forbidden one by one: there is no chain here
through which packets for the machine alone would come.
"""

import json
from dataclasses import dataclass

from moorage.engines.connection_limits import ConnectionLimits
from moorage.engines.isolation import firewall


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the filter is made from. Networks are IPv4 CIDRs."""

    deny: tuple[str, ...]  # the machine's own addresses among them
    allow: tuple[str, ...]
    resolvers: tuple[str, ...]
    traffic: ConnectionLimits


def ruleset(policy: Policy) -> str:
    """The text for `nft -f` that replaces what an app's namespace has."""
    rate = firewall.bandwidth(policy.traffic.app_bandwidth_mbit)
    return f"""\
table inet moorage {{}}
delete table inet moorage
table inet moorage {{
  chain from_app {{
    type filter hook output priority filter; policy accept;
    oifname "lo" accept
{rate}    ct state established,related accept
    meta nfproto != ipv4 drop
    ct state new ct count over {firewall.MAX_FLOWS} reject
{firewall.new_flows(policy.traffic.app_new_connections)}{firewall.destinations(policy)}  }}
  chain to_app {{
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
{rate}    ct state established,related accept
    drop
  }}
}}
"""


def own_addresses(addresses_json: str) -> tuple[str, ...]:
    """The machine's IPv4 addresses, from `ip -json -4 address`."""
    return tuple(
        f"{info['local']}/32" for link in json.loads(addresses_json) for info in link["addr_info"]
    )
