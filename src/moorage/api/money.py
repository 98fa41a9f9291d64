"""The endpoints of credits, payments and top-ups."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front, PaidFront, Payer, require_bound
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.payment import refuse_misplaced, repeated
from moorage.api.http.problems import json_response, with_body
from moorage.api.http.request import parse_small, read_whole, wallet_in, whole_number
from moorage.chains.chain import Chain
from moorage.clock import iso_utc
from moorage.errors import InvalidField, SignatureUnbound
from moorage.hosting.entrance.capacity import Quotas
from moorage.ledger.build_time import Allowance, BuildTime
from moorage.ledger.ledger import held_account, wallet_account
from moorage.ledger.metering import Metering
from moorage.ledger.running_costs import hour_of, runs_out_at
from moorage.money import MicroUsd, credits_in, decimal_text, usd_number
from moorage.payments.taking.outcome import outcome_of
from moorage.payments.taking.payment_required import paid_headers
from moorage.payments.taking.topup import Credited, TopUp, TopUpRequest
from moorage.records.payments import Payment, Refund
from moorage.storage.database import Source
from moorage.storage.money import accounts, billing, payments
from moorage.storage.money import accounts as statement
from moorage.storage.money.accounts import StatementEntry
from moorage.storage.money.billing import RunInterval
from moorage.storage.money.payments import Key, PaidFor
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import NoticeKind
from moorage.unknown_keys import MisplacedHash, misplaced_hash
from moorage.wire.credits import (
    BuildAllowance,
    BurningProject,
    CreditEntry,
    Credits,
    PaymentItem,
    PaymentList,
    ProjectPurse,
    RefundItem,
    ToppedUp,
    TopUpBody,
)

_MAX_ITEMS = 100
_DEFAULT_ITEMS = 20
_USUAL_DECIMALS = 6
_PLACE = re.compile(r"(\d{1,15})-(\d{1,15})-(0x[0-9a-f]{64})-(\d{1,9})", re.ASCII)


async def list_payments(room: Front, request: Request, caller: Caller) -> PaymentList:
    """`GET /agent/payments`: the wallet's payments, newest first, and their refunds."""
    limit = whole_number(request, "limit", default=_DEFAULT_ITEMS, min_=1, max_=_MAX_ITEMS)
    before = _place(request.query_params.get("before"))
    found = await payments.page_of_payer(room.db, caller.wallet, before=before, limit=limit)
    chains = {chain.chain_id: chain for chain in room.chains.values()}
    return PaymentList(
        payments=[_item(each, chains) for each in found],
        next=_place_text(found[-1].payment) if len(found) == limit else None,
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
        pay_to=checksum_address(payment.recipient),
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


@dataclass(frozen=True, kw_only=True)
class TopUpRoom(PaidFront):
    """What the handler of top-ups needs."""

    idempotency: Idempotency
    top_up: TopUp
    quotas: Quotas
    minimum_charge: MicroUsd


async def top_up(room: TopUpRoom, request: Request, payer: Payer) -> Response:
    """`POST /agent/credits`: top up the wallet's credits, or say what to pay for it."""
    wallet, is_open = payer.caller.wallet, payer.caller.is_open
    body = await read_whole(request)
    amount = amount_of(body, min_=room.minimum_charge)
    given_to = _given_to(body, payer.caller)
    if given_to is not None:
        require_bound(request, payer.caller)
    asked = TopUpRequest(
        wallet=wallet,
        given_to=given_to,
        amount=amount,
        means=payer.payment.means,
        evidence=payer.payment.evidence,
        refused=payer.payment.refused,
        body_digest=hashlib.sha256(body).hexdigest(),
        is_proved=not is_open,
        project_id=payer.caller.project_id,
    )
    await payer.check_body(asked.body_digest)
    if not await room.paywall.may_have_moved(asked.evidence):  # only a signature would say whose
        await room.quotas.require_listed(room.db, "" if is_open else wallet)
    if is_open:
        return topped_up(await room.top_up.take(asked), tells=False, payer=wallet)
    async with room.idempotency.attempt(
        request,
        asked.body_digest,
        Credited,
        wallet=wallet if asked.project_id is None else f"project {asked.project_id}",
        render=partial(topped_up, tells=asked.tells),
    ) as keyed:
        if keyed.answer is not None:
            return await repeated(room.outcomes, keyed.answer, asked.evidence, wallet=wallet)
        return keyed.answered(await room.top_up.take(asked, claim=keyed.claim))


async def pay_for_credits(room: TopUpRoom, request: Request, payer: Payer) -> Response:
    """`POST /credits`: credits for who pays, or what to pay; wallet headers are not needed."""
    return await top_up(room, request, payer)


def topped_up(credited: Credited, *, tells: bool = True, payer: str = "") -> Response:
    """Returns the answer to a top-up; `tells` is whether its wallet itself asks.

    `payer` is whose payment alone spoke, if so: it learns whose the credits are.
    """
    receipt = credited.receipt
    body = ToppedUp(
        credited_usd=usd_number(receipt.credited),
        balance_usd=usd_number(credited.balance) if tells else UNSET,
        chain_id=receipt.chain_id,
        tx_hash=receipt.tx_hash,
        payment=outcome_of(receipt).told,
        wallet=checksum_address(payer) if payer else UNSET,
    )
    answer = json_response(body, headers=paid_headers(receipt))
    return with_body(answer, body, uncached=True) if payer else answer


def taker_of(body: bytes) -> str | None:
    """Returns the wallet that the body names to get the credits. Raises InvalidField."""
    named = parse_small(body, TopUpBody).for_ if body else ""
    return wallet_in("for", named) if named else None


def _given_to(body: bytes, caller: Caller) -> str | None:
    """Returns the other wallet that gets credits. Raises SignatureUnbound for a payment alone."""
    taker = taker_of(body)
    if taker in (None, caller.wallet):
        return None
    if caller.is_open:  # whoever saw the payment could name another wallet
        raise SignatureUnbound
    return taker


def amount_of(body: bytes, *, min_: MicroUsd) -> MicroUsd:
    """Returns the amount that the body asks for; the minimum without one."""
    if not body:
        return min_
    try:
        dollars = parse_small(body, TopUpBody).amount_usd
    except InvalidField:
        refuse_misplaced(_hash_in(body))
        raise
    return min_ if dollars is None else credits_in("amount_usd", dollars, min_=min_)


def _hash_in(body: bytes) -> MisplacedHash | None:
    """Returns a payment's hash in a field that nobody reads."""
    try:
        return misplaced_hash(msgspec.json.decode(body, type=dict[str, Any]))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


_MAX_ENTRIES = 100
_DEFAULT_ENTRIES = 20
_LAST_PLACE = 2**63 - 1
_LAST_TIME_MS = 253_402_300_799_999  # the end of the year 9999: ISO 8601 ends there

_GIVEN_BACK_TO = re.compile(r"compensated:([^:]+):")
_OF_TRANSACTION = re.compile(r"payment:(?P<chain_id>\d+):(?P<tx_hash>0x[0-9a-f]{64}):")


@dataclass(frozen=True, kw_only=True)
class CreditRoom(Front):
    """What the handler of credits needs."""

    metering: Metering
    build_time: BuildTime


async def show_credits(room: CreditRoom, request: Request, caller: Caller) -> Credits:
    """`GET /agent/credits`: balance, burn per hour, time of exhaustion, a page of the ledger."""
    wallet = caller.wallet
    limit = whole_number(request, "limit", default=_DEFAULT_ENTRIES, min_=1, max_=_MAX_ENTRIES)
    before = whole_number(request, "before", default=_LAST_PLACE, min_=1, max_=_LAST_PLACE)
    balance = await accounts.balance(room.db, wallet)
    held = await accounts.sum_of_account(room.db, held_account(wallet))
    burning = await billing.open_of_wallet(room.db, wallet)
    entries = await statement.statement_page(
        room.db, account=wallet_account(wallet), before=before, limit=limit
    )
    names = {chain.chain_id: chain.name for chain in room.chains.values()}
    an_hour = hour_of(*(each.monthly_price_micro_usd for each in burning))
    return Credits(
        wallet=checksum_address(wallet),
        balance_usd=usd_number(balance),
        balance_micro_usd=balance,
        held_usd=usd_number(MicroUsd(held)) if held else UNSET,
        burn_per_hour_usd=usd_number(an_hour),
        burn_per_hour_micro_usd=an_hour,
        runs_out_at=runs_out(room.metering, balance, burning),
        announcement=await wallet_rules.notice_text(room.db, NoticeKind.ANNOUNCEMENT) or UNSET,
        burning=_burning(burning),
        purses=await _purses(room, wallet) or UNSET,
        build_allowance=allowance_body(await room.build_time.allowance(room.db, wallet)),
        ledger=[_entry(each, names) for each in entries],
        next=str(entries[-1].place) if len(entries) == limit else None,
    )


async def _purses(room: CreditRoom, wallet: str) -> list[ProjectPurse]:
    """Returns what projects of a wallet have of their own."""
    return [
        await purse_body(room.db, room.metering, purse)
        for purse in await accounts.purses_of_wallet(room.db, wallet)
        if not purse.is_plain
    ]


async def purse_body(source: Source, metering: Metering, purse: accounts.Purse) -> ProjectPurse:
    """Returns a purse for an answer: what it has, its terms, and how long its project runs."""
    interval = await billing.open_of(source, purse.project_id)
    until_ms = None if interval is None else await metering.runs_until(source, interval)
    limit = purse.limit
    rest = await metering.rest_of_month(source, purse.project_id, limit)
    return ProjectPurse(
        project_id=purse.project_id,
        balance_usd=usd_number(purse.balance),
        shared=purse.shared,
        limit_usd_month=None if limit is None else usd_number(limit),
        burned_usd_month=UNSET
        if limit is None or rest is None
        else usd_number(MicroUsd(limit - rest)),
        runs_out_at=_iso(metering, until_ms),
    )


def runs_out(metering: Metering, balance: MicroUsd, burning: list[RunInterval]) -> str | None:
    """Returns when these have burned the balance; None: never, or after the year 9999."""
    return _iso(metering, runs_out_at(balance, burning, now_ms=metering.time.now_ms()))


def _iso(metering: Metering, billed_ms: int | None) -> str | None:
    if billed_ms is None or (wall_ms := metering.time.wall_ms(billed_ms)) > _LAST_TIME_MS:
        return None
    return iso_utc(wall_ms)


def _burning(intervals: Iterable[RunInterval]) -> list[BurningProject]:
    """Returns what burns, for an answer; thousands of projects have a few prices."""
    of_price = cache(lambda price: (usd_number(hour_of(price)), hour_of(price)))
    found = []
    for each in intervals:
        usd, micro_usd = of_price(each.monthly_price_micro_usd)
        found.append(
            BurningProject(
                project_id=each.project_id,
                burn_per_hour_usd=usd,
                burn_per_hour_micro_usd=micro_usd,
                asleep=each.asleep,
            )
        )
    return found


def allowance_body(allowance: Allowance) -> BuildAllowance:
    """Returns the build allowance for an answer: whole seconds, rounded against the wallet."""
    return BuildAllowance(
        allowed_seconds=allowance.allowed_ms // 1000,
        used_seconds=-(-allowance.used_ms // 1000),
        left_seconds=allowance.left_ms // 1000,
        beyond_per_minute_usd=usd_number(allowance.minute),
    )


def _entry(entry: StatementEntry, chains: Mapping[int, str]) -> CreditEntry:
    paid = _OF_TRANSACTION.search(entry.posting_id)
    given_back_to = _GIVEN_BACK_TO.match(entry.posting_id)
    project_id = given_back_to[1] if given_back_to else entry.project_id
    return CreditEntry(
        id=entry.posting_id,
        kind=entry.kind,
        amount_usd=usd_number(entry.amount),
        amount_micro_usd=entry.amount,
        at=iso_utc(entry.created_at_ms),
        project_id=project_id or UNSET,
        chain=chains.get(int(paid["chain_id"]), paid["chain_id"]) if paid else UNSET,
        tx_hash=paid["tx_hash"] if paid else UNSET,
    )
