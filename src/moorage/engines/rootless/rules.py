"""Makes the packet filter inside an app's own network namespace, where the app cannot change it.

It allows the same destinations as `isolation.firewall`. pasta opens a socket of the gateway's user
for each connection, so no chain here sees only packets for the machine: the machine's own addresses
are denied one by one.
"""

import json
from dataclasses import dataclass

from moorage.engines.connection_limits import ConnectionLimits
from moorage.engines.isolation import firewall


@dataclass(frozen=True, kw_only=True)
class Policy:
    """The input of `ruleset`. Networks are IPv4 CIDRs."""

    deny: tuple[str, ...]  # with the machine's own addresses
    allow: tuple[str, ...]
    resolvers: tuple[str, ...]
    traffic: ConnectionLimits


def ruleset(policy: Policy) -> str:
    """Returns the text for `nft -f` that replaces the filter of an app's namespace."""
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
    """Returns the machine's IPv4 addresses, from the output of `ip -json -4 address`."""
    return tuple(
        f"{info['local']}/32" for link in json.loads(addresses_json) for info in link["addr_info"]
    )
