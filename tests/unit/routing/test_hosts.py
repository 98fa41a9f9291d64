"""Host names, as they come in a header."""

import pytest

from moorage.routing.haproxy_config import host_of_header, is_host


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("a.localhost", "a.localhost"),
        ("a.localhost:8080", "a.localhost"),
        ("a.localhost.", "a.localhost"),
        ("a.localhost.:8080", "a.localhost"),
        ("A.localhost", "A.localhost"),
        ("[::1]:8080", "[::1]"),
        ("", ""),
    ],
)
def test_port_and_trailing_dot_are_dropped(header: str, host: str) -> None:
    assert host_of_header(header) == host


def test_host_name_has_at_most_253_characters() -> None:
    longest = ".".join(["a" * 63] * 3 + ["a" * 61])
    assert len(longest) == 253
    assert is_host(longest)
    assert not is_host(longest + "a")
