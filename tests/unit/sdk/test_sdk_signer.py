"""The client's signatures, against eth_account's."""

import uuid

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct

from moorage.sdk.errors import ClientMisconfigured
from moorage.sdk.payment import SendingTerms, unsigned_transfer
from moorage.sdk.signer import Signer
from moorage.signing import Target
from support.clients.offers import an_offer
from support.clients.typed_request import typed_data

KEY = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"  # as eth_account documents it


class Noon:
    def now_ms(self) -> int:
        return 1_767_268_800_123

    def monotonic_seconds(self) -> float:
        return 0.0


def test_address_is_the_keys_in_checksum_case() -> None:
    assert Signer(KEY).address == ADDRESS


@pytest.mark.parametrize("text", ["", "x", "ü" * 40, "a:b:c"])
def test_signature_is_personal_sign(text: str) -> None:
    expected = Account.sign_message(encode_defunct(text=text), KEY).signature
    assert Signer(KEY).sign_text(text) == "0x" + bytes(expected).hex()


def test_headers_sign_wallet_timestamp_and_nonce() -> None:
    headers = Signer(KEY, clock=Noon()).headers()
    assert headers["X-Wallet-Address"] == ADDRESS
    assert headers["X-Timestamp"] == "1767268800123"
    assert str(uuid.UUID(headers["X-Nonce"])) == headers["X-Nonce"]
    text = f"{ADDRESS}:1767268800123:{headers['X-Nonce']}"
    signer = Account.recover_message(encode_defunct(text=text), signature=headers["X-Signature"])
    assert signer == ADDRESS


def test_bound_headers_sign_the_request_as_typed_data() -> None:
    digest = b"\xb0" * 32
    target = Target(host="gw.example", method="POST", path="/agent/deploy", body_digest=digest)
    headers = Signer(KEY, clock=Noon()).headers(target)
    assert headers["X-Signature-Version"] == "2"
    assert headers["Content-Digest"] == "sha-256=:sLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLA=:"
    message = typed_data(
        wallet=ADDRESS,
        host="gw.example",
        method="POST",
        path="/agent/deploy",
        body_digest=digest,
        timestamp=1767268800123,
        nonce=headers["X-Nonce"],
    )
    assert Account.recover_message(message, signature=headers["X-Signature"]) == ADDRESS


def test_every_request_has_a_nonce_of_its_own() -> None:
    signer = Signer(KEY)
    assert len({signer.headers()["X-Nonce"] for _ in range(100)}) == 100


def test_key_is_in_no_text_of_the_signer() -> None:
    signer = Signer(KEY)
    assert KEY[2:] not in repr(signer) + str(signer)


@pytest.mark.parametrize(
    "key", ["", "0x", "11" * 31, "11" * 33, "zz" * 32, "00" * 32, "ff" * 32, "1 1" * 21 + "1"]
)
def test_malformed_key_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(ClientMisconfigured) as caught:
        Signer(key)
    assert str(caught.value) == "a private key is 0x and 64 hex digits"
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("tip", [None, 1_000], ids=["legacy", "eip-1559"])
def test_signed_transfer_is_this_wallets_on_its_chain(tip: int | None) -> None:
    terms = SendingTerms(
        nonce=7,
        gas=60_000,
        max_fee_per_gas=30_000_000,
        max_priority_fee_per_gas=tip,
        wei=10**18,
    )
    signed = Signer(KEY).sign_transaction(unsigned_transfer(an_offer(), terms))
    assert Account.recover_transaction(signed.raw) == ADDRESS
    assert signed.raw.startswith("0x02") == (tip is not None)
