"""EIP-3009: what a payer signs, who signed it, and the call that settles it, as bytes."""

from functools import lru_cache

import msgspec
from coincurve import PublicKey

from moorage.address import key_address
from moorage.chains.receipt import parse_bytes32
from moorage.money import AtomicUnits
from moorage.signing import keccak256

MAX_SIGNATURE_BYTES = 4096  # a contract wallet's may contain several owners' signatures

AUTHORIZATION_USED_TOPIC = "0x" + keccak256(b"AuthorizationUsed(address,bytes32)").hex()

_TRANSFER = "transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,"
_BY_KEY = keccak256(f"{_TRANSFER}uint8,bytes32,bytes32)".encode())[:4]
_BY_CONTRACT = keccak256(f"{_TRANSFER}bytes)".encode())[:4]
_STATE = keccak256(b"authorizationState(address,bytes32)")[:4]

_DOMAIN_TYPE = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_TRANSFER_TYPE = keccak256(
    b"TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,"
    b"uint256 validBefore,bytes32 nonce)"
)

_KEY_SIGNATURE_BYTES = 65  # r, s, v
_HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
_RECOVERY_IDS = {0: 0, 1: 1, 27: 0, 28: 1}
_KEY_WORDS = 9  # six arguments, then v, r and s
_HEAD_BYTES = 7 * 32  # the bytes overload's arguments before the signature's own words


class Eip712Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token's name and version in its EIP-712 domain, which signatures include."""

    name: str  # "USD Coin": the contract's `name()`, not the symbol
    version: str


class TransferAuthorization(msgspec.Struct, frozen=True):
    """A signed permission to move `value` from `payer` to `recipient` once; anybody may send it.

    Addresses and nonce are lower-case hex with `0x`. It is valid strictly after `valid_after` and
    strictly before `valid_before`, by the chain's clock.
    """

    chain_id: int
    token_address: str
    payer: str
    recipient: str
    value: AtomicUnits
    valid_after: int  # Unix seconds, like the next; both up to 2**256 - 1
    valid_before: int
    nonce: str  # 32 bytes that the payer chose; the token accepts each once
    signature: bytes  # r, s, v of a key, or what the payer's contract accepts (ERC-1271)


def authorization_digest(authorization: TransferAuthorization, domain: Eip712Domain) -> bytes:
    """Returns the 32 bytes that the payer signs. Source: EIP-712, EIP-3009."""
    content = _TRANSFER_TYPE + _arguments(authorization)
    separator = domain_separator(domain, authorization.chain_id, authorization.token_address)
    return keccak256(b"\x19\x01" + separator + keccak256(content))


def signer_of(authorization: TransferAuthorization, domain: Eip712Domain) -> str | None:
    """Returns the account whose key signed, payer or not; None if no key can have signed."""
    return key_signer(authorization_digest(authorization, domain), authorization.signature)


def key_signer(digest: bytes, signature: bytes) -> str | None:
    """Returns the account whose key signed these 32 bytes; None if no key can have signed.

    No key signs with a length other than 65 bytes, a v other than 27, 28, 0 or 1, or a high s,
    which tokens refuse (EIP-2).
    """
    recovery_id = _RECOVERY_IDS.get(signature[64]) if _is_key_sized(signature) else None
    if recovery_id is None or not 0 < int.from_bytes(signature[32:64], "big") <= _HALF_ORDER:
        return None
    try:
        # It also checks r: not zero, within the group's order, and a point on the curve.
        key = PublicKey.from_signature_and_message(
            signature[:64] + bytes([recovery_id]), digest, None
        )
    except ValueError:
        return None
    return key_address(key.format(compressed=False))


def transfer_calldata(authorization: TransferAuthorization, *, by_key: bool) -> str:
    """Returns the calldata of `transferWithAuthorization`, hex with `0x`.

    With `by_key`, if the payer's own key signed (see `signer_of`), it calls the overload with v, r
    and s, where v is 27 or 28 as tokens expect. Raises ValueError if it is no key's signature.
    Otherwise it calls the overload with the unchanged signature as bytes, which the payer's
    contract checks.
    """
    arguments, signature = _arguments(authorization), authorization.signature
    if not by_key:
        padding = bytes(-len(signature) % 32)
        tail = _word(_HEAD_BYTES) + _word(len(signature)) + signature + padding
        return "0x" + (_BY_CONTRACT + arguments + tail).hex()
    if not _is_key_sized(signature) or signature[64] not in _RECOVERY_IDS:
        raise ValueError("a key's signature is r, s and v, and v is 27 or 28")
    v = 27 + _RECOVERY_IDS[signature[64]]
    return "0x" + (_BY_KEY + arguments + _word(v) + signature[:64]).hex()


def authorization_in(
    data: str, *, chain_id: int, token_address: str
) -> TransferAuthorization | None:
    """Returns the authorization in calldata that `transfer_calldata` made of a key's signature.

    None for any other calldata.
    """
    raw = bytes.fromhex(data[2:])
    words = [raw[at : at + 32] for at in range(4, len(raw), 32)]
    if raw[:4] != _BY_KEY or len(words) != _KEY_WORDS:
        return None
    payer, recipient, value, after, before, nonce, v, r, s = words
    return TransferAuthorization(
        chain_id=chain_id,
        token_address=token_address,
        payer="0x" + payer[12:].hex(),
        recipient="0x" + recipient[12:].hex(),
        value=AtomicUnits(int.from_bytes(value, "big")),
        valid_after=int.from_bytes(after, "big"),
        valid_before=int.from_bytes(before, "big"),
        nonce="0x" + nonce.hex(),
        signature=r + s + v[-1:],
    )


def judged_by_contract(calldata: str) -> bool:
    """Whether it is `transfer_calldata` whose signature the payer's contract checks."""
    return calldata.startswith("0x" + _BY_CONTRACT.hex())


def authorization_state_calldata(payer: str, nonce: str) -> str:
    """Returns the calldata of `authorizationState`; answers 1 if used or cancelled, else 0."""
    return "0x" + (_STATE + _address_word(payer) + _bytes32(nonce)).hex()


def authorization_used_topics(payer: str, nonce: str) -> list[str]:
    """Returns the topics, for `eth_getLogs`, of the event that this nonce was used."""
    return [AUTHORIZATION_USED_TOPIC, "0x" + _address_word(payer).hex(), parse_bytes32(nonce)]


@lru_cache(maxsize=64)
def domain_separator(domain: Eip712Domain, chain_id: int, token_address: str) -> bytes:
    """Returns the 32 bytes that the token's `DOMAIN_SEPARATOR()` answers if `domain` is right."""
    return keccak256(
        _DOMAIN_TYPE
        + keccak256(domain.name.encode())
        + keccak256(domain.version.encode())
        + _word(chain_id)
        + _address_word(token_address)
    )


def _arguments(authorization: TransferAuthorization) -> bytes:
    """Encodes the six arguments that both overloads and the signed struct have in common."""
    return (
        _address_word(authorization.payer)
        + _address_word(authorization.recipient)
        + _word(authorization.value)
        + _word(authorization.valid_after)
        + _word(authorization.valid_before)
        + _bytes32(authorization.nonce)
    )


def _is_key_sized(signature: bytes) -> bool:
    return len(signature) == _KEY_SIGNATURE_BYTES


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _address_word(address: str) -> bytes:
    return bytes.fromhex(address[2:]).rjust(32, b"\0")


def _bytes32(text: str) -> bytes:
    return bytes.fromhex(text[2:])
