"""Listening sockets: the kernel's messages, and which one is routed to."""

import socket
import struct

import pytest

from moorage.engines.host.listeners import (
    Listener,
    choose,
    parse_message,
    request,
    split_messages,
)


def message(address: str, port: int, *, only_ipv6: bool | None = None) -> bytes:
    """A `struct inet_diag_msg` (linux/inet_diag.h), with INET_DIAG_SKV6ONLY where it is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    source = socket.inet_pton(family, address).ljust(16, b"\0")
    body = struct.pack("=BBBB", family, 10, 0, 0) + struct.pack(">HH", port, 0) + source
    body += bytes(16 + 12 + 20)
    assert len(body) == 72
    if only_ipv6 is not None:
        body += struct.pack("=HHB3x", 5, 8, 0) + struct.pack("=HHB3x", 5, 11, only_ipv6)
    return body


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (message("0.0.0.0", 3000), Listener("127.0.0.1", 3000, loopback_only=False)),
        (message("127.0.0.1", 8080), Listener("127.0.0.1", 8080, loopback_only=True)),
        (message("10.201.0.6", 80), Listener("10.201.0.6", 80, loopback_only=False)),
        (message("::", 3000, only_ipv6=False), Listener("127.0.0.1", 3000, loopback_only=False)),
        (message("::", 3000, only_ipv6=True), Listener("::1", 3000, loopback_only=False)),
        (message("::1", 3000, only_ipv6=False), Listener("::1", 3000, loopback_only=True)),
        (
            message("::ffff:127.0.0.1", 3000, only_ipv6=False),
            Listener("127.0.0.1", 3000, loopback_only=True),
        ),
        (
            message("::ffff:0.0.0.0", 3000, only_ipv6=False),
            Listener("127.0.0.1", 3000, loopback_only=False),
        ),
    ],
)
def test_listener_has_an_address_that_reaches_it(payload: bytes, expected: Listener) -> None:
    assert parse_message(payload) == expected


def listener(target: str, port: int, *, loopback: bool = False) -> Listener:
    return Listener(target, port, loopback_only=loopback)


def test_wanted_port_is_chosen_even_on_loopback() -> None:
    found = [listener("127.0.0.1", 80), listener("127.0.0.1", 3000, loopback=True)]
    assert choose(found, 3000) == found[1]


def test_ipv4_is_chosen_before_ipv6() -> None:
    found = [listener("::1", 3000), listener("127.0.0.1", 3000)]
    assert choose(found, 3000) == found[1]


def test_open_port_is_chosen_before_one_on_loopback() -> None:
    found = [listener("127.0.0.1", 80, loopback=True), listener("127.0.0.1", 8080)]
    assert choose(found, 3000) == found[1]


def test_lowest_port_is_chosen_among_equals() -> None:
    found = [listener("127.0.0.1", 9229), listener("127.0.0.1", 8080)]
    assert choose(found, 3000) == found[1]


def test_nothing_listening_is_no_choice() -> None:
    assert choose([], 3000) is None


def test_endpoint_is_cut_at_the_last_colon() -> None:
    assert listener("::1", 3000).endpoint.rpartition(":") == ("::1", ":", "3000")


def test_request_asks_for_listening_tcp_sockets() -> None:
    sent = request(socket.AF_INET)
    assert struct.unpack_from("=IHH", sent) == (len(sent), 20, 0x301)
    assert struct.unpack_from("=BBBxI", sent, 16) == (socket.AF_INET, 6, 0, 1 << 10)
    assert len(sent) == 16 + 56


def accepts(code: bytes, port: int) -> bool:
    """As the kernel runs struct inet_diag_bc_op (net/ipv4/inet_diag.c, inet_diag_bc_run)."""
    position, left = 0, len(code)
    while left > 0:
        operation, yes, no = struct.unpack_from("=BBH", code, position)
        operand = struct.unpack_from("=BBH", code, position + 4)[2]
        holds = {2: port >= operand, 3: port <= operand}[operation]
        left -= yes if holds else no
        position += yes if holds else no
    return left == 0


def test_request_for_a_port_is_filtered_by_the_kernel() -> None:
    sent = request(socket.AF_INET, port=3000)
    assert struct.unpack_from("=I", sent)[0] == len(sent)
    length, kind = struct.unpack_from("=HH", sent, 72)
    assert (length, kind) == (len(sent) - 72, 1)
    code = sent[76:]
    assert [port for port in range(65_536) if accepts(code, port)] == [3000]


def test_datagram_is_split_at_four_byte_boundaries() -> None:
    first = struct.pack("=IHHII", 21, 20, 2, 1, 0) + b"abcde" + bytes(3)
    second = struct.pack("=IHHII", 20, 3, 2, 1, 0) + bytes(4)
    assert list(split_messages(first + second)) == [(20, b"abcde"), (3, bytes(4))]
