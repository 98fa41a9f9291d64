"""An invoice: what a wallet paid and used in some months, from the ledger alone."""

from collections import Counter
from collections.abc import Mapping, Sequence

from moorage.address import checksum_address
from moorage.clock import iso_utc
from moorage.storage.apps import projects
from moorage.storage.database import Source
from moorage.storage.money import accounts
from moorage.wire.receipts import Invoice, InvoiceLine

_USES = {"burn": "running", "build": "building beyond the allowance", "run": "runs"}
_ASLEEP = "sleeping"
_PAID = ("payment", "release", "reversal")
_NUMBER_DIGITS = 12
_LAST_MS = 253_402_300_799_999  # the end of the year 9999: ISO 8601 ends there


async def invoice(
    source: Source,
    wallet: str,
    *,
    months: Mapping[str, int],
    until_ms: int,
    issuer: Sequence[str],
    now_ms: int,
) -> Invoice:
    """Returns what was booked on a wallet and its projects' purses, before `until_ms`.

    `months` are the beginnings of at most 12 periods, the first first, by the names that lines
    have. Whatever kinds of postings there are, the sums add up: `other` is what is none of these.
    """
    periods, starts_ms = list(months), list(months.values())
    found = await accounts.booked_sums(source, wallet, starts_ms=starts_ms, until_ms=until_ms)
    within = [each for each in found if each.period]
    opening = sum(each.amount for each in found if not each.period)
    moved: Counter[str] = Counter()
    for each in within:
        moved[each.kind] += each.amount
    total = sum(moved.values())
    names = {each.project_id or "": "" for each in within if each.kind in _USES}
    for project_id in names:
        project = await projects.by_id(source, project_id)
        names[project_id] = project.unique_name if project else project_id
    lines = [
        InvoiceLine(
            month=periods[each.period - 1],
            project=names[each.project_id or ""],
            project_id=each.project_id or "",
            what=_ASLEEP if each.asleep else _USES[each.kind],
            amount_micro_usd=-each.amount,
        )
        for each in within
        if each.kind in _USES
    ]
    given = moved["grant"] + moved["compensated"]
    used, paid = sum(each.amount_micro_usd for each in lines), sum(moved[kind] for kind in _PAID)
    shown = dict.fromkeys(filter(None, (periods[0], periods[-1])))
    return Invoice(
        number="-".join([*shown, wallet[2 : 2 + _NUMBER_DIGITS]]),
        issuer=[*issuer],
        wallet=checksum_address(wallet),
        since=iso_utc(starts_ms[0]),
        until=iso_utc(min(until_ms, _LAST_MS)),
        is_final=until_ms <= now_ms,
        opening_micro_usd=opening,
        paid_micro_usd=paid,
        given_micro_usd=given,
        refunded_micro_usd=-moved["refund"],
        other_micro_usd=total - paid - given - moved["refund"] + used,
        used_micro_usd=used,
        closing_micro_usd=opening + total,
        lines=sorted(
            lines, key=lambda line: (line.month, line.project, line.project_id, line.what)
        ),
    )
