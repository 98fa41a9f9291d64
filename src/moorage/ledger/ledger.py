"""The ledger: append-only double entry over micro-USD.

Each posting's amounts sum to zero, so the whole ledger does. The balance of a holder, a wallet or a
project's purse, is a cached sum. It is changed only here, in the transaction that appends the
entries.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from moorage.chains.chain import Chain, Token
from moorage.chains.receipt import Receipt, TransferLog, parse_transfer_logs
from moorage.errors import WriteConflict
from moorage.ledger.running_costs import Month, charge_up_to, month_of
from moorage.money import NOTHING, AtomicUnits, MicroUsd, credit_from_atomic_units, usd_number
from moorage.records.event import EventData, EventKind
from moorage.records.payments import Finality, Payment, PaymentStatus, Place, RefundStatus
from moorage.records.project import Project
from moorage.records.project import Transfer as ProjectTransfer
from moorage.storage import events
from moorage.storage.database import Source, Transaction
from moorage.storage.money import accounts, billing, grants, payments, refunds
from moorage.storage.money.grants import Grant

_MAX_TOKENS = 10**9  # whole tokens in one transfer: thousands of such transfers fit into 64 bits


class Transfer(msgspec.Struct, frozen=True):
    """A verified transfer to an address that is, or was, `pay_to`.

    (chain_id, tx_hash, log_index) identifies it. Hashes and addresses are lower-case hex with `0x`.
    """

    chain_id: int
    tx_hash: str
    log_index: int
    token: str  # as clients name it: "usdc"
    token_address: str
    payer: str  # the log's `from`, whose money it was: not the sender of the transaction
    amount: AtomicUnits  # from the log, never from calldata or the price; > 0
    decimals: int
    block_number: int
    block_hash: str
    recipient: str  # `pay_to` as it was when the payment was demanded

    @property
    def worth(self) -> MicroUsd:
        """The credits that it brings."""
        return credit_from_atomic_units(self.amount, decimals=self.decimals)

    @property
    def place(self) -> Place:
        """Where it lies."""
        return Place(self.chain_id, self.tx_hash, self.block_number, self.block_hash)


def transfers_in(
    receipt: Receipt, chain: Chain, *, recipients: Collection[str]
) -> tuple[Transfer, ...]:
    """Returns the transfers of the chain's tokens to `recipients`, sorted by log index.

    `recipients` are spelled as `parse_address` returns them. Transfers of zero, those between
    `recipients`, and those that `uncreditable_in` returns are left out. Raises ValueError when a
    token's log is malformed.
    """
    found = [
        _transfer(log, receipt, chain, token)
        for token in chain.tokens
        for log in parse_transfer_logs(receipt, token_address=token.key)
        if _brings_money(log, recipients) and log.value <= max_units(token)
    ]
    return tuple(sorted(found, key=lambda transfer: transfer.log_index))


def uncreditable_in(
    receipt: Receipt, chain: Chain, *, recipients: Collection[str]
) -> tuple[TransferLog, ...]:
    """Returns transfers to `recipients` of amounts that are too large for the database."""
    return tuple(
        log
        for token in chain.tokens
        for log in parse_transfer_logs(receipt, token_address=token.key)
        if _brings_money(log, recipients) and log.value > max_units(token)
    )


def worth_of(transfers: Iterable[Transfer]) -> MicroUsd:
    """Returns the credits that they bring together."""
    return MicroUsd(sum(transfer.worth for transfer in transfers))


def _brings_money(log: TransferLog, recipients: Collection[str]) -> bool:
    return log.recipient in recipients and log.sender not in recipients and log.value > 0


def max_units(token: Token) -> int:
    """Returns the largest transfer of a token that the books have room for, in atomic units."""
    units: int = _MAX_TOKENS * 10**token.decimals
    return units


def _transfer(log: TransferLog, receipt: Receipt, chain: Chain, token: Token) -> Transfer:
    return Transfer(
        chain_id=chain.chain_id,
        tx_hash=receipt.tx_hash,
        log_index=log.log_index,
        token=token.name,
        token_address=log.token_address,
        payer=log.sender,
        amount=AtomicUnits(log.value),
        decimals=token.decimals,
        block_number=receipt.block_number,
        block_hash=receipt.block_hash,
        recipient=log.recipient,
    )


Verdicts = Mapping[str, str | None]
"""By payer: why the money is held, or None if it may be credited. Others were not screened."""


def verdicts_before(booked: Iterable[Payment], transfers: Iterable[Transfer]) -> Verdicts:
    """Returns the earlier verdicts on the payers of `transfers`.

    `booked` are all payments of the same chain transaction that were ever claimed. A payer's last
    claims decide: what was held stays held, and what was allowed or released stays allowed up to
    the same amounts. So a payer of more in another block has no verdict.
    """
    before = _last_claims_by_payer(booked)
    now: dict[str, Counter[str]] = {}
    for transfer in transfers:
        now.setdefault(transfer.payer, Counter())[transfer.token_address] += transfer.amount
    verdicts: dict[str, str | None] = {}
    for payer, amounts in now.items():
        known = before.get(payer, [])
        reasons = [one.held_reason for one in known if one.held_reason is not None]
        judged: Counter[str] = Counter()
        for payment in known:
            judged[payment.token_address] += payment.amount
        if reasons:
            verdicts[payer] = reasons[0]
        elif amounts <= judged:
            verdicts[payer] = None
    return verdicts


def _last_claims_by_payer(booked: Iterable[Payment]) -> dict[str, list[Payment]]:
    """Returns each payer's payments as last claimed: only those not reversed, if there are any."""
    by_payer: dict[str, list[Payment]] = {}
    for payment in booked:
        by_payer.setdefault(payment.payer, []).append(payment)
    return {payer: _last_claims(theirs) for payer, theirs in by_payer.items()}


def _last_claims(payments: list[Payment]) -> list[Payment]:
    standing = [one for one in payments if one.status is not PaymentStatus.REVERSED] or payments
    last = max(standing, key=lambda one: one.claimed_at_ms)
    return [
        one
        for one in standing
        if one.block_hash == last.block_hash or one.claimed_at_ms == last.claimed_at_ms
    ]


Item = TypeVar("Item")

EARNED = "earned"
REFUNDED = "refunded"
GRANTED = "granted"
COMPENSATED = "compensated"

MAX_ENTRY_MS = 600_000
"""How long what a payment alone brought waits for its project: it takes seconds."""

_TURN = 50  # balances changed before other tasks have their turn
_CLAIMS_A_TURN = 16
_CLAIMS_A_COMMIT = 256
_PAID = (PaymentStatus.CREDITED, PaymentStatus.HELD)


def wallet_account(wallet: str) -> str:
    """Returns the name of the account of a wallet's credits."""
    return f"wallet:{wallet}"


def account_of(holder: str) -> str:
    """Returns the name of the account of a holder's credits."""
    return wallet_account(holder) if accounts.purse_in(holder) is None else holder


class Reach(NamedTuple):
    """What a project can burn: its purse first, then its wallet's credits if it shares them.

    A limit of a month bounds it beside that: see `spent_in`.
    """

    purse: MicroUsd
    wallet: MicroUsd | None
    """The balance of its wallet, which other projects burn as well; None: it burns none of it."""

    @property
    def total(self) -> MicroUsd:
        """Returns all of it; zero or less: nothing."""
        return MicroUsd(self.purse + max(0, self.wallet or 0))


async def reach(source: Source, project_id: str, *, wallet: str) -> Reach:
    """Returns what a project of a wallet can burn."""
    purse = await accounts.purse(source, project_id)
    if purse is not None and not purse.shared:
        return Reach(purse.balance, None)
    return Reach(
        NOTHING if purse is None else purse.balance, await accounts.balance(source, wallet)
    )


async def opened_apart(source: Source, project_id: str) -> bool:
    """Returns whether a payment alone rules a project, whose wallet has not adopted it."""
    purse = await accounts.purse(source, project_id)
    return purse is not None and not purse.adopted


async def holder_of(source: Source, payment: Payment) -> str:
    """Returns whose credits a payment is part of now: its payer's, or those of a purse.

    Or those of the wallet that its payer has bought them for.
    """
    if payment.given_to is not None:
        return payment.given_to
    if payment.purse is None or not await opened_apart(source, payment.purse):
        return payment.payer
    return accounts.purse_of(payment.purse)


async def allowance_holder(source: Source, project_id: str, *, wallet: str) -> str:
    """Returns whose payments allow the builds of a project: its wallet's, or those of its purse."""
    if await opened_apart(source, project_id):
        return accounts.purse_of(project_id)
    return wallet


def held_account(wallet: str) -> str:
    """Returns the name of the account of a wallet's payments that screening holds."""
    return f"held:{wallet}"


def received_account(chain_id: int, token: str) -> str:
    """Returns the name of the account that mirrors what arrived in one token on one chain."""
    return f"received:{chain_id}:{token}"


class Filling(NamedTuple):
    """A transfer that fills the purse of a project."""

    payer: str
    token_address: str
    amount: AtomicUnits
    project_id: str


async def credit_transfers(
    tx: Transaction,
    transfers: Iterable[Transfer],
    *,
    held: Mapping[str, str] = {},
    filling: Filling | None = None,
    now_ms: int,
) -> dict[str, MicroUsd]:
    """Credits verified transfers, each only once; returns what each payer's balance gained.

    One that is `filling` a purse, or whose authorization was stored for one, is credited to that.
    `transfers` hold all transfers of each chain transaction, of every token. `held` maps payers
    whose money screening holds to the reason; an earlier verdict on the same chain transaction
    wins. `tx` must be durable.

    Where the chain transaction was credited in another block, that is reversed first: it can be in
    one block only, so a reorganisation has moved it.
    """
    gained: Counter[str] = Counter()
    by_transaction: dict[tuple[int, str], list[Transfer]] = {}
    for transfer in transfers:
        by_transaction.setdefault((transfer.chain_id, transfer.tx_hash), []).append(transfer)
    for (chain_id, tx_hash), brought in by_transaction.items():
        known = await payments.of_transaction(tx, chain_id=chain_id, tx_hash=tx_hash)
        reasons = {**held, **verdicts_before(known, brought)}
        for number, payment in enumerate(known, 1):
            if _is_in_another_block(payment, brought[0]):
                gained[payment.payer] -= await reverse_payment(tx, payment, now_ms=now_ms)
                await _give_turn(number)
        for number, transfer in enumerate(brought, 1):
            await _give_turn(number)
            gained[transfer.payer] += await _claim(
                tx,
                transfer,
                known,
                held_reason=reasons.get(transfer.payer),
                filling=filling,
                now_ms=now_ms,
            )
    for payer, amount in gained.items():
        if amount < 0:
            await cover_debt(tx, payer, now_ms=now_ms)
    return {payer: MicroUsd(amount) for payer, amount in gained.items() if amount != 0}


def in_parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Yields as many at once as one database transaction may book: others wait for it to end."""
    for at in range(0, len(items), _CLAIMS_A_COMMIT):
        yield items[at : at + _CLAIMS_A_COMMIT]


async def _give_turn(number: int) -> None:
    """Lets other tasks run after a few claims."""
    if number % _CLAIMS_A_TURN == 0:
        await asyncio.sleep(0)


async def _claim(
    tx: Transaction,
    transfer: Transfer,
    known: Iterable[Payment],
    *,
    held_reason: str | None,
    filling: Filling | None,
    now_ms: int,
) -> MicroUsd:
    """Books a transfer unless it is booked; returns what its payer's balance gained."""
    before = await payments.one(tx, (transfer.chain_id, transfer.tx_hash, transfer.log_index))
    if before is not None and before.status is not PaymentStatus.REVERSED:
        return MicroUsd(0)
    payment = _payment(
        transfer,
        round_=before.round + 1 if before else 1,
        held_reason=held_reason,
        purse=await _purse_for(tx, transfer, known, filling, is_held=held_reason is not None),
        now_ms=now_ms,
    )
    if held_reason is None:
        payment = msgspec.structs.replace(payment, given_to=_given_to(transfer, known))
    await accounts.ensure_wallet(tx, payment.payer, now_ms=now_ms)
    if payment.purse is not None:
        await accounts.open_purse(
            tx, payment.purse, wallet=payment.payer, adopted=False, now_ms=now_ms
        )
    holder = await holder_of(tx, payment)
    await (payments.replace if before else payments.add)(tx, payment)
    await accounts.add_posting(
        tx,
        posting_id=payment.posting_id,
        kind="payment",
        amounts={
            _account(payment, holder): payment.credited_micro_usd,
            received_account(payment.chain_id, payment.token): -payment.credited_micro_usd,
        },
        now_ms=now_ms,
    )
    if payment.status is PaymentStatus.HELD:
        await _tell(tx, payment, EventKind.PAYMENT_HELD, now_ms=now_ms)
        return MicroUsd(0)
    await _change_balance(tx, holder, payment.credited_micro_usd)
    await _tell(tx, payment, EventKind.PAYMENT_CREDITED, now_ms=now_ms)
    return payment.credited_micro_usd if holder == payment.payer else MicroUsd(0)


def _given_to(transfer: Transfer, known: Iterable[Payment]) -> str | None:
    """Returns the wallet that a transfer was bought for in another block."""
    same = (transfer.payer, transfer.token_address, transfer.amount)
    given = (each for each in known if (each.payer, each.token_address, each.amount) == same)
    return next((each.given_to for each in given if each.given_to is not None), None)


async def give(tx: Transaction, payment: Payment, taker: str, *, now_ms: int) -> bool:
    """Moves what a payment brought from its payer's credits to those of another wallet.

    If the payment is reversed, the other wallet owes it. Returns False, with nothing moved, if it
    is in a purse, was partly sent back, or the payer has less. Does nothing if it was done before.
    """
    if payment.given_to == taker:
        return True
    sent_back = await refunds.of_payment(tx, payments.key_of(payment))
    amount = payment.credited_micro_usd
    if sent_back or payment.status is not PaymentStatus.CREDITED:
        return False
    if await holder_of(tx, payment) != payment.payer:
        return False
    if not await accounts.change_balance(tx, payment.payer, -amount):
        return False
    await accounts.ensure_wallet(tx, taker, now_ms=now_ms)
    await accounts.add_posting(
        tx,
        posting_id=f"given:{payment.posting_id}",
        kind="given",
        amounts={wallet_account(payment.payer): -amount, wallet_account(taker): amount},
        now_ms=now_ms,
    )
    await payments.give(tx, payment, taker)
    await _change_balance(tx, taker, amount)
    data: EventData = {"amount_usd": usd_number(amount), "payer": payment.payer}
    await events.record(tx, wallet=taker, kind=EventKind.CREDITS_GIVEN, data=data, now_ms=now_ms)
    return True


async def _purse_for(
    tx: Transaction,
    transfer: Transfer,
    filled: Iterable[Payment],
    filling: Filling | None,
    *,
    is_held: bool,
) -> str | None:
    """Returns the project whose purse a transfer fills, or filled in another block.

    What screening holds fills only an existing purse: it may be released in a year.
    """
    purse = await accounts.purse_filled_by(
        tx,
        chain_id=transfer.chain_id,
        tx_hash=transfer.tx_hash,
        payer=transfer.payer,
        token_address=transfer.token_address,
        amount_atomic=str(transfer.amount),
    )
    same = (transfer.payer, transfer.token_address, transfer.amount)
    if purse is None and filling is not None and filling[:3] == same:
        purse = filling.project_id
    for before in filled:
        if (before.payer, before.token_address, before.amount) == same:
            purse = purse or before.purse
    if purse is None or (is_held and await accounts.purse(tx, purse) is None):
        return None
    return purse


async def reverse_payment(tx: Transaction, payment: Payment, *, now_ms: int) -> MicroUsd:
    """Reverses a payment that is no longer on the chain; returns what its payer's balance lost.

    The balance may fall below zero, as credits that were spent are owed: see `cover_debt`. What a
    payment alone brought is taken from the purse that it filled. Does nothing if the payment was
    reversed or refunded meanwhile.
    """
    if payment.status not in _PAID:
        return MicroUsd(0)
    if not await payments.set_status(tx, payment, PaymentStatus.REVERSED):
        return MicroUsd(0)
    amount = payment.credited_micro_usd
    holder = await holder_of(tx, payment)
    await accounts.add_posting(
        tx,
        posting_id=f"reversal:{payment.posting_id}",
        kind="reversal",
        amounts={
            _account(payment, holder): -amount,
            received_account(payment.chain_id, payment.token): amount,
        },
        now_ms=now_ms,
    )
    await _tell(tx, payment, EventKind.PAYMENT_REVERSED, now_ms=now_ms)
    if payment.status is PaymentStatus.HELD:
        return MicroUsd(0)
    await accounts.take_back(tx, holder, amount)
    return amount if holder == payment.payer else MicroUsd(0)


async def cover_debt(tx: Transaction, wallet: str, *, now_ms: int) -> None:
    """Takes what a wallet owes out of the purses that it has filled, the oldest first."""
    owed = -await accounts.balance(tx, wallet)
    for purse in await accounts.purses_of_wallet(tx, wallet) if owed > 0 else ():
        part = MicroUsd(min(owed, purse.balance))
        if purse.adopted and part > 0:
            holder = accounts.purse_of(purse.project_id)
            if not await move(tx, holder, wallet, part, now_ms=now_ms):
                raise WriteConflict
            owed -= part


async def release(tx: Transaction, payment: Payment, *, now_ms: int) -> MicroUsd:
    """Credits a held payment to its payer, or to the purse that it fills; returns the amount.

    Does nothing if the payment is no longer held.
    """
    if not await payments.release(tx, payment):
        return MicroUsd(0)
    amount, holder = payment.credited_micro_usd, await holder_of(tx, payment)
    await accounts.add_posting(
        tx,
        posting_id=f"release:{payment.posting_id}",
        kind="release",
        amounts={held_account(payment.payer): -amount, account_of(holder): amount},
        now_ms=now_ms,
    )
    await _change_balance(tx, holder, amount)
    await _tell(tx, payment, EventKind.PAYMENT_CREDITED, now_ms=now_ms)
    return amount


async def refund(
    tx: Transaction,
    payment: Payment,
    *,
    refund_id: str,
    amount: MicroUsd,
    gas: MicroUsd = NOTHING,
    now_ms: int,
) -> bool:
    """Takes `amount` for a refund, if the payer still has as much; returns whether it did.

    A held payment is refunded as a whole; any other is taken from its payer's balance, or from the
    purse that it filled, with what the payer pays for its `gas`. `tx` must be durable.
    """
    holder = await holder_of(tx, payment)
    if payment.status is PaymentStatus.HELD:
        debited = await payments.set_status(tx, payment, PaymentStatus.REFUNDED)
    else:
        debited = await accounts.change_balance(tx, holder, -(amount + gas))
    if debited:
        await accounts.add_posting(
            tx,
            posting_id=f"refund:{refund_id}",
            kind="refund",
            amounts={_account(payment, holder): -amount, REFUNDED: amount},
            now_ms=now_ms,
        )
        if gas:
            await accounts.add_posting(
                tx,
                posting_id=f"refund-gas:{refund_id}",
                kind="refund",
                amounts={account_of(holder): -gas, EARNED: gas},
                now_ms=now_ms,
            )
    return debited


async def undo_refund(
    tx: Transaction,
    payment: Payment,
    *,
    refund_id: str,
    amount: MicroUsd,
    gas: MicroUsd = NOTHING,
    now_ms: int,
) -> None:
    """Gives back what was taken for a refund that can no longer happen."""
    holder = await holder_of(tx, payment)
    if gas:
        await accounts.add_posting(
            tx,
            posting_id=f"refund-gas-undone:{refund_id}",
            kind="refund",
            amounts={account_of(holder): gas, EARNED: -gas},
            now_ms=now_ms,
        )
    await accounts.add_posting(
        tx,
        posting_id=f"refund-undone:{refund_id}",
        kind="refund",
        amounts={_account(payment, holder): amount, REFUNDED: -amount},
        now_ms=now_ms,
    )
    if payment.status is PaymentStatus.REFUNDED:
        if not await payments.set_status(tx, payment, PaymentStatus.HELD):
            raise WriteConflict
    else:
        await _change_balance(tx, holder, amount + gas)


async def fill_purse(tx: Transaction, payment: Payment, project_id: str, *, now_ms: int) -> bool:
    """Moves what a payment brought from its payer's credits to a project's purse.

    The project then burns only its purse. Returns False, with nothing moved, if the wallet has
    less. Does nothing if the purse has it. `tx` must be durable.
    """
    if await holder_of(tx, payment) == accounts.purse_of(project_id):
        return True
    earlier = await refunds.of_payment(tx, payments.key_of(payment))
    gone = sum(each.debited_micro_usd for each in earlier if each.status is not RefundStatus.FAILED)
    amount = MicroUsd(payment.credited_micro_usd - gone)
    if not await accounts.change_balance(tx, payment.payer, -amount):
        return False
    await accounts.open_purse(tx, project_id, wallet=payment.payer, adopted=False, now_ms=now_ms)
    await accounts.leave_purse(tx, project_id)
    await payments.set_purse(tx, payment, project_id)
    await _move(tx, payment.payer, accounts.purse_of(project_id), amount, now_ms=now_ms)
    await _change_balance(tx, accounts.purse_of(project_id), amount)
    return True


async def empty_purse(tx: Transaction, project_id: str, *, now_ms: int) -> MicroUsd:
    """Moves the rest of a project's purse to its wallet's credits, which the project then shares.

    Returns what moved; below zero if the purse owed: then the wallet owes it. Does nothing without
    a purse, or if it was done before. `tx` must be durable.
    """
    purse = await accounts.purse(tx, project_id)
    if purse is None or not await accounts.adopt_purse(tx, project_id):
        return MicroUsd(0)
    if purse.balance != 0:
        holder = accounts.purse_of(project_id)
        await _move(tx, holder, purse.wallet, purse.balance, now_ms=now_ms)
        await accounts.take_back(tx, holder, purse.balance)
        await accounts.take_back(tx, purse.wallet, -purse.balance)
    return purse.balance


async def move(tx: Transaction, giver: str, taker: str, amount: MicroUsd, *, now_ms: int) -> bool:
    """Moves credits between a wallet and the purse of one of its projects.

    Returns False, with nothing moved, if the giver has less.
    """
    if amount == 0:
        return True
    if not await accounts.change_balance(tx, giver, -amount):
        return False
    await _move(tx, giver, taker, amount, now_ms=now_ms)
    await _change_balance(tx, taker, amount)
    return True


async def hand_over(
    tx: Transaction, purse: accounts.Purse, transfer: ProjectTransfer, *, now_ms: int
) -> bool:
    """Moves what a purse has to its giver's credits, or its taker's as a gift, if it goes along.

    Its posting ends what the giver had to do with the purse. Returns False if the giver owes that.
    """
    holder = accounts.purse_of(purse.project_id)
    if not await move(tx, holder, transfer.giver, purse.balance, now_ms=now_ms):
        raise WriteConflict
    amount = purse.balance if transfer.with_purse else NOTHING
    if amount and not await accounts.change_balance(tx, transfer.giver, -amount):
        return False
    await accounts.add_posting(
        tx,
        posting_id=f"transfer:{transfer.id}",
        kind="transfer",
        amounts={wallet_account(transfer.giver): -amount, wallet_account(transfer.taker): amount},
        now_ms=now_ms,
    )
    await _change_balance(tx, transfer.taker, amount)
    left = max(0, await accounts.balance(tx, transfer.taker))  # it may owe something
    return await move(tx, transfer.taker, holder, MicroUsd(min(amount, left)), now_ms=now_ms)


async def _move(tx: Transaction, giver: str, taker: str, amount: int, *, now_ms: int) -> None:
    """Books what moves between a wallet and the purse of one of its projects."""
    project_id = accounts.purse_in(giver) or accounts.purse_in(taker)
    await accounts.add_posting(
        tx,
        posting_id=f"purse:{project_id}:{uuid.uuid4()}",
        kind="purse",
        amounts={account_of(giver): -amount, account_of(taker): amount},
        now_ms=now_ms,
    )


async def grant(tx: Transaction, given: Grant, *, now_ms: int) -> None:
    """Gives a wallet credits without a payment. `tx` must be durable."""
    await accounts.ensure_wallet(tx, given.wallet, now_ms=now_ms)
    await grants.add(tx, given)
    await accounts.add_posting(
        tx,
        posting_id=f"grant:{given.id}",
        kind="grant",
        amounts={
            wallet_account(given.wallet): given.amount_micro_usd,
            GRANTED: -given.amount_micro_usd,
        },
        now_ms=now_ms,
    )
    await _change_balance(tx, given.wallet, given.amount_micro_usd)
    data: EventData = {"amount_usd": usd_number(given.amount_micro_usd), "reason": given.reason}
    await events.record(
        tx, wallet=given.wallet, kind=EventKind.CREDITS_GRANTED, data=data, now_ms=now_ms
    )


async def undo_grant(tx: Transaction, given: Grant, *, now_ms: int) -> bool:
    """Takes a grant back as a whole, if the wallet still has as much; returns whether it did.

    Does nothing if it was taken back before. `tx` must be durable.
    """
    amount = given.amount_micro_usd
    if not await accounts.change_balance(tx, given.wallet, -amount):
        return False
    if not await grants.set_undone(tx, given.id, at_ms=now_ms):
        raise WriteConflict
    await accounts.add_posting(
        tx,
        posting_id=f"grant-undone:{given.id}",
        kind="grant",
        amounts={wallet_account(given.wallet): -amount, GRANTED: amount},
        now_ms=now_ms,
    )
    data: EventData = {"amount_usd": usd_number(amount), "reason": given.reason}
    await events.record(
        tx, wallet=given.wallet, kind=EventKind.CREDITS_TAKEN_BACK, data=data, now_ms=now_ms
    )
    return True


async def spent_in(source: Source, project_id: str, month: Month) -> MicroUsd:
    """Returns what a project has burned in a month: what ran in it, and what it began to build."""
    ran, built = await billing.burned_around(
        source, project_id, start_ms=month.start_ms, end_ms=month.end_ms
    )
    before_and_in = (
        min(each.charged, _cost_at(each, month.end_ms))
        - min(each.charged, _cost_at(each, month.start_ms))
        for each in ran
    )
    return MicroUsd(built + sum(before_and_in))


def _cost_at(ran: billing.Ran, at_ms: int) -> int:
    return charge_up_to(at_ms - ran.started_at_ms, monthly_price=ran.monthly_price)


async def compensate(
    tx: Transaction, project: Project, burned: Mapping[str, int], *, since_ms: int, now_ms: int
) -> None:
    """Gives back what a project burned from these accounts since a billed time; once for each time.

    `tx` must be durable.
    """
    total = sum(burned.values())
    if not total:
        return
    await accounts.add_posting(
        tx,
        posting_id=f"compensated:{project.id}:{since_ms}",
        kind="compensated",
        amounts={**burned, COMPENSATED: -total},
        now_ms=now_ms,
    )
    for account, amount in burned.items():
        await _change_balance(tx, account.removeprefix(wallet_account("")), amount)
    data: EventData = {"project_id": project.id, "amount_usd": usd_number(MicroUsd(total))}
    await events.record(
        tx, wallet=project.wallet, kind=EventKind.CREDITS_COMPENSATED, data=data, now_ms=now_ms
    )


class Burn(NamedTuple):
    """What a project owes for running or building, at a time in the month that it counts in.

    `posting_id` is unique, so it is booked once.
    """

    project_id: str
    wallet: str
    amount: MicroUsd
    posting_id: str
    at_ms: int


class Burned(NamedTuple):
    """What could be taken of the amount owed, and what the project can burn after it."""

    taken: MicroUsd
    left: MicroUsd
    at_limit: bool = False
    """Whether that is nothing because its limit of the month is reached."""


async def burn(
    tx: Transaction, owed: Sequence[Burn], *, now_ms: int, kind: str = "burn"
) -> list[Burned]:
    """Moves what is owed to `EARNED`, in this order: from purses, then from wallets that share.

    A balance stops at zero, and a project at its limit of the month: `tx` must name no rows
    (`of`), so that nothing else is booked meanwhile. Raises UniqueViolation when one was booked
    before, WriteConflict when a balance fell meanwhile.
    """
    purses = await accounts.purses_of_projects(tx, {each.project_id for each in owed})
    limits = {
        (each.project_id, month): limit - await spent_in(tx, each.project_id, month)
        for each, month in {(each, month_of(each.at_ms)) for each in owed}
        if (purse := purses.get(each.project_id)) and (limit := purse.limit) is not None
    }
    left: dict[str, int] = {
        wallet: await accounts.balance(tx, wallet) for wallet in {each.wallet for each in owed}
    }
    left |= {accounts.purse_of(each.project_id): each.balance for each in purses.values()}
    amounts, burned = {}, []
    taken_of: Counter[str] = Counter()
    for each in owed:
        purse, holders = purses.get(each.project_id), []
        if purse is not None:
            holders.append(accounts.purse_of(each.project_id))
        if purse is None or purse.shared:
            holders.append(each.wallet)
        month = (each.project_id, month_of(each.at_ms))
        due: int = each.amount if month not in limits else min(each.amount, limits[month])
        parts: dict[str, int] = {}
        for holder in holders:
            part = max(0, min(due - sum(parts.values()), left[holder]))
            if part:
                parts[holder] = part
                left[holder] -= part
        taken = sum(parts.values())
        rest = sum(left[holder] for holder in holders if left[holder] > 0 or len(holders) == 1)
        is_at_limit = False
        if month in limits:
            limits[month] -= taken
            is_at_limit = rest > 0 >= limits[month]
            rest = min(rest, limits[month])
        burned.append(Burned(MicroUsd(taken), MicroUsd(rest), is_at_limit))
        if parts:
            taken_of.update(parts)
            amounts[each.posting_id] = {
                **{account_of(holder): -part for holder, part in parts.items()},
                EARNED: taken,
            }
    await accounts.add_postings(tx, kind=kind, amounts=amounts, now_ms=now_ms)
    for number, (holder, total) in enumerate(taken_of.items(), 1):
        if not await accounts.change_balance(tx, holder, -total):
            raise WriteConflict
        if number % _TURN == 0:
            await asyncio.sleep(0)
    return burned


def moves(known: Iterable[Payment], transfers: Sequence[Transfer]) -> bool:
    """Whether `credit_transfers` would reverse one of `known`, as its transaction has moved."""
    return any(_is_in_another_block(payment, transfers[0]) for payment in known)


def _is_in_another_block(payment: Payment, transfer: Transfer) -> bool:
    return payment.status in _PAID and payment.block_hash != transfer.block_hash


def _payment(
    transfer: Transfer, *, round_: int, held_reason: str | None, purse: str | None, now_ms: int
) -> Payment:
    posting_id = f"payment:{transfer.chain_id}:{transfer.tx_hash}:{transfer.log_index}"
    return Payment(
        chain_id=transfer.chain_id,
        tx_hash=transfer.tx_hash,
        log_index=transfer.log_index,
        payer=transfer.payer,
        token=transfer.token,
        token_address=transfer.token_address,
        amount_atomic=str(transfer.amount),
        credited_micro_usd=credit_from_atomic_units(transfer.amount, decimals=transfer.decimals),
        block_number=transfer.block_number,
        block_hash=transfer.block_hash,
        claimed_at_ms=now_ms,
        status=PaymentStatus.CREDITED if held_reason is None else PaymentStatus.HELD,
        finality=Finality.PROVISIONAL,
        round=round_,
        posting_id=posting_id if round_ == 1 else f"{posting_id}:{round_}",
        held_reason=held_reason,
        recipient=transfer.recipient,
        purse=purse,
    )


async def _tell(tx: Transaction, payment: Payment, kind: EventKind, *, now_ms: int) -> None:
    """Records an event for the payer."""
    data: EventData = {
        "chain_id": payment.chain_id,
        "tx_hash": payment.tx_hash,
        "log_index": payment.log_index,
        "token": payment.token,
        "amount_token": payment.amount_atomic,
        "amount_usd": usd_number(payment.credited_micro_usd),
    }
    if payment.purse is not None:
        data = {**data, "project_id": payment.purse}
    await events.record(tx, wallet=payment.payer, kind=kind, data=data, now_ms=now_ms)


def _account(payment: Payment, holder: str) -> str:
    """Returns the account of a payment: that of `holder`, unless screening holds it."""
    return account_of(holder) if payment.held_reason is None else held_account(payment.payer)


async def _change_balance(tx: Transaction, holder: str, amount: int) -> None:
    """Changes the cached balance as the entries did; raises RuntimeError if it cannot."""
    if not await accounts.change_balance(tx, holder, amount):
        raise RuntimeError(f"the balance of {holder} cannot change by {amount} micro-USD")
