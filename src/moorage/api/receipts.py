"""The endpoints of receipts."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front, limit_address
from moorage.api.http.problems import json_response
from moorage.chains.receipt import normalise_tx_hash
from moorage.errors import InvalidField, ReceiptNotFound
from moorage.payments.receipts import ReceiptSigner
from moorage.records.payments import Finality, Payment, PaymentStatus, Refund, RefundStatus
from moorage.storage.money import payments, refunds
from moorage.wire.receipts import Receipt, ReceiptKey, ReceiptKeys, ReceiptList, SignedReceipt

_USUAL_DECIMALS = 6


@dataclass(frozen=True, kw_only=True)
class ReceiptRoom(Front):
    """What the handlers of receipts need."""

    signer: ReceiptSigner
    issuer: Sequence[str]  # the operator's name, then the lines of its address


async def show_receipt(room: ReceiptRoom, request: Request, caller: Caller) -> Response:
    """`GET /agent/payments/{tx}/receipt`: what the wallet paid by a transaction, signed."""
    try:
        tx_hash = normalise_tx_hash(request.path_params["tx"])
    except ValueError as error:
        raise InvalidField("tx", str(error)) from error
    found = [
        payment
        for payment in await payments.by_hash(room.db, tx_hash=tx_hash)
        if payment.payer == caller.wallet
    ]
    if not found:
        raise ReceiptNotFound
    return json_response(ReceiptList(receipts=[await _signed(room, each) for each in found]))


async def _signed(room: ReceiptRoom, payment: Payment) -> SignedReceipt:
    chain_id, tx_hash, log_index = payments.key_of(payment)
    sent_back = await refunds.of_payment(
        room.db, chain_id=chain_id, tx_hash=tx_hash, log_index=log_index
    )
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


async def list_keys(room: ReceiptRoom, request: Request) -> Response:
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
    return json_response(ReceiptKeys(host=room.host, keys=keys))
