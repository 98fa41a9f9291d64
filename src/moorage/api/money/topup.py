"""`POST /agent/credits`: credits bought without a deploy."""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.bodies import parse_small, read_whole
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.managed import managed_project
from moorage.api.http.payment.paid_answers import repeated
from moorage.api.http.payment.payer import PaidFront, authenticate_payer
from moorage.api.http.payment.payment_headers import paid_headers, refuse_misplaced
from moorage.api.http.problems import json_response
from moorage.deploy.entrance.house_rules import HouseRules
from moorage.errors import InvalidField
from moorage.misplaced_hash import MisplacedHash, misplaced_hash
from moorage.money import MICRO_USD_PER_USD, MicroUsd, usd_number
from moorage.payments.taking.outcome import outcome_of
from moorage.payments.taking.topup import Credited, TopUp, TopUpRequest
from moorage.wire.credits import ToppedUp, TopUpBody

MAX_USD = 100_000

_MICRO_DOLLAR = Decimal("0.000001")


@dataclass(frozen=True, kw_only=True)
class TopUpRoom(PaidFront):
    """What the handler of top-ups needs."""

    idempotency: Idempotency
    top_up: TopUp
    house_rules: HouseRules
    minimum_charge: MicroUsd


async def top_up(room: TopUpRoom, request: Request) -> Response:
    """`POST /agent/credits`: top up the wallet's credits, or say what to pay for it."""
    payer = await authenticate_payer(room, request)
    wallet = payer.caller.wallet
    body = await read_whole(request)
    asked = TopUpRequest(
        wallet=wallet,
        amount=amount_of(body, min_=room.minimum_charge),
        means=payer.payment.means,
        evidence=payer.payment.evidence,
        unreadable=payer.payment.unreadable,
        body_digest=hashlib.sha256(body).hexdigest(),
        project_id=managed_project(request),
    )
    await payer.check_body(asked.body_digest)
    if not await room.paywall.may_have_moved(asked.evidence):
        await room.house_rules.require_listed(room.db, wallet)
    async with room.idempotency.attempt(
        request,
        wallet=wallet if asked.project_id is None else f"project {asked.project_id}",
        body_digest=asked.body_digest,
        outcome=Credited,
        render=partial(topped_up, tells=asked.tells),
    ) as keyed:
        if keyed.answer is not None:
            return await repeated(room.outcomes, keyed.answer, asked.evidence, wallet=wallet)
        return keyed.answered(await room.top_up.take(asked, claim=keyed.claim))


def topped_up(credited: Credited, *, tells: bool = True) -> Response:
    """Returns the answer to a top-up; `tells` is whether its wallet itself asks."""
    receipt = credited.receipt
    topped_up = ToppedUp(
        credited_usd=usd_number(receipt.credited),
        balance_usd=usd_number(credited.balance) if tells else UNSET,
        chain_id=receipt.chain_id,
        tx_hash=receipt.tx_hash,
        payment=outcome_of(receipt).told,
    )
    return json_response(topped_up, headers=paid_headers(receipt))


def amount_of(body: bytes, *, min_: MicroUsd) -> MicroUsd:
    """Returns the amount that the body asks for; the minimum without one."""
    if not body:
        return min_
    try:
        dollars = parse_small(body, TopUpBody).amount_usd
    except InvalidField:
        refuse_misplaced(_hash_in(body))
        raise
    if dollars is None:
        return min_
    if not dollars.is_finite():
        raise InvalidField("amount_usd", "must be a number")
    if not Decimal(min_) / MICRO_USD_PER_USD <= dollars <= MAX_USD:
        raise InvalidField("amount_usd", f"must be from {usd_number(min_)} to {MAX_USD}")
    if dollars != dollars.quantize(_MICRO_DOLLAR):  # compared as written: arithmetic rounds
        raise InvalidField("amount_usd", "must have at most 6 decimals")
    return MicroUsd(int(dollars * MICRO_USD_PER_USD))


def _hash_in(body: bytes) -> MisplacedHash | None:
    """Returns a payment's hash in a field that nobody reads."""
    try:
        return misplaced_hash(msgspec.json.decode(body, type=dict[str, Any]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
