"""The rules by which visitors reach an app, and which listeners they can lead to."""

import pytest

from moorage.engines.host.listeners import Listener
from moorage.engines.isolation.network import Forwarding, Ports, reaches, ruleset

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


def test_no_port_comes_twice_at_one_address_before_all_others_and_none_needs_privilege() -> None:
    ports = Ports()
    given = {ports.new(7) for _ in range(50_000)}
    assert (min(given), max(given), len(given)) == (10_000, 59_999, 50_000)


def test_addresses_begin_with_ports_of_their_own() -> None:
    ports = Ports()
    assert len({ports.new(slot) for slot in range(1_000)}) > 900


def test_app_from_before_the_start_keeps_its_port_to_itself() -> None:
    ports = Ports()
    ports.note(7, 12_345)
    assert 12_345 not in {ports.new(7) for _ in range(49_999)}
    ports.note(7, 12_345)  # which tells nothing new
    assert ports.new(7) == 12_345
