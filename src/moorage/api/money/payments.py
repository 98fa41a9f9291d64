"""`GET /agent/payments`: what a wallet paid, for what, and what of it went back."""

import re
from collections.abc import Mapping

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Front, authenticate
from moorage.api.http.problems import json_response
from moorage.api.http.query import whole_number
from moorage.chains.address import checksum_address
from moorage.chains.chain import Chain
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.money import decimal_text
from moorage.records.payments import Payment, Refund
from moorage.storage.money import payments
from moorage.storage.money.payments import Key, PaidFor
from moorage.wire.credits import PaymentItem, PaymentList, RefundItem

_MAX_ITEMS = 100
_DEFAULT_ITEMS = 20
_USUAL_DECIMALS = 6
_PLACE = re.compile(r"(\d{1,15})-(\d{1,15})-(0x[0-9a-f]{64})-(\d{1,9})", re.ASCII)


async def list_payments(room: Front, request: Request) -> Response:
    """`GET /agent/payments`: the wallet's payments, newest first, and their refunds."""
    wallet, _ = await authenticate(room, request)
    limit = whole_number(request, "limit", default=_DEFAULT_ITEMS, min_=1, max_=_MAX_ITEMS)
    before = _place(request.query_params.get("before"))
    found = await payments.page_of_payer(room.db, wallet, before=before, limit=limit)
    chains = {chain.chain_id: chain for chain in room.chains.values()}
    return json_response(
        PaymentList(
            payments=[_item(each, chains) for each in found],
            next=_place_text(found[-1].payment) if len(found) == limit else None,
        )
    )


def _place(text: str | None) -> tuple[int, Key] | None:
    if text is None:
        return None
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidField("before", "must be `next` of the page before this one")
    at_ms, chain_id, tx_hash, log_index = found.groups()
    return int(at_ms), (int(chain_id), tx_hash, int(log_index))


def _place_text(payment: Payment) -> str:
    chain_id, tx_hash, log_index = payments.key_of(payment)
    return f"{payment.claimed_at_ms}-{chain_id}-{tx_hash}-{log_index}"


def _item(paid: PaidFor, chains: Mapping[int, Chain]) -> PaymentItem:
    payment = paid.payment
    chain = chains.get(payment.chain_id)
    token = chain.token_at(payment.token_address.lower()) if chain else None
    decimals = token.decimals if token else _USUAL_DECIMALS
    return PaymentItem(
        chain=chain.name if chain else str(payment.chain_id),
        chain_id=payment.chain_id,
        tx_hash=payment.tx_hash,
        log_index=payment.log_index,
        token=payment.token,
        amount=decimal_text(payment.amount, decimals=decimals),
        credited_micro_usd=payment.credited_micro_usd,
        pay_to=None if payment.recipient is None else checksum_address(payment.recipient),
        status=payment.status,
        at=iso_utc(payment.claimed_at_ms),
        project_id=paid.project_id or UNSET,
        deployment_id=paid.deployment_id or UNSET,
        refunds=[_refund(each, decimals) for each in paid.refunds],
    )


def _refund(refund: Refund, decimals: int) -> RefundItem:
    return RefundItem(
        status=refund.status,
        amount=decimal_text(int(refund.amount_atomic), decimals=decimals),
        tx_hash=refund.refund_tx_hash,
        at=iso_utc(refund.ended_at_ms or refund.created_at_ms),
    )
