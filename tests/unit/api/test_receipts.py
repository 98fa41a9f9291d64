"""Signed receipts of payments: what they say, who gets them, and who can check them."""

from typing import Any

import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from moorage.address import checksum_address
from moorage.api.http.caller import answered
from moorage.api.receipts import list_keys, show_invoice, show_receipt
from moorage.errors import InvalidField, ReceiptNotFound
from moorage.ledger import ledger
from moorage.money import MicroUsd
from moorage.payments.receipts import ReceiptSigner
from moorage.records.payments import Finality, Refund, RefundStatus
from moorage.sdk.client import verify_receipt as verify
from moorage.sdk.errors import ReceiptInvalid
from moorage.storage.database import Database
from moorage.storage.money import payments, refunds
from moorage.storage.vault import Vault
from moorage.wire.receipts import ReceiptKeys, ReceiptList, SignedReceipt
from support.books.records_fixture import ALICE, ARBITRUM, BOB, PAY_TO, USDC, transfer
from support.gateway.believed import Believed, body_of, request_of
from support.gateway.clock import START_MS, MovableClock

GONE = "0x" + "f1" * 32
OLD, NEW = bytes(32), bytes(31) + b"\1"


class Asking(Believed):
    """Asks for receipts as a wallet whose signature has been checked."""

    def __init__(self, db: Database, clock: MovableClock) -> None:
        self.signer = ReceiptSigner(db, Vault([OLD]), clock)
        super().__init__(
            db,
            clock,
            chains={"arbitrum": ARBITRUM},
            host="gateway.example",
            signer=self.signer,
            issuer=("Example Ltd", "1 Quay Street"),
        )

    async def documents(self, tx: str) -> list[dict[str, Any]]:
        found = body_of(await answered(show_receipt, self.room, request_of(tx=tx)))["receipts"]
        assert isinstance(found, list)
        return found

    async def receipts(self, tx: str) -> list[SignedReceipt]:
        body = {"receipts": await self.documents(tx)}
        return msgspec.convert(body, type=ReceiptList).receipts

    async def keys(self) -> ReceiptKeys:
        return msgspec.convert(
            body_of(await answered(list_keys, self.room, request_of())), type=ReceiptKeys
        )


@pytest.fixture
async def ask(db: Database, clock: MovableClock) -> Asking:
    found = Asking(db, clock)
    await found.signer.open()
    return found


async def pay(db: Database, wallet: str, amount: int) -> str:
    made = transfer(wallet, amount)
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [made], now_ms=START_MS)
    return made.tx_hash


async def test_receipt_says_what_was_paid_and_credited(db: Database, ask: Asking) -> None:
    tx_hash = await pay(db, ALICE, 1_500_000)
    (payment,) = await payments.by_hash(db, tx_hash=tx_hash)
    (document,) = await ask.documents(tx_hash)
    assert document["message"] == {
        "host": "gateway.example",
        "issuer": "Example Ltd",
        "payer": checksum_address(ALICE),
        "payee": checksum_address(PAY_TO),
        "chainId": str(ARBITRUM.chain_id),
        "token": checksum_address(USDC.key),
        "symbol": USDC.symbol,
        "decimals": "6",
        "amount": "1500000",
        "creditedMicroUsd": "1500000",
        "transaction": tx_hash,
        "logIndex": "0",
        "blockNumber": str(payment.block_number),
        "blockHash": payment.block_hash,
        "creditedAtMs": str(START_MS),
        "status": "credited",
        "finality": "provisional",
        "refunded": "0",
        "refunds": [],
        "issuedAtMs": str(START_MS),
    }


async def test_any_library_of_wallets_finds_the_signer_in_the_document(
    db: Database, ask: Asking
) -> None:
    tx_hash = await pay(db, ALICE, 1_500_000)
    await send_back(db, tx_hash, Finality.SAFE)
    (document,) = await ask.documents(tx_hash)
    typed = {name: document[name] for name in ("types", "primaryType", "domain", "message")}
    signer = Account.recover_message(
        encode_typed_data(full_message=typed), signature=document["signature"]
    )
    (key,) = (await ask.keys()).keys
    assert signer == document["signer"] == key.address


async def send_back(db: Database, tx_hash: str, finality: Finality) -> None:
    sent = Refund(
        id=f"r {finality}",
        chain_id=ARBITRUM.chain_id,
        tx_hash=tx_hash,
        log_index=0,
        recipient=ALICE,
        token_address=USDC.key,
        amount_atomic="200000",
        debited_micro_usd=MicroUsd(200_000),
        reason="asked for",
        status=RefundStatus.REFUNDED,
        refund_tx_hash=GONE,
        created_at_ms=START_MS,
        ended_at_ms=START_MS,
        finality=finality,
    )
    async with db.transaction(durable=True) as tx:
        await refunds.add(tx, sent)


async def test_what_was_paid_back_counts_once_it_is_safe(db: Database, ask: Asking) -> None:
    tx_hash = await pay(db, ALICE, 500_000)
    await send_back(db, tx_hash, Finality.PROVISIONAL)
    (before,) = await ask.receipts(tx_hash)
    await send_back(db, tx_hash, Finality.SAFE)
    (after,) = await ask.receipts(tx_hash)
    assert (before.message.refunded, before.message.refunds) == ("0", [])
    assert (after.message.refunded, after.message.refunds) == ("200000", [GONE])


async def test_what_a_chain_took_back_is_credited_with_nothing(db: Database, ask: Asking) -> None:
    tx_hash = await pay(db, ALICE, 500_000)
    (payment,) = await payments.by_hash(db, tx_hash=tx_hash)
    async with db.transaction(durable=True) as tx:
        await ledger.reverse_payment(tx, payment, now_ms=START_MS)
    (receipt,) = await ask.receipts(tx_hash)
    assert (receipt.message.status, receipt.message.credited_micro_usd) == ("reversed", "0")


async def test_nobody_gets_the_receipt_of_another(db: Database, ask: Asking) -> None:
    theirs = await pay(db, BOB, 500_000)
    with pytest.raises(ReceiptNotFound):
        await ask.documents(theirs)
    with pytest.raises(ReceiptNotFound):
        await ask.documents(GONE)
    with pytest.raises(InvalidField):
        await ask.documents("0x12")


async def test_of_a_transaction_of_several_payers_each_gets_its_own(
    db: Database, ask: Asking
) -> None:
    mine, theirs = transfer(ALICE, 500_000), transfer(BOB, 700_000)
    together = msgspec.structs.replace(
        theirs, tx_hash=mine.tx_hash, block_hash=mine.block_hash, log_index=9
    )
    async with db.transaction(durable=True) as tx:
        await ledger.credit_transfers(tx, [mine, together], now_ms=START_MS)
    (receipt,) = await ask.receipts(mine.tx_hash.removeprefix("0x").upper())
    assert receipt.message.amount == "500000"


async def test_key_is_made_once_and_every_gateway_signs_with_it(
    db: Database, clock: MovableClock, ask: Asking
) -> None:
    await ReceiptSigner(db, Vault([OLD]), clock).open()
    assert len((await ask.keys()).keys) == 1
    assert await ask.signer.sign(OLD) == await ReceiptSigner(db, Vault([OLD]), clock).sign(OLD)


async def test_fresh_key_of_the_secrets_brings_a_fresh_key_and_receipts_stay_valid(
    db: Database, clock: MovableClock, ask: Asking
) -> None:
    tx_hash = await pay(db, ALICE, 500_000)
    (before,) = await ask.receipts(tx_hash)
    clock.advance(60_000)
    ask.room.signer = ReceiptSigner(db, Vault([NEW, OLD]), clock)
    await ask.room.signer.open()
    (after,) = await ask.receipts(tx_hash)
    keys = await ask.keys()
    assert [(each.address, each.until_ms) for each in keys.keys] == [
        (after.signer, None),
        (before.signer, START_MS + 60_000),
    ]
    verify(before, keys)
    verify(after, keys)


async def test_key_that_was_not_in_use_when_a_receipt_says_it_was_issued_proves_nothing(
    db: Database, ask: Asking
) -> None:
    (receipt,) = await ask.receipts(await pay(db, ALICE, 500_000))
    known = await ask.keys()
    (key,) = known.keys
    for change in ({"until_ms": START_MS}, {"since_ms": START_MS + 1}):
        keys = msgspec.structs.replace(known, keys=[msgspec.structs.replace(key, **change)])
        with pytest.raises(ReceiptInvalid):
            verify(receipt, keys)


async def test_old_private_key_is_kept_nowhere(
    db: Database, clock: MovableClock, ask: Asking
) -> None:
    await ReceiptSigner(db, Vault([NEW, OLD]), clock).open()
    assert [bool(each.sealed) for each in await ask.signer.keys()] == [True, False]


@pytest.mark.parametrize(
    "forged",
    [
        {"amount": "9500000"},
        {"payer": checksum_address(BOB)},
        {"finality": "finalized"},
        {"host": "another.example"},
        {"refunds": [GONE]},
        {"amount": "9" * 78},
    ],
    ids=str,
)
async def test_changed_receipt_is_invalid(
    db: Database, ask: Asking, forged: dict[str, Any]
) -> None:
    (receipt,) = await ask.receipts(await pay(db, ALICE, 500_000))
    verify(receipt, await ask.keys())
    message = msgspec.structs.replace(receipt.message, **forged)
    with pytest.raises(ReceiptInvalid):
        verify(msgspec.structs.replace(receipt, message=message), await ask.keys())


async def test_receipt_that_somebody_else_signed_is_invalid(db: Database, ask: Asking) -> None:
    (receipt,) = await ask.receipts(await pay(db, ALICE, 500_000))
    (document,) = await ask.documents(receipt.message.transaction)
    typed = {name: document[name] for name in ("types", "primaryType", "domain", "message")}
    signed = Account.sign_message(encode_typed_data(full_message=typed), "0x" + "46" * 32)
    forged = msgspec.structs.replace(receipt, signature="0x" + signed.signature.hex())
    for signature in (forged.signature, "0x", "no hex"):
        with pytest.raises(ReceiptInvalid):
            verify(msgspec.structs.replace(receipt, signature=signature), await ask.keys())


async def ask_invoice(ask: Asking, query: str = "") -> dict[str, Any]:
    return body_of(await answered(show_invoice, ask.room, request_of(query)))


async def test_invoice_is_of_this_month_and_not_final_until_it_is_over(
    db: Database, clock: MovableClock, ask: Asking
) -> None:
    await pay(db, ALICE, 1_500_000)
    await pay(db, BOB, 7_000_000)
    now = await ask_invoice(ask)
    assert (now["since"], now["until"]) == ("2026-04-01T00:00:00.000Z", "2026-05-01T00:00:00.000Z")
    assert (now["opening_micro_usd"], now["closing_micro_usd"]) == (0, 1_500_000)
    assert (now["is_final"], now["number"]) == (False, f"2026-04-{ALICE[2:14]}")
    assert (now["issuer"], now["wallet"]) == (
        ["Example Ltd", "1 Quay Street"],
        checksum_address(ALICE),
    )
    clock.advance(30 * 86_400_000)
    then = await ask_invoice(ask, "from=2026-04&to=2026-04")
    assert then == now | {"is_final": True}


@pytest.mark.parametrize(
    "query",
    [
        *("from=2026", "to=2026-13", "to=2026-05", "from=1969-12", "from=%D9%A2026-04"),
        *("from=2025-04&to=2026-04", "from=2026-04&to=2026-03"),
    ],
)
async def test_invoice_is_of_months_that_have_begun_and_at_most_twelve(
    ask: Asking, query: str
) -> None:
    with pytest.raises(InvalidField):
        await ask_invoice(ask, query)


async def test_invoice_of_twelve_months_begins_with_the_first(db: Database, ask: Asking) -> None:
    await pay(db, ALICE, 1_500_000)
    found = await ask_invoice(ask, "from=2025-05")
    assert (found["since"], found["paid_micro_usd"]) == ("2025-05-01T00:00:00.000Z", 1_500_000)
