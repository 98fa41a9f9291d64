import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.auth.rate_limit import UNKNOWN, TrustedProxies, rate_limit_key
from support.gateway.clock import HOUR_MS, MovableClock

PROXY = "127.0.0.1"
PROXIES = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "fd00::/8"])


def test_forwarded_for_of_a_stranger_is_ignored() -> None:
    assert PROXIES.client_address("203.0.113.9", ["198.51.100.1"]) == "203.0.113.9"


def test_forwarded_for_is_ignored_where_no_proxy_is_configured() -> None:
    assert TrustedProxies().client_address(PROXY, ["198.51.100.1"]) == PROXY


def test_proxy_names_its_client() -> None:
    assert PROXIES.client_address(PROXY, ["198.51.100.1"]) == "198.51.100.1"


def test_what_the_client_claimed_left_of_its_address_is_hearsay() -> None:
    assert PROXIES.client_address(PROXY, ["1.1.1.1, 198.51.100.1"]) == "198.51.100.1"
    assert PROXIES.client_address(PROXY, ["1.1.1.1", "198.51.100.1"]) == "198.51.100.1"


def test_trusted_hops_are_skipped_from_the_right() -> None:
    fields = ["1.1.1.1, 198.51.100.1 ,10.1.2.3", "fd00::7"]
    assert PROXIES.client_address(PROXY, fields) == "198.51.100.1"


def test_proxies_all_the_way_give_the_leftmost() -> None:
    assert PROXIES.client_address(PROXY, ["10.0.0.1, 10.0.0.2"]) == "10.0.0.1"


def test_proxy_that_forwards_nothing_is_the_client() -> None:
    assert PROXIES.client_address(PROXY) == PROXY


@pytest.mark.parametrize(
    "entry", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "999.1.1.1", "x" * 5000, "1.2.3.4:x"]
)
def test_malformed_entry_leaves_the_last_trusted_hop(entry: str) -> None:
    assert PROXIES.client_address(PROXY, [f"198.51.100.1, {entry}"]) == PROXY
    assert PROXIES.client_address(PROXY, [f"198.51.100.1, {entry}, 10.9.9.9"]) == "10.9.9.9"


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("198.51.100.1:4711", "198.51.100.1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:198.51.100.1", "198.51.100.1"),
    ],
)
def test_address_has_one_spelling(entry: str, address: str) -> None:
    assert PROXIES.client_address(PROXY, [entry]) == address


def test_proxy_is_recognised_behind_a_dual_stack_socket() -> None:
    assert PROXIES.client_address("::ffff:127.0.0.1", ["198.51.100.1"]) == "198.51.100.1"


def test_unix_socket_is_trusted_only_when_named() -> None:
    assert PROXIES.client_address(None, ["198.51.100.1"]) == UNKNOWN
    assert TrustedProxies(["unix"]).client_address(None, ["198.51.100.1"]) == "198.51.100.1"
    assert TrustedProxies(["unix"]).client_address(PROXY, ["198.51.100.1"]) == PROXY


@pytest.mark.parametrize("network", ["localhost", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused(network: str) -> None:
    with pytest.raises(ValueError, match=r"address|network|bits"):
        TrustedProxies([network])


def test_ipv6_is_counted_by_its_64() -> None:
    assert rate_limit_key("2001:db8:1:2:3:4:5:6") == "2001:db8:1:2::/64"
    assert rate_limit_key("2001:db8:1:2::1") == rate_limit_key("2001:db8:1:2:ffff::1")
    assert rate_limit_key("2001:db8:1:3::1") != rate_limit_key("2001:db8:1:2::1")


def test_ipv4_is_counted_singly() -> None:
    assert rate_limit_key("198.51.100.1") == "198.51.100.1"
    assert rate_limit_key("::ffff:198.51.100.1") == "198.51.100.1"
    assert rate_limit_key(UNKNOWN) == UNKNOWN


@given(st.text(max_size=60), st.lists(st.text(max_size=60), max_size=4))
def test_any_text_gives_an_address_without_an_error(peer: str, fields: list[str]) -> None:
    for proxies in (PROXIES, TrustedProxies(["0.0.0.0/0", "::/0"])):
        rate_limit_key(proxies.client_address(peer, fields))
        rate_limit_key(proxies.client_address(PROXY, fields))


def test_network_with_thousands_of_64s_gets_a_few_keys_whoever_else_asks() -> None:
    proxies = TrustedProxies(clock=MovableClock())
    crowd = {proxies.limit_key(f"2001:db8:1:{number:x}::1") for number in range(2_000)}

    assert len(crowd) == 17
    assert "2001:db8:1::/48" in crowd
    assert proxies.limit_key("2001:db8:2:7::1") == "2001:db8:2:7::/64"
    assert proxies.limit_key("198.51.100.1") == "198.51.100.1"


def test_64_keeps_its_own_key_while_others_of_its_48_come() -> None:
    clock = MovableClock()
    proxies = TrustedProxies(clock=clock)
    for hour in range(4):
        assert proxies.limit_key("2001:db8:1:ffff::1") == "2001:db8:1:ffff::/64"
        for number in range(100):
            proxies.limit_key(f"2001:db8:1:{hour * 100 + number:x}::1")
        clock.advance(HOUR_MS)


def test_48_is_counted_by_its_64s_again_when_it_was_quiet() -> None:
    clock = MovableClock()
    proxies = TrustedProxies(clock=clock)
    for number in range(100):
        proxies.limit_key(f"2001:db8:1:{number:x}::1")
    assert proxies.limit_key("2001:db8:1:ffff::1") == "2001:db8:1::/48"

    clock.advance(2 * HOUR_MS)
    assert proxies.limit_key("2001:db8:1:ffff::1") == "2001:db8:1:ffff::/64"


def test_step_of_the_wall_clock_forgets_no_crowd() -> None:
    clock = MovableClock()
    proxies = TrustedProxies(clock=clock)
    for days in (1, -365, 365):
        for number in range(100):
            proxies.limit_key(f"2001:db8:1:{number:x}::1")
        clock.step(days * 24 * HOUR_MS)
        assert proxies.limit_key("2001:db8:1:ffff::1") == "2001:db8:1::/48"


def test_networks_without_number_are_not_all_remembered() -> None:
    proxies = TrustedProxies(clock=MovableClock())
    for number in range(17):
        proxies.limit_key(f"2001:db8:1:{number:x}::1")
    assert proxies.limit_key("2001:db8:1:ffff::1") == "2001:db8:1::/48"

    for number in range(10_000):
        proxies.limit_key(f"2002:{number:x}:1:2::1")
    assert proxies.limit_key("2001:db8:1:ffff::1") == "2001:db8:1:ffff::/64"
