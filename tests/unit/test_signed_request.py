"""What version 2 signs, against eth_account's typed data."""

import hashlib
from typing import Any

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from moorage.signing import Target, content_digest, host_of
from support.clients.typed_request import typed_data

WALLET = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


@given(
    host=TEXT,
    method=TEXT,
    path=TEXT,
    nonce=TEXT,
    body_digest=st.binary(min_size=32, max_size=32),
    on_behalf_of=st.sampled_from(["", "0x" + "ab" * 20]),
    timestamp=st.integers(0, 10**15 - 1),
)
def test_digest_is_the_typed_datas(timestamp: int, nonce: str, **target: Any) -> None:
    expected = typed_data(wallet=WALLET, timestamp=timestamp, nonce=nonce, **target)

    digest = Target(**target).digest(wallet=WALLET.lower(), timestamp_ms=timestamp, nonce=nonce)

    assert digest == keccak(b"\x19" + expected.version + expected.header + expected.body)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Gateway.Example", "gateway.example"),
        ("https://gateway.example:443/", "gateway.example"),
        ("https://gateway.example:80", "gateway.example:80"),
        ("http://gateway.example:80", "gateway.example"),
        ("http://127.0.0.1:8402", "127.0.0.1:8402"),
        ("http://[::1]:8402", "[::1]:8402"),
        ("http://[::80]", "[::80]"),
        ("https://user@gateway.example/api", "gateway.example"),
    ],
)
def test_host_is_spelled_one_way(url: str, host: str) -> None:
    assert host_of(url) == host


def test_content_digest_is_written_as_rfc_9530_has_it() -> None:
    """The value of RFC 9530's own example, appendix B.1."""
    body = b'{"hello": "world"}\n'
    digest = hashlib.sha256(body).digest()
    assert content_digest(digest) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
