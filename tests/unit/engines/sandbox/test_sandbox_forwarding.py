"""The rules by which visitors reach an app, and which listeners they can lead to."""

import pytest

from moorage.engines.host.network.listeners import Listener
from moorage.engines.isolation.forwarding import Forwarding, new_port, reaches, ruleset

LOOPBACK = Listener("127.0.0.1", 3000, loopback_only=True)


def test_one_port_leads_to_the_listener_and_no_other_is_let_in() -> None:
    assert (
        ruleset(Forwarding(port=41_234, listener=LOOPBACK, connections=7))
        == """\
table inet visits {}
delete table inet visits
table inet visits {
  chain untracked_in {
    type filter hook prerouting priority raw; policy accept;
    iifname "eth0" tcp dport 41234 accept
    notrack
  }
  chain untracked_out {
    type filter hook output priority raw; policy accept;
    oifname "lo" tcp sport 3000 ip saddr 127.0.0.1 accept
    notrack
  }
  chain forwarded {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "eth0" tcp dport 41234 dnat ip to 127.0.0.1:3000
  }
  chain from_loopback {
    type nat hook input priority srcnat; policy accept;
    iifname "eth0" ct status dnat snat ip to 127.0.0.1
  }
  chain admitted {
    type filter hook input priority filter; policy accept;
    iifname "eth0" ct state new ct count over 7 reject with tcp reset
    iifname "eth0" ct state untracked tcp flags & (syn | ack) == syn reject with tcp reset
  }
}
"""
    )


@pytest.mark.parametrize(
    ("target", "is_reached"), [("127.0.0.1", True), ("10.201.0.6", True), ("::1", False)]
)
def test_only_ipv4_can_be_forwarded_to(target: str, *, is_reached: bool) -> None:
    assert reaches(Listener(target, 3000, loopback_only=False)) is is_reached


def test_ports_differ_and_need_no_privilege() -> None:
    ports = [new_port() for _ in range(1_000)]
    assert min(ports) >= 10_000
    assert max(ports) < 60_000
    assert len(set(ports)) > 900
