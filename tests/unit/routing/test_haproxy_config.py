"""The proxy's configuration: what its bounds are made of, and what never stands in it."""

import re
from dataclasses import replace
from pathlib import Path

from moorage.routing.haproxy_config import Api, ProxySettings, answers, haproxy_config

MIB = 1 << 20
DEV = ProxySettings(
    run_dir=Path("/run/moorage"),
    state_dir=Path("/data/proxy"),
    base_domain="localhost",
    http_port=8080,
)
SERVE = ProxySettings(
    run_dir=Path("/run/a directory"),
    state_dir=Path("/data/proxy"),
    base_domain="apps.example.com",
    former_domains=("old.example.org",),
    listen_address="",
    http_port=80,
    https_port=443,
    memory_bytes=409 * MIB,
    visitor_connections=512,
    trusted_proxies=("192.0.2.0/24", "2001:db8::/32"),
    api=Api(host="gateway.example.com", dial="127.0.0.1:8402"),
)


def bounds(settings: ProxySettings) -> list[int]:
    """Connections in all, and of visitors."""
    return [int(number) for number in re.findall(r"^ +maxconn (\d+)$", text(settings), re.M)]


def text(settings: ProxySettings) -> str:
    return haproxy_config(settings)


def test_what_visitors_may_have_fits_into_the_memory() -> None:
    """By what was measured: 63 KiB a connection, 48 KiB a request, 40 MiB without any."""
    for mib in (100, 200, 300):
        settings = replace(SERVE, memory_bytes=mib * MIB)
        _, connections = bounds(settings)
        (half,) = set(re.findall(r"sc_conn_cur\(3\) gt (\d+)", text(settings)))
        taken = connections * 63 * 1024 + 2 * int(half) * 48 * 1024
        assert 0.9 * (mib - 40) * MIB < taken <= (mib - 40) * MIB


def test_connections_within_the_proxy_take_no_visitors_place() -> None:
    within, of_visitors = bounds(SERVE)
    assert within == 3 * of_visitors


def test_trusted_proxies_are_counted_by_no_address() -> None:
    lines = text(SERVE).splitlines()
    tracked = [line for line in lines if "track-sc" in line and "src" in line]
    assert len(tracked) == 3
    assert all(line.endswith("!trusted") for line in tracked)
    for network in SERVE.trusted_proxies:
        assert f"    acl trusted src {network}" in lines


def test_no_bound_of_an_address_stands_where_none_is_set() -> None:
    assert "track-sc" not in text(DEV)
    assert "stick-table" not in text(DEV)


def test_paths_are_relative_so_that_no_space_in_one_matters() -> None:
    assert "/run/" not in text(SERVE)
    assert "/data/" not in text(SERVE)


def test_sockets_of_apps_are_servers_of_each_backend_that_reaches_apps() -> None:
    made = haproxy_config(DEV, servers=["s0123"])
    assert made.count("    server s0123 unix@sockets/s0123 weight 0\n") == 4


def test_own_answers_are_one_line_each_for_people_and_for_programs() -> None:
    for content in answers().values():
        assert [line.partition(" ")[0] for line in content.splitlines()] == ["json", "page"]
