"""Audits the books: checks what must be true of their rows.

Pure functions over rows that were read in one snapshot; each finding names a row. `chains` compares
the rows with the chains.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

import msgspec

from moorage.auth.authenticator import is_signer
from moorage.chains.chain import Chain, Token
from moorage.ledger.ledger import (
    COMPENSATED,
    EARNED,
    GRANTED,
    REFUNDED,
    held_account,
    received_account,
    wallet_account,
)
from moorage.ledger.running_costs import charge_up_to
from moorage.money import credit_from_atomic_units
from moorage.records.payments import Payment, PaymentStatus, Refund, RefundStatus
from moorage.signing import Delegation
from moorage.storage import recoveries
from moorage.storage.database import Transaction
from moorage.storage.money import audit as rows
from moorage.storage.money.accounts import purse_of
from moorage.storage.money.audit import BilledInterval, Books, Given, Posting
from moorage.storage.money.grants import Grant
from moorage.storage.money.payments import Key, key_of

_BACK = tuple(each for each in RefundStatus if each is not RefundStatus.FAILED)


class TokenTotal(msgspec.Struct, frozen=True):
    """What arrived in one token, and what became of it; decimal text of atomic units."""

    chain: str
    token: str
    decimals: int
    received: str  # all but what was reversed
    credited: str
    held: str
    reversed: str
    sent_back: str  # of what was credited or held


class Finding(msgspec.Struct, frozen=True):
    """A row that breaks a rule."""

    row: str  # for an operator to look up: "payment 42161:0x…:3"
    problem: str


def payment_row(key: Key) -> str:
    """Returns a payment's name in a finding."""
    return "payment " + ":".join(map(str, key))


async def audit_books(
    snapshot: Transaction, chains: Iterable[Chain]
) -> tuple[Books, list[Finding]]:
    """Reads the books; returns them, and what is wrong within them."""
    books = await rows.books(snapshot)
    histories = {
        account: await rows.history(snapshot, account)
        for account in {
            _account_of(books, interval)
            for interval in books.intervals
            if _burned(books, interval) < charge_of(interval)
        }
        | {wallet_account(each.giver) for each in books.given}
    }
    decimals = {
        (chain.chain_id, token.key): token.decimals for chain in chains for token in chain.tokens
    }
    holders = {
        each.owner: await recoveries.holder_of(snapshot, each.owner) for each in books.delegations
    }
    return books, [
        *sum_findings(books),
        *balance_findings(books.accounts, books.balances),
        *purse_findings(books),
        *posting_findings(books, histories),
        *worth_findings(books.payments, decimals),
        *burn_findings(books, histories),
        *compensation_findings(books),
        *work_findings(books),
        *refund_findings(books.payments, books.refunds),
        *settlement_findings(books),
        *use_findings(books),
        *delegation_findings(books, holders),
    ]


def sum_findings(books: Books) -> Iterator[Finding]:
    """Each posting sums to zero, and so does the whole ledger."""
    for posting_id, total in books.unbalanced.items():
        yield Finding(
            f"posting {posting_id}", f"its entries sum to {total}" if total else "has no entries"
        )
    whole = sum(books.accounts.values())
    if whole != 0:
        yield Finding("ledger", f"it sums to {whole} micro-USD")


def balance_findings(accounts: Mapping[str, int], balances: Mapping[str, int]) -> Iterator[Finding]:
    """Each cached balance is the sum of the wallet's entries."""
    yield from _sums_of("wallet", wallet_account(""), accounts, balances)


def purse_findings(books: Books) -> Iterator[Finding]:
    """So is that of each purse; none that its wallet has filled owes anything."""
    balances: dict[str, int] = {each.project_id: each.balance for each in books.purses}
    yield from _sums_of("purse", purse_of(""), books.accounts, balances)
    for each in books.purses:
        if each.adopted and each.balance < 0:
            yield Finding(f"purse {each.project_id}", f"is its wallet's, and owes {-each.balance}")
    owners = {each.project_id: each.wallet for each in books.purses}
    for payment in books.payments:
        if payment.purse is not None and owners.get(payment.purse) != payment.payer:
            yield Finding(payment_row(key_of(payment)), "fills the purse of another wallet")


def _sums_of(
    kind: str, prefix: str, accounts: Mapping[str, int], balances: Mapping[str, int]
) -> Iterator[Finding]:
    booked = {
        name.removeprefix(prefix): total
        for name, total in accounts.items()
        if name.startswith(prefix)
    }
    for name in sorted({*booked, *balances}):
        total, cached = booked.get(name, 0), balances.get(name)
        if cached is None:
            yield Finding(f"{kind} {name}", "has entries and no row")
        elif cached != total:
            yield Finding(f"{kind} {name}", f"its balance is {cached}, its entries sum to {total}")


def posting_findings(
    books: Books, histories: Mapping[str, Sequence[tuple[str, int]]]
) -> Iterator[Finding]:
    """Each payment, refund, grant and transfer has exactly its postings; each belongs to one.

    Or it moves credits between a purse and its own wallet, which count as one here. `histories`
    holds the history of the account of each wallet that gave a project away.
    """
    owners = _owners(books)
    postings = {each.id: each for each in books.postings}
    for moved in [each for each in books.postings if each.id.startswith("purse:")]:
        if not all(_in_wallet(moved.amounts, owners, each) for each in moved.amounts):
            del postings[moved.id]
    for given_back in _compensations(books):
        del postings[given_back.id]
    for handed in books.given:
        yield from _of_transfer(handed, postings, histories[wallet_account(handed.giver)])
    for payment in books.payments:
        yield from _of_payment(payment, postings, owners)
    payments = {key_of(payment): payment for payment in books.payments}
    for refund in books.refunds:
        yield from _of_refund(refund, payments.get(key_of(refund)), postings, owners)
    for given in books.grants:
        yield from _of_grant(given, postings)
    for stray in postings:
        yield Finding(f"posting {stray}", "belongs to no payment, refund, grant or transfer")


def _owners(books: Books) -> dict[str, list[str]]:
    """Returns the accounts of the wallets that have had each purse, the one that has it first."""
    owners = {purse_of(each.project_id): [wallet_account(each.wallet)] for each in books.purses}
    for given in books.given:
        owners.setdefault(purse_of(given.project_id), []).append(wallet_account(given.giver))
    return owners


def _of_transfer(
    given: Given, postings: dict[str, Posting], history: Sequence[tuple[str, int]]
) -> Iterator[Finding]:
    """Checks a transfer's posting, if there was a purse, and removes it from `postings`.

    It moved what the purse had just brought its giver. `history` is that of the giver's account.
    """
    booked = postings.pop(f"transfer:{given.id}", None)
    if booked is None:
        return
    taken = booked.amounts.get(wallet_account(given.taker), 0)
    ids = [posting_id for posting_id, _ in history]
    before = history[: ids.index(booked.id)] if booked.id in ids else ()
    moved = [amount for name, amount in before if name.startswith(f"purse:{given.project_id}:")]
    may_move = given.with_purse and moved[-1:] == [taken]
    wallets = {wallet_account(given.giver), wallet_account(given.taker)}
    if booked.amounts.keys() - wallets or (taken and not may_move):
        yield Finding(f"transfer {given.id}", f"moved {taken}, which it may not")


def _compensations(books: Books) -> list[Posting]:
    return [each for each in books.postings if each.id.startswith(f"{COMPENSATED}:")]


def compensation_findings(books: Books) -> Iterator[Finding]:
    """What a project got back is what it burned since its app was lost, once.

    Its intervals were cut when the app was lost, and when it was back.
    """
    intervals: dict[str, list[BilledInterval]] = {}
    for interval in books.intervals:
        intervals.setdefault(interval.project_id, []).append(interval)
    back: Counter[tuple[str, str]] = Counter()
    for given_back in _compensations(books):
        _, project_id, since_ms = given_back.id.split(":")
        amounts = {each: it for each, it in given_back.amounts.items() if each != COMPENSATED}
        back.update({(project_id, each): it for each, it in amounts.items()})
        since = (it for it in intervals.get(project_id, ()) if it.started_at_ms >= int(since_ms))
        if amounts not in list(_burned_up_to(books, since)):
            yield Finding(f"posting {given_back.id}", "is not what was burned from then on")
    for (project_id, account), amount in back.items():
        parts = (books.burned.get(each.id, {}) for each in intervals.get(project_id, ()))
        more = amount + sum(each.get(account, 0) for each in parts)
        if more > 0:
            yield Finding(f"project {project_id}", f"got back {more} more than {account} burned")


def _burned_up_to(books: Books, intervals: Iterable[BilledInterval]) -> Iterator[dict[str, int]]:
    """Yields what the first of the intervals have burned, by account, then the first two, ..."""
    burned: Counter[str] = Counter()
    for interval in intervals:
        for account, amount in books.burned.get(interval.id, {}).items():
            burned[account] -= amount if account != EARNED else 0
        yield {account: amount for account, amount in burned.items() if amount}


def _in_wallet(
    amounts: Mapping[str, int], owners: Mapping[str, Sequence[str]], wallet: str
) -> dict[str, int]:
    """Returns amounts with a wallet's account for those of purses that it has or had."""
    merged: Counter[str] = Counter()
    for account, amount in amounts.items():
        merged[wallet if wallet in owners.get(account, ()) else account] += amount
    return {account: amount for account, amount in merged.items() if amount}


def _of_payment(
    payment: Payment, postings: dict[str, Posting], owners: Mapping[str, Sequence[str]]
) -> Iterator[Finding]:
    """Checks a payment's postings, and removes them from `postings`."""
    row = payment_row(key_of(payment))
    base = f"payment:{payment.chain_id}:{payment.tx_hash}:{payment.log_index}"
    rounds = [base, *(f"{base}:{number}" for number in range(2, payment.round + 1))]
    if payment.posting_id != rounds[-1]:
        yield Finding(row, f"names the posting {payment.posting_id}, not {rounds[-1]}")
    for posting_id in rounds:
        booked = postings.pop(posting_id, None)
        release = postings.pop(f"release:{posting_id}", None)
        given = postings.pop(f"given:{posting_id}", None)
        reversal = postings.pop(f"reversal:{posting_id}", None)
        if booked is None:
            yield Finding(row, f"has no posting {posting_id}")
            continue
        wanted = _credited(payment) if posting_id == rounds[-1] else {}
        left = _total(booked, release, given, reversal)
        left = _in_wallet(left, owners, wallet_account(payment.payer))
        if left != wanted:
            yield Finding(
                row, f"{posting_id} leaves {left or 'nothing'}, not {wanted or 'nothing'}"
            )


def _credited(payment: Payment) -> dict[str, int]:
    """Returns what a payment's postings must leave on which accounts, without refunds."""
    amount = payment.credited_micro_usd
    match payment.status:
        case PaymentStatus.REVERSED:
            return {}
        case PaymentStatus.CREDITED:
            owner = wallet_account(payment.given_to or payment.payer)
        case PaymentStatus.HELD | PaymentStatus.REFUNDED:
            owner = held_account(payment.payer)
    received = received_account(payment.chain_id, payment.token)
    return {owner: amount, received: -amount} if amount else {}


def _of_refund(
    refund: Refund,
    payment: Payment | None,
    postings: dict[str, Posting],
    owners: Mapping[str, Sequence[str]],
) -> Iterator[Finding]:
    """Checks a refund's postings, and removes them from `postings`."""
    row = f"refund {refund.id}"
    debit = postings.pop(f"refund:{refund.id}", None)
    undone = postings.pop(f"refund-undone:{refund.id}", None)
    for_gas = [postings.pop(f"refund-gas{end}:{refund.id}", None) for end in ("", "-undone")]
    if payment is None:
        yield Finding(row, "is of a payment that nobody made")
        return
    if refund.recipient != payment.payer or refund.token_address != payment.token_address:
        yield Finding(row, f"goes to {refund.recipient}, or in a token, that did not pay")
    amount, gas = refund.debited_micro_usd, refund.gas_micro_usd
    payer = refund.recipient
    left = _in_wallet(_total(debit, undone, *for_gas), owners, wallet_account(payer))
    wanted = [
        _total(Posting("", {owner: -amount - gas, REFUNDED: amount, EARNED: gas}))
        for owner in (wallet_account(payment.given_to or payer), held_account(payer))
    ]
    if debit is None:
        yield Finding(row, "has no posting")
    elif refund.status is RefundStatus.FAILED and left:
        yield Finding(row, f"failed, but its postings leave {left}")
    elif refund.status is not RefundStatus.FAILED and left not in wanted:
        yield Finding(row, f"its postings leave {left or 'nothing'}, not {wanted[0]}")


def _of_grant(given: Grant, postings: dict[str, Posting]) -> Iterator[Finding]:
    """Checks a grant's postings, and removes them from `postings`."""
    booked = postings.pop(f"grant:{given.id}", None)
    undone = postings.pop(f"grant-undone:{given.id}", None)
    amount = given.amount_micro_usd if given.undone_at_ms is None else 0
    wanted = {wallet_account(given.wallet): amount, GRANTED: -amount} if amount else {}
    left = _total(booked, undone)
    if booked is None:
        yield Finding(f"grant {given.id}", "has no posting")
    elif left != wanted:
        yield Finding(
            f"grant {given.id}",
            f"its postings leave {left or 'nothing'}, not {wanted or 'nothing'}",
        )


def worth_findings(
    payments: Iterable[Payment], decimals: Mapping[tuple[int, str], int]
) -> Iterator[Finding]:
    """Each payment was credited with what its amount is worth, rounded down."""
    for payment in payments:
        places = decimals.get((payment.chain_id, payment.token_address))
        if places is None:
            continue  # a token that is not accepted any more
        worth = credit_from_atomic_units(payment.amount, decimals=places)
        if payment.credited_micro_usd != worth:
            yield Finding(
                payment_row(key_of(payment)),
                f"was credited with {payment.credited_micro_usd}, but is worth {worth}",
            )


def charge_of(interval: BilledInterval) -> int:
    """Returns what the time of an interval costs, up to where it can be due; micro-USD."""
    until_ms = interval.charged_until_ms if interval.ended_at_ms is None else interval.ended_at_ms
    return charge_up_to(
        until_ms - interval.started_at_ms, monthly_price=interval.monthly_price_micro_usd
    )


def burn_findings(
    books: Books, histories: Mapping[str, Sequence[tuple[str, int]]]
) -> Iterator[Finding]:
    """Each interval burned what its time costs, or less if the credits ran out, or at its limit.

    `histories` holds the history of each account of which intervals burned less.
    """
    for stray in books.burned.keys() - {interval.id for interval in books.intervals}:
        yield Finding(f"posting burn:{stray}", "burns for no run interval")
    owners = _owners(books)
    for interval in books.intervals:
        row = f"run interval {interval.id}"
        due, burned = charge_of(interval), _burned(books, interval)
        purse = purse_of(interval.project_id)
        own = {EARNED, wallet_account(interval.wallet), purse, *owners.get(purse, ())}
        if books.burned.get(interval.id, {}).keys() - own:
            yield Finding(row, f"burned credits that are not those of {interval.wallet}")
        if burned != interval.charged_micro_usd:
            yield Finding(row, f"charged {interval.charged_micro_usd}, but burned {burned}")
        if burned > due:
            yield Finding(row, f"burned {burned} for time that costs {due}")
        elif (
            burned < due
            and not interval.at_limit
            and not ran_out(interval.id, histories[_account_of(books, interval)])
        ):
            yield Finding(row, f"burned {burned} of {due}, though there were credits")


def _account_of(books: Books, interval: BilledInterval) -> str:
    """Returns the account that an interval burned; before its first burn, a purse if there is."""
    wallet, purse = wallet_account(interval.wallet), purse_of(interval.project_id)
    burned = books.burned.get(interval.id, {})
    return wallet if wallet in burned or purse not in books.accounts else purse


def _burned(books: Books, interval: BilledInterval) -> int:
    return books.burned.get(interval.id, {}).get(EARNED, 0)


def ran_out(interval_id: str, history: Sequence[tuple[str, int]]) -> bool:
    """Whether the wallet's balance was zero when the interval was last charged, or later."""
    burns = [
        index
        for index, (posting_id, _) in enumerate(history)
        if posting_id.startswith(f"burn:{interval_id}:")
    ]
    balances = list(accumulate((amount for _, amount in history), initial=0))
    return min(balances[burns[-1] + 1 if burns else 0 :]) <= 0


def work_findings(books: Books) -> Iterator[Finding]:
    """Builds and runs burned what they were charged, at most the price of their billed time."""
    for stray in books.worked.keys() - {f"{each.kind}:{each.id}" for each in books.work}:
        yield Finding(f"posting {stray}", f"burns for no {stray.partition(':')[0]}")
    for each in books.work:
        name = f"{each.kind}:{each.id}"
        row, moved = f"{each.kind} {each.id}", books.worked.get(name, {})
        due = charge_up_to(each.billed_ms, monthly_price=each.monthly_price_micro_usd)
        if moved.keys() - {EARNED, wallet_account(each.wallet), purse_of(each.project_id)}:
            yield Finding(row, f"burned credits that are not those of {each.wallet}")
        burned, charged = moved.get(EARNED, 0), each.charged_micro_usd
        if burned != charged:
            yield Finding(row, f"charged {charged}, but burned {burned}")
        if charged > due or each.billed_ms > each.ran_ms:
            yield Finding(row, f"was charged {charged} for time that costs {due}")


def refund_findings(payments: Iterable[Payment], refunds: Iterable[Refund]) -> Iterator[Finding]:
    """The refunds of a payment are at most its amount."""
    debited: dict[Key, int] = {}
    sent: dict[Key, int] = {}
    for refund in refunds:
        if refund.status in _BACK:
            key = key_of(refund)
            debited[key] = debited.get(key, 0) + refund.debited_micro_usd
            sent[key] = sent.get(key, 0) + refund.amount
    for payment in payments:
        key = key_of(payment)
        if debited.get(key, 0) > payment.credited_micro_usd or sent.get(key, 0) > payment.amount:
            yield Finding(payment_row(key), f"brought {payment.amount}, but {sent[key]} went back")
        if payment.status is PaymentStatus.REFUNDED and sent.get(key, 0) != payment.amount:
            yield Finding(payment_row(key), "is marked as refunded, but did not all go back")


def settlement_findings(books: Books) -> Iterator[Finding]:
    """Each settled authorization has its payment."""
    paid = {(p.chain_id, p.tx_hash, p.token_address, p.payer) for p in books.payments}
    for item in books.settlements:
        key = (item.chain_id, item.tx_hash, item.token_address, item.payer)
        if item.status == "settled" and key not in paid:
            yield Finding(f"settlement {item.id}", f"settled by {item.tx_hash}, but not credited")


def use_findings(books: Books) -> Iterator[Finding]:
    """The wallet that used a payment made it."""
    paid = {(payment.chain_id, payment.tx_hash, payment.payer) for payment in books.payments}
    for use in books.uses:
        if (use.chain_id, use.tx_hash, use.wallet) not in paid:
            yield Finding(
                f"use {use.chain_id}:{use.tx_hash}", f"{use.wallet} used what it did not pay"
            )


def delegation_findings(books: Books, holders: Mapping[str, str]) -> Iterator[Finding]:
    """The key that acts for its owner signed each delegation as it stands."""
    for each in books.delegations:
        given = {name: getattr(each, name) for name in Delegation.__struct_fields__}
        typed = Delegation(**given | {"scopes": each.scopes.split()})
        digest, signature = typed.digest(), bytes.fromhex(each.signature)
        if digest.hex() != each.id or not is_signer(holders[each.owner], digest, signature):
            yield Finding(f"delegation {each.id}", f"is not what {each.owner} has signed")


def token_totals(books: Books, chains: Iterable[Chain]) -> list[TokenTotal]:
    """Returns what became of all payments, for each accepted token."""
    return [_token_total(books, chain, token) for chain in chains for token in chain.tokens]


def _token_total(books: Books, chain: Chain, token: Token) -> TokenTotal:
    in_it = (chain.chain_id, token.key)
    sums = dict.fromkeys(PaymentStatus, 0)
    for payment in books.payments:
        if (payment.chain_id, payment.token_address) == in_it:
            sums[payment.status] += payment.amount
    sent_back = sum(
        refund.amount
        for refund in books.refunds
        if (refund.chain_id, refund.token_address) == in_it
        and refund.status is RefundStatus.REFUNDED
    )
    return TokenTotal(
        chain=chain.name,
        token=token.name,
        decimals=token.decimals,
        received=str(sum(sums.values()) - sums[PaymentStatus.REVERSED]),
        credited=str(sums[PaymentStatus.CREDITED]),
        held=str(sums[PaymentStatus.HELD]),
        reversed=str(sums[PaymentStatus.REVERSED]),
        sent_back=str(sent_back),
    )


def _total(*postings: Posting | None) -> dict[str, int]:
    """Returns what postings together leave on accounts, without zeros."""
    totals: dict[str, int] = {}
    for posting in postings:
        for account, amount in posting.amounts.items() if posting else ():
            totals[account] = totals.get(account, 0) + amount
    return {account: amount for account, amount in totals.items() if amount}
