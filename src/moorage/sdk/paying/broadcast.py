"""Signs a transfer, sends it to its chain, sends it again, and waits until it is mined."""

from enum import StrEnum

import msgspec

from moorage.sdk.errors import ClientError, NodeError, NodeRefused, PaymentUncertain
from moorage.sdk.journal import Payment, PaymentKey
from moorage.sdk.paying.node import Node, SendingTerms
from moorage.sdk.paying.offer import Offer, money_text, payment_of, unsigned_transfer
from moorage.sdk.signer import Signer
from moorage.sdk.transport import Pause

_PAUSES_SECONDS = (0.05, 0.1, 0.2, 0.5, *[1.0] * 30, *[3.0] * 30)
_SEND_AGAIN_EVERY = 10  # looks for the receipt


class Sighting(StrEnum):
    """What the node has seen of a payment."""

    MINED = "mined"
    REVERTED = "reverted"  # mined, but no token moved
    REPLACED = "replaced"  # its account nonce is used up finally: it can never be mined
    UNSEEN = "unseen"  # the node does not know yet; the payment may still be mined


def sign_transfer(
    offer: Offer, terms: SendingTerms, signer: Signer, key: PaymentKey, *, now_ms: int
) -> Payment:
    """Returns the signed transfer of `offer`, to be journaled and then broadcast.

    Raises GasShort.
    """
    signed = signer.sign_transaction(unsigned_transfer(offer, terms))
    return msgspec.structs.replace(
        payment_of(offer, key, signed_at_ms=now_ms),
        nonce=terms.nonce,
        tx_hash=signed.tx_hash,
        raw_transaction=signed.raw,
    )


async def send(node: Node, payment: Payment) -> NodeRefused | None:
    """Broadcasts the signed transaction; returns the node's refusal, if any.

    A lost answer is not a failure: the journal holds the transaction, and it is sent again.
    """
    try:
        await node.send_raw(payment.raw_transaction)
    except NodeRefused as refused:
        return refused
    except NodeError:
        return None
    return None


async def see_mined(node: Node, payment: Payment, *, pause: Pause) -> Sighting:
    """Waits for about two minutes, sending the payment again while it is not mined.

    Raises PaymentUncertain when the node refuses a payment that it does not know.
    """
    for look, pause_seconds in enumerate(_PAUSES_SECONDS):
        try:
            succeeded = await node.succeeded(payment.tx_hash)
            if succeeded is None and look % _SEND_AGAIN_EVERY == 0:
                refused = await _send_again(node, payment)
                if refused is not None and await node.is_replaced(
                    payment.wallet, nonce=payment.nonce, tx_hash=payment.tx_hash
                ):
                    return Sighting.REPLACED
                if refused is not None:
                    raise uncertain(payment, refused) from refused
        except NodeError:
            return Sighting.UNSEEN
        if succeeded is not None:
            return Sighting.MINED if succeeded else Sighting.REVERTED
        await pause(pause_seconds)
    return Sighting.UNSEEN


def uncertain(payment: Payment, cause: ClientError | None) -> PaymentUncertain:
    """Returns the error that keeps `payment` open, and says why its outcome is unknown."""
    amount = money_text(payment.amount, decimals=payment.decimals)
    why = f": {cause.message}" if cause is not None else ""
    return PaymentUncertain(
        f"{amount} {payment.token} on {payment.chain} may have been paid ({payment.reference}), "
        f"but the gateway has not taken it{why}. Do not pay again: the same command resumes "
        "this payment.",
        chain=payment.chain,
        tx_hash=payment.tx_hash,
        cause=cause,
    )


async def _send_again(node: Node, payment: Payment) -> NodeRefused | None:
    """Broadcasts again; returns the node's refusal, unless it holds the payment already."""
    refused = await send(node, payment)
    if refused is None or await node.knows(payment.tx_hash):
        return None
    return refused
