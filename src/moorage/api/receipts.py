"""The endpoints of receipts and invoices."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front, limit_address
from moorage.chains.receipt import normalise_tx_hash
from moorage.errors import InvalidField, ReceiptNotFound
from moorage.ledger.invoice import invoice
from moorage.payments.receipts import ReceiptSigner
from moorage.records.payments import Finality, Payment, PaymentStatus, Refund, RefundStatus
from moorage.storage.money import payments, refunds
from moorage.storage.money.accounts import MAX_PERIODS
from moorage.wire.receipts import (
    Invoice,
    Receipt,
    ReceiptKey,
    ReceiptKeys,
    ReceiptList,
    SignedReceipt,
)

_USUAL_DECIMALS = 6
_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])", re.ASCII)
_A_YEAR = 12


@dataclass(frozen=True, kw_only=True)
class ReceiptRoom(Front):
    """What the handlers of receipts need."""

    signer: ReceiptSigner
    issuer: Sequence[str]  # the operator's name, then the lines of its address


async def show_receipt(room: ReceiptRoom, request: Request, caller: Caller) -> ReceiptList:
    """`GET /agent/payments/{tx}/receipt`: what the wallet paid by a transaction, signed."""
    with InvalidField.of("tx"):
        tx_hash = normalise_tx_hash(request.path_params["tx"])
    found = [
        payment
        for payment in await payments.by_hash(room.db, tx_hash=tx_hash)
        if payment.payer == caller.wallet
    ]
    if not found:
        raise ReceiptNotFound
    return ReceiptList(receipts=[await _signed(room, each) for each in found])


async def _signed(room: ReceiptRoom, payment: Payment) -> SignedReceipt:
    sent_back = await refunds.of_payment(room.db, payments.key_of(payment))
    receipt = _receipt(room, payment, [each for each in sent_back if _is_safe(each)])
    signer, signature = await room.signer.sign(receipt.digest())
    return SignedReceipt(message=receipt, signature=signature, signer=checksum_address(signer))


def _is_safe(refund: Refund) -> bool:
    return refund.status is RefundStatus.REFUNDED and refund.finality is not Finality.PROVISIONAL


def _receipt(room: ReceiptRoom, payment: Payment, sent_back: Sequence[Refund]) -> Receipt:
    chain = next((it for it in room.chains.values() if it.chain_id == payment.chain_id), None)
    token = chain.token_at(payment.token_address) if chain else None
    is_credited = payment.status is PaymentStatus.CREDITED
    return Receipt(
        host=room.host,
        issuer=next(iter(room.issuer), ""),
        payer=checksum_address(payment.payer),
        payee=checksum_address(payment.recipient),
        chain_id=str(payment.chain_id),
        token=checksum_address(payment.token_address),
        symbol=token.symbol if token else payment.token,
        decimals=str(token.decimals if token else _USUAL_DECIMALS),
        amount=payment.amount_atomic,
        credited_micro_usd=str(payment.credited_micro_usd if is_credited else 0),
        transaction=payment.tx_hash,
        log_index=str(payment.log_index),
        block_number=str(payment.block_number),
        block_hash=payment.block_hash,
        credited_at_ms=str(payment.claimed_at_ms),
        status=payment.status,
        finality=payment.finality,
        refunded=str(sum(each.amount for each in sent_back)),
        refunds=[each.refund_tx_hash for each in sent_back if each.refund_tx_hash],
        issued_at_ms=str(room.clock.now_ms()),
    )


async def list_keys(room: ReceiptRoom, request: Request) -> ReceiptKeys:
    """`GET /.well-known/moorage-receipts.json`: the addresses that signed this gateway's receipts.

    Receipts of earlier ones stay valid.
    """
    await limit_address(room, request)
    known = await room.signer.keys()
    ends = [None, *(each.since_ms for each in known)]
    keys = [
        ReceiptKey(address=checksum_address(each.address), since_ms=each.since_ms, until_ms=end)
        for each, end in zip(known, ends, strict=False)
    ]
    return ReceiptKeys(host=room.host, keys=keys)


async def show_invoice(room: ReceiptRoom, request: Request, caller: Caller) -> Invoice:
    """`GET /agent/invoice`: what the wallet paid and used in one month, or up to twelve."""
    now_ms = room.clock.now_ms()
    this = datetime.fromtimestamp(now_ms / 1000, UTC)
    last = _month(request, "to", default=_A_YEAR * this.year + this.month - 1)
    first = _month(request, "from", default=last)
    if not 0 <= last - first < MAX_PERIODS:
        raise InvalidField("from", f"must be one of the {MAX_PERIODS} months up to `to`")
    async with room.db.snapshot() as snapshot:
        return await invoice(
            snapshot,
            caller.wallet,
            months=dict(_begins(month) for month in range(first, last + 1)),
            until_ms=_begins(last + 1)[1],
            issuer=room.issuer,
            now_ms=now_ms,
        )


def _month(request: Request, name: str, *, default: int) -> int:
    """Returns the months since year 0 of a month such as 2026-04; not one that is to come."""
    text = request.query_params.get(name)
    if text is None:
        return default
    found = _MONTH.fullmatch(text)
    months = _A_YEAR * int(found[1]) + int(found[2]) - 1 if found else 0
    if not _A_YEAR * 1970 <= months <= default:
        raise InvalidField(name, "must be a month such as 2026-04, in UTC, that has begun")
    return months


def _begins(months: int) -> tuple[str, int]:
    """Returns a month's name, and when it begins, by its months since year 0."""
    begin = datetime(months // _A_YEAR, months % _A_YEAR + 1, 1, tzinfo=UTC)
    return f"{begin:%Y-%m}", int(begin.timestamp()) * 1000
