from collections.abc import Callable

import pytest
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from moorage.signing import keccak256, openssl_digest, pycryptodome_digest

EVERY_DIGEST = [
    digest for digest in (keccak256, openssl_digest(), pycryptodome_digest()) if digest is not None
]
every_digest = pytest.mark.parametrize("digest", EVERY_DIGEST)


@every_digest
def test_empty_input_has_ethereums_digest(digest: Callable[[bytes], bytes]) -> None:
    """The code hash of every account without code."""
    assert digest(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@every_digest
@given(data=st.binary(max_size=300))
def test_digest_is_keccak_not_sha3(digest: Callable[[bytes], bytes], data: bytes) -> None:
    assert digest(data) == keccak(data)


def test_a_machine_without_keccak_in_openssl_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ValueError(f"unsupported hash type {name}")

    monkeypatch.setattr("hashlib.new", refuse)
    assert openssl_digest() is None
