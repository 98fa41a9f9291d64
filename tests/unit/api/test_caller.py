"""Who asks, what carries proof of payment, and whether a body is the one that was signed."""

import hashlib
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message

from moorage.api.http.caller import Caller, Person, carries_proof, signed_body
from moorage.api.http.request_context import PAID
from moorage.errors import SignatureInvalid
from moorage.storage.page_access import ManagedProject
from support.books.records_fixture import ALICE

PROOFS = [
    (b"x-payment-tx", b"0xab"),
    (b"payment-signature", b"e30="),
    (b"x-payment", b"e30="),
    (b"authorization", b"Payment id=1"),
    (b"authorization", b"payment id=1"),
    (b"authorization", b"Bearer of it, Payment id=1"),
]


def asked(header: tuple[bytes, bytes], **scope: Any) -> Request:
    headers = [(b"host", b"gateway.example"), header, (b"accept", b"*/*")]
    return Request({"type": "http", "headers": headers, **scope})


@pytest.mark.parametrize("header", PROOFS)
def test_each_way_to_pay_is_proof_where_payments_are_taken(header: tuple[bytes, bytes]) -> None:
    assert carries_proof(asked(header, **{PAID: True}))


@pytest.mark.parametrize("header", PROOFS)
def test_nothing_is_proof_where_no_payment_is_taken(header: tuple[bytes, bytes]) -> None:
    assert not carries_proof(asked(header))


@pytest.mark.parametrize(
    "header",
    [
        (b"authorization", b"Bearer payment"),
        (b"authorization", b"Payments id=1"),
        (b"x-payment-chain", b"base"),
    ],
)
def test_other_headers_are_no_proof(header: tuple[bytes, bytes]) -> None:
    assert not carries_proof(asked(header, **{PAID: True}))


async def read(pieces: Iterable[bytes], *, signed: bytes | None) -> bytes:
    """The body as an app reads it, whose signature covers `signed`; None: no body at all."""
    messages: list[Message] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages[-1]["more_body"] = False
    scope: dict[str, Any] = {"type": "http", "headers": []}

    async def receive() -> Message:
        return messages.pop(0)

    request = Request(scope, signed_body(scope, receive))
    if signed is not None:
        scope["moorage.body_digest"] = hashlib.sha256(signed).digest()
    return await request.body()


@pytest.mark.parametrize("pieces", [[b""], [b"hello"], [b"he", b"llo"], [b"he", b"", b"llo", b""]])
async def test_body_that_was_signed_arrives_however_it_is_cut(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    assert await read(pieces, signed=whole) == whole


@pytest.mark.parametrize("pieces", [[b""], [b"hello", b"!"], [b"hell"], [b"HELLO"]])
async def test_body_that_was_not_signed_never_arrives_whole(pieces: list[bytes]) -> None:
    with pytest.raises(SignatureInvalid, match="Content-Digest"):
        await read(pieces, signed=b"hello")


async def test_signature_of_version_1_leaves_the_body_alone() -> None:
    assert await read([b"anything"], signed=None) == b"anything"


OF_ONE = ManagedProject(id="p1", unique_name="shop", wallet=ALICE)


@pytest.mark.parametrize(
    ("caller", "owner"),
    [
        (Caller(ALICE, None), ALICE),
        (Caller(ALICE, None, managed=OF_ONE), "project p1"),
        (Caller(ALICE, "192.0.2.1", is_open=True), ""),
    ],
)
def test_uploads_are_found_by_who_signed_and_by_no_payment(caller: Caller, owner: str) -> None:
    assert caller.speaker == owner


def test_readers_of_links_use_up_no_stream_of_their_wallet() -> None:
    reads = Caller(ALICE, None, person=Person(ALICE, may_change=False))
    assert Caller(ALICE, None).share == Caller(ALICE, None, person=Person(ALICE)).share == ALICE
    assert reads.share != ALICE
