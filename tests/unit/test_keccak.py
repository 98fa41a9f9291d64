from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from moorage.keccak import keccak256


def test_empty_input_has_ethereums_digest() -> None:
    """The code hash of every account without code."""
    assert keccak256(b"").hex() == (
        "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    )


@given(st.binary(max_size=300))
def test_digest_is_keccak_not_sha3(data: bytes) -> None:
    assert keccak256(data) == keccak(data)
