"""`GET /agent/credits`: a wallet's balance, what burns it, how long it lasts, and its history."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from moorage.api.http.caller import Front, authenticate
from moorage.api.http.problems import json_response
from moorage.api.http.query import whole_number
from moorage.chains.address import checksum_address
from moorage.clock import iso_utc
from moorage.ledger.build_time import Allowance, BuildTime
from moorage.ledger.burn import hour_of, runs_out_at
from moorage.ledger.ledger import held_account, wallet_account
from moorage.ledger.metering import Metering
from moorage.money import MicroUsd, usd_number
from moorage.storage.money import accounts, billing, purses
from moorage.storage.money import accounts as statement
from moorage.storage.money.accounts import StatementEntry
from moorage.storage.money.billing import RunInterval
from moorage.storage.operation import wallet_rules
from moorage.storage.operation.wallet_rules import NoticeKind
from moorage.wire.credits import BuildAllowance, BurningProject, CreditEntry, Credits, ProjectPurse

_MAX_ENTRIES = 100
_DEFAULT_ENTRIES = 20
_LAST_PLACE = 2**63 - 1
_LAST_TIME_MS = 253_402_300_799_999  # the end of the year 9999: ISO 8601 ends there

_OF_TRANSACTION = re.compile(r"payment:(?P<chain_id>\d+):(?P<tx_hash>0x[0-9a-f]{64}):")


@dataclass(frozen=True, kw_only=True)
class CreditRoom(Front):
    """What the handler of credits needs."""

    metering: Metering
    build_time: BuildTime


async def show_credits(room: CreditRoom, request: Request) -> Response:
    """`GET /agent/credits`: balance, burn per hour, time of exhaustion, a page of the ledger."""
    wallet, _ = await authenticate(room, request)
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
    return json_response(
        Credits(
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
    )


async def _purses(room: CreditRoom, wallet: str) -> list[ProjectPurse]:
    """Returns what projects of a wallet have of their own."""
    found = []
    for purse in await purses.of_wallet(room.db, wallet):
        if not purse.shared:
            holder = accounts.purse_of(purse.project_id)
            burning = await billing.open_of_holder(room.db, holder)
            found.append(
                ProjectPurse(
                    project_id=purse.project_id,
                    balance_usd=usd_number(purse.balance),
                    shared=False,
                    runs_out_at=runs_out(room.metering, purse.balance, burning),
                )
            )
    return found


def runs_out(metering: Metering, balance: MicroUsd, burning: list[RunInterval]) -> str | None:
    """Returns when these have burned the balance; None: never, or after the year 9999."""
    billed = metering.time
    billed_ms = runs_out_at(balance, burning, now_ms=billed.now_ms())
    if billed_ms is None or (wall_ms := billed.wall_ms(billed_ms)) > _LAST_TIME_MS:
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
    return CreditEntry(
        id=entry.posting_id,
        kind=entry.kind,
        amount_usd=usd_number(entry.amount),
        amount_micro_usd=entry.amount,
        at=iso_utc(entry.created_at_ms),
        project_id=entry.project_id or UNSET,
        chain=chains.get(int(paid["chain_id"]), paid["chain_id"]) if paid else UNSET,
        tx_hash=paid["tx_hash"] if paid else UNSET,
    )
