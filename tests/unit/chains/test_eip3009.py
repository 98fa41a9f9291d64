import base64
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_keys.datatypes import Signature
from eth_utils.abi import function_signature_to_4byte_selector
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from moorage.chains.chain import KNOWN_CHAINS
from moorage.chains.eip3009 import (
    Eip712Domain,
    TransferAuthorization,
    authorization_digest,
    authorization_in,
    authorization_state_calldata,
    authorization_used_topics,
    domain_separator,
    signer_of,
    transfer_calldata,
)

X402 = json.loads((Path(__file__).parents[2] / "vectors/x402_v2.json").read_text())
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
USDC = "0xaf88d065e77c8cc2239327c5edb3a432268e5831"
USD_COIN = Eip712Domain(name="USD Coin", version="2")
KEY = "0x" + "2f" * 32
PAYER = Account.from_key(KEY).address.lower()
PAY_TO = "0x" + "b2" * 20
NONCE = "0x" + "5c" * 32
ARGUMENTS = ["address", "address", "uint256", "uint256", "uint256", "bytes32"]
FIELDS = dict(
    zip(("from", "to", "value", "validAfter", "validBefore", "nonce"), ARGUMENTS, strict=True)
)

words = st.integers(min_value=0, max_value=2**256 - 1)
addresses = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
authorizations = st.builds(
    TransferAuthorization,
    chain_id=st.integers(min_value=1, max_value=2**53),
    token_address=addresses,
    payer=addresses,
    recipient=addresses,
    value=words,
    valid_after=words,
    valid_before=words,
    nonce=st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex()),
    signature=st.binary(min_size=1, max_size=200),
)


def authorization(**changed: Any) -> TransferAuthorization:
    given: dict[str, Any] = {
        "chain_id": 42161,
        "token_address": USDC,
        "payer": PAYER,
        "recipient": PAY_TO,
        "value": 500_000,
        "valid_after": 0,
        "valid_before": 1_800_000_000,
        "nonce": NONCE,
        "signature": b"",
    }
    return TransferAuthorization(**given | changed)


def values(of: TransferAuthorization) -> list[Any]:
    nonce = bytes.fromhex(of.nonce[2:])
    return [of.payer, of.recipient, of.value, of.valid_after, of.valid_before, nonce]


def typed_data(of: TransferAuthorization, domain: Eip712Domain) -> Any:
    return encode_typed_data(
        domain_data={
            "name": domain.name,
            "version": domain.version,
            "chainId": of.chain_id,
            "verifyingContract": of.token_address,
        },
        message_types={
            "TransferWithAuthorization": [
                {"name": name, "type": kind} for name, kind in FIELDS.items()
            ]
        },
        message_data=dict(zip(FIELDS, values(of), strict=True)),
    )


def signed(of: TransferAuthorization, *, key: str = KEY) -> TransferAuthorization:
    signature = Account.sign_message(typed_data(of, USD_COIN), key).signature
    return msgspec.structs.replace(of, signature=bytes(signature))


def with_v(of: TransferAuthorization, v: int) -> TransferAuthorization:
    return msgspec.structs.replace(of, signature=of.signature[:64] + bytes([v]))


@given(authorizations, st.text(max_size=20), st.text(max_size=5))
def test_digest_is_that_of_an_independent_eip_712(
    of: TransferAuthorization, name: str, version: str
) -> None:
    domain = Eip712Domain(name=name, version=version)
    message = typed_data(of, domain)
    assert authorization_digest(of, domain) == keccak(b"\x19\x01" + message.header + message.body)


def test_domain_separator_is_eip_712s_example() -> None:
    """The domain of `Ether Mail` in EIP-712's Example.sol."""
    separator = domain_separator(Eip712Domain(name="Ether Mail", version="1"), 1, "0x" + "cc" * 20)
    assert separator.hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"


def test_signer_of_x402s_example_is_its_payer() -> None:
    """The specification's PAYMENT-SIGNATURE holds a true signature, over Base Sepolia's USDC."""
    example = json.loads(base64.b64decode(X402["payment_signature"]))
    written, domain = example["payload"]["authorization"], example["accepted"]["extra"]
    of = authorization(
        chain_id=84532,
        token_address=example["accepted"]["asset"].lower(),
        payer=written["from"].lower(),
        recipient=written["to"].lower(),
        value=int(written["value"]),
        valid_after=int(written["validAfter"]),
        valid_before=int(written["validBefore"]),
        nonce=written["nonce"],
        signature=bytes.fromhex(example["payload"]["signature"][2:]),
    )
    assert signer_of(of, Eip712Domain(**domain)) == written["from"].lower()
    assert signer_of(of, USD_COIN) != written["from"].lower()


@pytest.mark.parametrize("chain", KNOWN_CHAINS.values(), ids=lambda chain: chain.name)
def test_usdc_takes_authorizations_and_usdt_takes_none(chain: Any) -> None:
    domains = {token.name: token.authorization for token in chain.tokens}
    assert domains.pop("usdc") == USD_COIN
    assert not any(domains.values())


@pytest.mark.parametrize(
    "changed",
    [
        {"chain_id": 8453},
        {"token_address": "0x" + "fd" * 20},
        {"recipient": PAYER},
        {"value": 500_001},
        {"valid_after": 1},
        {"valid_before": 1_800_000_001},
        {"nonce": "0x" + "5d" * 32},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_no_field_can_change_under_a_signature(changed: dict[str, Any]) -> None:
    of = signed(authorization())
    assert signer_of(of, USD_COIN) == PAYER
    assert signer_of(msgspec.structs.replace(of, **changed), USD_COIN) != PAYER


def test_signer_is_told_even_when_it_is_not_the_payer() -> None:
    other = "0x" + "7a" * 32
    of = signed(authorization(), key=other)
    assert signer_of(of, USD_COIN) == Account.from_key(other).address.lower()


def test_high_s_twin_has_no_signer() -> None:
    of = signed(authorization())
    s = int.from_bytes(of.signature[32:64])
    twin = of.signature[:32] + (ORDER - s).to_bytes(32) + bytes([55 - of.signature[64]])
    recovered = Signature(twin[:64] + bytes([twin[64] - 27]))
    digest = authorization_digest(of, USD_COIN)
    assert recovered.recover_public_key_from_msg_hash(digest).to_address() == PAYER
    assert signer_of(msgspec.structs.replace(of, signature=twin), USD_COIN) is None


@given(st.binary(max_size=130) | st.binary(min_size=65, max_size=65))
def test_any_bytes_have_a_signer_or_none(signature: bytes) -> None:
    signer = signer_of(authorization(signature=signature), USD_COIN)
    assert signer is None or (len(signature) == 65 and signer != PAYER)


def test_v_is_taken_as_wallets_write_it_and_sent_as_tokens_take_it() -> None:
    of = signed(authorization())
    short = with_v(of, of.signature[64] - 27)
    assert signer_of(short, USD_COIN) == PAYER
    assert transfer_calldata(short, by_key=True) == transfer_calldata(of, by_key=True)
    assert signer_of(with_v(of, 29), USD_COIN) is None


def test_calldata_of_a_keys_signature_is_the_abis() -> None:
    of = signed(authorization())
    r, s, v = of.signature[:32], of.signature[32:64], of.signature[64]
    types = [*ARGUMENTS, "uint8", "bytes32", "bytes32"]
    selector = function_signature_to_4byte_selector(f"transferWithAuthorization({','.join(types)})")
    expected = selector + encode(types, [*values(of), v, r, s])
    assert transfer_calldata(of, by_key=True) == "0x" + expected.hex()
    assert selector.hex() == "e3ee160e"


@given(authorizations)
def test_calldata_of_a_contracts_signature_is_the_abis(of: TransferAuthorization) -> None:
    types = [*ARGUMENTS, "bytes"]
    selector = function_signature_to_4byte_selector(f"transferWithAuthorization({','.join(types)})")
    expected = selector + encode(types, [*values(of), of.signature])
    assert transfer_calldata(of, by_key=False) == "0x" + expected.hex()


@pytest.mark.parametrize("signature", [b"", b"\x01" * 64, b"\x01" * 64 + b"\x1d", b"\x01" * 66])
def test_no_calldata_for_a_key_that_cannot_have_signed(signature: bytes) -> None:
    with pytest.raises(ValueError, match="r, s and v"):
        transfer_calldata(authorization(signature=signature), by_key=True)


def test_state_calldata_is_the_abis() -> None:
    selector = function_signature_to_4byte_selector("authorizationState(address,bytes32)")
    expected = selector + encode(["address", "bytes32"], [PAYER, bytes.fromhex(NONCE[2:])])
    assert authorization_state_calldata(PAYER, NONCE) == "0x" + expected.hex()


def test_searched_topics_are_those_of_eip_3009s_event() -> None:
    event = keccak(text="AuthorizationUsed(address,bytes32)")
    authorizer, nonce = encode(["address"], [PAYER]), bytes.fromhex(NONCE[2:])
    topics = ["0x" + topic.hex() for topic in (event, authorizer, nonce)]
    assert authorization_used_topics(PAYER, NONCE) == topics


def test_calldata_of_a_keys_authorization_is_read_back() -> None:
    wish = signed(authorization())
    by_key, by_contract = (transfer_calldata(wish, by_key=each) for each in (True, False))
    read = [
        authorization_in(data, chain_id=42161, token_address=USDC)
        for data in (by_key, by_contract, "0x")
    ]
    assert read == [wish, None, None]
