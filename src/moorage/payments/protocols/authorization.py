"""Parses an EIP-3009 authorization in the JSON that both x402 and MPP use."""

import re

import msgspec

from moorage.chains.address import parse_address
from moorage.chains.eip3009 import MAX_SIGNATURE_BYTES, TransferAuthorization
from moorage.chains.encoding import parse_bytes32
from moorage.errors import PaymentMalformed
from moorage.money import atomic_units

_UINT256 = re.compile(r"[0-9]{1,78}")
_SIGNATURE = re.compile(rf"0x(?:[0-9a-fA-F]{{2}}){{1,{MAX_SIGNATURE_BYTES}}}")


class WrittenAuthorization(msgspec.Struct, frozen=True, rename="camel"):
    """The members of an authorization: numbers are strings of decimal digits, the rest is hex."""

    payer: str = msgspec.field(name="from")
    recipient: str = msgspec.field(name="to")
    value: str
    valid_after: str
    valid_before: str
    nonce: str


def read_authorization(
    written: WrittenAuthorization, *, signature: str, chain_id: int, token_address: str, field: str
) -> TransferAuthorization:
    """Returns the authorization for the token at `token_address`. Raises PaymentMalformed.

    The error names `field`. A signature has 1 to MAX_SIGNATURE_BYTES bytes; whether it is the
    payer's isn't checked here.
    """
    try:
        return TransferAuthorization(
            chain_id=chain_id,
            token_address=parse_address(token_address),
            payer=parse_address(written.payer),
            recipient=parse_address(written.recipient),
            value=atomic_units(parse_uint256(written.value)),
            valid_after=parse_uint256(written.valid_after),
            valid_before=parse_uint256(written.valid_before),
            nonce=parse_bytes32(written.nonce),
            signature=_parse_signature(signature),
        )
    except ValueError as error:
        raise PaymentMalformed(field, str(error)) from error


def parse_uint256(text: str) -> int:
    """Parses a string of decimal digits as a number below 2**256. Raises ValueError."""
    if _UINT256.fullmatch(text) is None or (value := int(text)) >= 2**256:
        raise ValueError("a uint256 is written in decimal digits")
    return value


def _parse_signature(text: str) -> bytes:
    if _SIGNATURE.fullmatch(text) is None:
        raise ValueError(f"a signature is 0x and hex of {MAX_SIGNATURE_BYTES} bytes at most")
    return bytes.fromhex(text[2:])
