"""The endpoints of refunds: a quote, the request, and how far it has come."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.address import checksum_address
from moorage.api.http.caller import Caller, Front
from moorage.api.http.idempotency import Idempotency
from moorage.api.http.problems import json_response
from moorage.api.http.request import parse_small, read_whole, whole_number
from moorage.clock import iso_utc
from moorage.errors import InvalidField
from moorage.hosting.keeping.suspension import Pausing
from moorage.money import MicroUsd, credits_in, decimal_text, usd_number
from moorage.payments.relay.refund_requests import (
    DECIDED_IN_MS,
    GAS,
    GATEWAY,
    RefundAsked,
    RefundQuote,
    RefundRequests,
    Requested,
)
from moorage.records.payments import Finality, Payment, Refund, RefundStatus
from moorage.storage.apps import projects
from moorage.storage.money import refunds
from moorage.wire.refunds import (
    KeptCredits,
    RefundBody,
    RefundEnding,
    RefundList,
    RefundPart,
    RefundPartShown,
    RefundQuoteBody,
    RefundQuoted,
    RefundShown,
    RefundState,
)

_MAX_ITEMS = 100
_DEFAULT_ITEMS = 20
_LAST_MS = 2**63 - 1
_DECIMALS = 6  # of dollars
_RULE = (
    "It goes back to the wallet that paid, on the same chain, in the same token. Credits that the "
    "operator gave are used up first, and never sent back."
)
_CONTRACT = (
    " On {chains} the payer is a contract: make sure that what is sent there is not lost to you."
)
_FURTHEST_BEHIND = (
    *(RefundState.HELD, RefundState.QUEUED, RefundState.SENT, RefundState.MINED),
    *(RefundState.FAILED, RefundState.FINAL),
)


@dataclass(frozen=True, kw_only=True)
class RefundRoom(Front):
    """What the handlers of refunds need."""

    requests: RefundRequests
    idempotency: Idempotency
    pausing: Pausing


async def quote_refund(room: RefundRoom, request: Request, caller: Caller) -> RefundQuoted:
    """`POST /agent/refunds/quote`: what would go back now."""
    body = parse_small(await read_whole(request) or b"{}", RefundQuoteBody)
    max_ = None if body.max_usd is None else credits_in("max_usd", body.max_usd)
    project_id = ""
    if body.project_id:
        project = await projects.by_id(room.db, body.project_id)
        if project is None or project.wallet != caller.wallet:
            raise InvalidField("project_id", "must be the id of a project of this wallet")
        project_id = project.id
    asked = RefundAsked(caller.wallet, project_id, max_, body.suspend)
    return _quoted(room, await room.requests.quote(asked))


async def request_refund(room: RefundRoom, request: Request, caller: Caller) -> Response:
    """`POST /agent/refunds`: have what a quote says sent back."""
    content = await read_whole(request)
    body = parse_small(content, RefundBody)
    expected = credits_in("expect.refundable_usd", body.expect.refundable_usd)
    async with room.idempotency.attempt(
        request,
        hashlib.sha256(content).hexdigest(),
        Requested,
        wallet=caller.wallet,
        render=_accepted,
    ) as keyed:
        if keyed.answer is None:
            requested = await room.requests.request(
                caller.wallet,
                body.quote,
                expected=expected,
                suspend=room.pausing.pause_all if body.suspend else None,
                claim=keyed.claim,
            )
            keyed.answered(requested)
        request_id = msgspec.json.decode(keyed.answer.body)["id"] if keyed.answer else ""
    shown = shown_refund(room, await room.requests.one(caller.wallet, request_id))
    return json_response(shown, status=202)


def _accepted(requested: Requested) -> Response:
    """Returns what is kept of an answer: a repeat is told how far it has come by then."""
    return json_response({"id": requested.id}, status=202)


async def show_refund(room: RefundRoom, request: Request, caller: Caller) -> RefundShown:
    """`GET /agent/refunds/{refundId}`: how far it has come."""
    found = await room.requests.one(caller.wallet, request.path_params["refundId"])
    return shown_refund(room, found)


async def list_refunds(room: RefundRoom, request: Request, caller: Caller) -> RefundList:
    """`GET /agent/refunds`: those that the wallet asked for, newest first."""
    limit = whole_number(request, "limit", default=_DEFAULT_ITEMS, min_=1, max_=_MAX_ITEMS)
    before_ms = whole_number(request, "before", default=_LAST_MS, min_=1, max_=_LAST_MS)
    found = await refunds.requests_of(room.db, caller.wallet, before_ms=before_ms, limit=limit)
    return RefundList(
        refunds=[shown_refund(room, each) for each in found],
        next=str(found[-1][0].created_at_ms) if len(found) == limit else None,
    )


def _quoted(room: RefundRoom, quote: RefundQuote) -> RefundQuoted:
    on_contracts = _CONTRACT.format(chains=", ".join(sorted(quote.contracts)))
    return RefundQuoted(
        id=quote.id,
        refundable_usd=usd_number(quote.refundable),
        items=[_part(room, each.payment, each.debited, GAS) for each in quote.items],
        kept=[KeptCredits(why=why, usd=usd_number(amount)) for why, amount in quote.kept.items()],
        ends=[
            RefundEnding(project_id=each, at=None if at_ms is None else iso_utc(at_ms))
            for each, at_ms in quote.ends
        ],
        expires_at=iso_utc(quote.expires_at_ms),
        message=_RULE + (on_contracts if quote.contracts else ""),
    )


def _part(room: Front, of: Payment | Refund, debited: int, gas: int) -> RefundPart:
    payer = of.payer if isinstance(of, Payment) else of.recipient
    chain = next((it for it in room.chains.values() if it.chain_id == of.chain_id), None)
    token = None if chain is None else chain.token_at(of.token_address)
    return RefundPart(
        chain=str(of.chain_id) if chain is None else chain.name,
        token=of.token_address if token is None else token.name,
        payment=of.tx_hash,
        log_index=of.log_index,
        to=checksum_address(payer),
        gross=decimal_text(debited + gas, decimals=_DECIMALS),
        gas=decimal_text(gas, decimals=_DECIMALS),
        net=decimal_text(debited, decimals=_DECIMALS),
    )


def shown_refund(room: Front, items: Sequence[Refund]) -> RefundShown:
    """Returns a request for an answer."""
    first = items[0]
    waits = any(not each.decided_by and each.status is RefundStatus.QUEUED for each in items)
    before = iso_utc(first.created_at_ms + DECIDED_IN_MS)
    return RefundShown(
        id=first.request_id,
        state=_behind(_state(each) for each in items),
        refundable_usd=usd_number(MicroUsd(sum(each.debited_micro_usd for each in items))),
        items=[_part_shown(room, each) for each in items],
        decided_by=GATEWAY if first.decided_by == GATEWAY else "operator",
        decided_before=before if waits else UNSET,
        created_at=iso_utc(first.created_at_ms),
    )


def _part_shown(room: Front, refund: Refund) -> RefundPartShown:
    part = _part(room, refund, refund.debited_micro_usd, refund.gas_micro_usd)
    return RefundPartShown(
        **{name: getattr(part, name) for name in part.__struct_fields__},
        state=_state(refund),
        tx_hash=refund.refund_tx_hash,
        because=refund.waits_because or UNSET,
    )


def _state(refund: Refund) -> RefundState:
    match refund.status:
        case RefundStatus.QUEUED:
            return RefundState.HELD if refund.waits_because else RefundState.QUEUED
        case RefundStatus.INTENDED | RefundStatus.SENT:
            return RefundState.SENT
        case RefundStatus.REFUNDED:
            is_final = refund.finality is not Finality.PROVISIONAL
            return RefundState.FINAL if is_final else RefundState.MINED
        case RefundStatus.FAILED:
            return RefundState.FAILED


def _behind(states: Iterable[RefundState]) -> RefundState:
    """Returns the state of the one furthest behind."""
    found = {*states}
    return next(each for each in _FURTHEST_BEHIND if each in found)
