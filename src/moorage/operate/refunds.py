"""Payments sent back, released from screening, or found again on their chain."""

import asyncio
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from moorage.address import parse_address
from moorage.chains.chain import Chain, Token
from moorage.chains.heads import read_block, read_heads
from moorage.chains.rpc import RpcClient
from moorage.chains.signing import SigningKey
from moorage.clock import Clock, SystemClock, boot_id
from moorage.errors import (
    ChainUnavailable,
    DatabaseUnavailable,
    InvalidField,
    RecoveryPending,
    RefundInProgress,
    RefundRefused,
    TermsChanged,
)
from moorage.hosting.limits import BUILD_CPU_MILLIS
from moorage.ledger import ledger
from moorage.ledger.build_time import BuildTime
from moorage.ledger.metering import Metering
from moorage.money import NOTHING, AtomicUnits
from moorage.operate.books import OpenBooks, dev_key, note_act, open_books
from moorage.payments.relay.refund_requests import RefundAsked, RefundLimits, RefundRequests
from moorage.payments.relay.refunds import Refunds, give_up
from moorage.payments.relay.relayer import key_in, treasury_relayer
from moorage.payments.taking.screening import Screening
from moorage.payments.watch.finding import FoundTransaction, credit_found, find_payments
from moorage.records.payments import UNFINISHED, Payment, PaymentStatus, Refund, RefundStatus
from moorage.settings import Settings
from moorage.storage.database import Database, Transaction
from moorage.storage.money import accounts, payments, refunds


async def release(
    db: Database, tx_hash: str, *, chain_ids: set[int], clock: Clock, who: str, reason: str = ""
) -> list[Payment]:
    """Credits a transaction's held payments, on these chains, to their payers; returns them.

    `who` is the operator who releases them. A payment that is not held any more is left as it is.
    """
    released = []
    async with db.transaction(durable=True) as tx:
        for chain_id in sorted(chain_ids):
            for payment in await payments.of_transaction(tx, chain_id=chain_id, tx_hash=tx_hash):
                if payment.status is PaymentStatus.HELD:
                    await ledger.release(tx, payment, now_ms=clock.now_ms())
                    released.append(payment)
        if released:
            await note_act(tx, who, "payments release", tx_hash, reason=reason)
    return released


async def run_find(
    settings: Settings, first: int, last: int, *, chain: str, are_times: bool, credits_it: bool
) -> list[FoundTransaction]:
    """Searches blocks again at every node; returns what the books lack, or what was credited of it.

    `first` and `last` are block numbers, both inclusive, or Unix milliseconds. "" searches every
    chain. Raises InvalidField and ChainUnavailable.
    """
    screening = Screening(settings.screening)
    found: list[FoundTransaction] = []
    async with open_books(settings) as books:
        if chain and chain not in books.chains:
            raise InvalidField("--chain", f"must be one of {', '.join(books.chains)}")
        if not are_times and not chain and len(books.chains) > 1:
            raise InvalidField("--chain", "say which chain's blocks")
        for name in [chain] if chain else books.chains:
            if name not in books.clients:
                raise ChainUnavailable(f"The chain {name} does not run.")
            client = books.clients[name]
            safe = min([(await read_heads(node)).safe for node in client.nodes])
            begin, end = first, min(last, safe)
            if are_times:
                begin = await _block_at(client, first, safe)
                end = await _block_at(client, last, safe)
            recipients = books.recipients - books.retired
            lacking = await find_payments(
                books.db, client, recipients=recipients, first=begin, last=end
            )
            if credits_it:
                lacking = await credit_found(
                    books.db, client, lacking, screen=screening.ask, clock=SystemClock()
                )
                async with books.db.transaction(durable=True) as tx:
                    for each in lacking:
                        await note_act(tx, books.operator, "payments find", each.tx_hash, reason="")
            found += lacking
    return found


async def _block_at(client: RpcClient, time_ms: int, newest: int) -> int:
    """Returns the number of the first block of this time or later, `newest` at most."""
    low, high = 0, newest
    while low < high:
        middle = (low + high) // 2
        if (await read_block(client, middle)).time * 1000 < time_ms:
            low = middle + 1
        else:
            high = middle
    return low


_LOOK_SECONDS = 0.5


class RefundOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The refund that the operator orders."""

    tx_hash: str  # of the payment
    chain: str | None  # by name; needed where several chains have the hash
    log_index: int | None  # needed where the transaction made several payments
    amount: str | None  # tokens as a decimal; None: all that is left
    recipient: str | None  # must be the payer, who alone gets a refund
    reason: str
    earlier: int | None = None  # refunds of it that the operator knows of; None: however many


class RefundSeen(NamedTuple):
    """A refund in its current state, and its chain."""

    chain: Chain
    refund: Refund


async def run_refund(
    settings: Settings, order: RefundOrder, *, key_file: Path | None, wait_seconds: float
) -> RefundSeen:
    """Sends a payment back; returns the refund's state after at most `wait_seconds`.

    Raises RefundRefused, ConfigurationInvalid and ChainUnavailable; then nothing was sent.
    """
    async with open_books(settings) as books:
        begun = await begin_refund(books, order, key=refund_key(settings, key_file))
        await _follow(begun.service, begun.refund, wait_seconds)
        return RefundSeen(begun.chain, await _stored(books, begun.refund))


class BegunRefund(NamedTuple):
    """A refund that was sent, and what follows it."""

    chain: Chain
    refund: Refund
    service: Refunds


async def begin_refund(books: OpenBooks, order: RefundOrder, *, key: SigningKey) -> BegunRefund:
    """Sends a payment back from the address of `key`, and does not wait for its outcome.

    Raises RefundRefused and ChainUnavailable; then nothing was sent.
    """
    payment = await _ordered_payment(books, order)
    chain, client = _chain_of(books, payment.chain_id)
    service = _refunds(books, client, key)
    amount = _amount(order.amount, chain.token_at(payment.token_address))

    async def note(tx: Transaction) -> None:
        await _require_known(tx, payment, order.earlier)
        await note_act(tx, books.operator, "refund", order.tx_hash, reason=order.reason)

    refund = await service.begin(payment, amount=amount, reason=order.reason, note=note)
    return BegunRefund(chain, refund, service)


async def decide(books: OpenBooks, request_id: str, *, sends: bool, reason: str) -> list[Refund]:
    """Lets what a customer asked back be sent, or declines it, which gives the credits back.

    Returns what was queued of it. Raises RefundRefused if nothing is queued any more.
    """
    async with books.db.transaction(durable=True) as tx:
        waiting = [each for each in await refunds.queued(tx) if each.request_id == request_id]
        if not request_id or not waiting:
            raise RefundRefused("No queued refund has this id: see `--queued`.")
        if sends:
            await refunds.decide(tx, request_id, by=books.operator)
        for each in () if sends else waiting:
            await give_up(tx, each, because=reason, now_ms=SystemClock().now_ms())
        act = "refund send" if sends else "refund decline"
        await note_act(tx, books.operator, act, request_id, reason=reason)
    return waiting


async def run_decide(
    settings: Settings,
    request_id: str,
    *,
    sends: bool,
    reason: str,
    key_file: Path | None,
    wait_seconds: float,
) -> list[RefundSeen]:
    """Sends what a customer asked back, from the address of the key, or declines it.

    Raises RefundRefused and ChainUnavailable for what is not sent, and stays queued.
    """
    async with open_books(settings) as books:
        key = refund_key(settings, key_file) if sends else None
        waiting = await decide(books, request_id, sends=sends, reason=reason)
        if key is not None:
            for each in waiting:
                service = await send_queued(books, each, key=key)
                await _follow(service, each, wait_seconds)
        return [
            RefundSeen(_chain_of(books, each.chain_id)[0], await _stored(books, each))
            for each in waiting
        ]


async def send_queued(books: OpenBooks, queued: Refund, *, key: SigningKey) -> Refunds:
    """Sends a queued refund from the address of `key`; returns what follows it.

    Raises RefundRefused and ChainUnavailable; then it stays queued.
    """
    _, client = _chain_of(books, queued.chain_id)
    service = _refunds(books, client, key)
    await service.send(queued)
    return service


async def run_all_unspent(
    settings: Settings, *, reason: str, key_file: Path | None, wait_seconds: float
) -> list[RefundSeen]:
    """Sends every wallet what it paid and did not use, as its own request would.

    A wallet with more than one request takes gets several, while each is mined in time. Refunds of
    a suspended wallet, or of one that was taken over, stay queued for a decision of their own.
    Raises RefundRefused and ChainUnavailable for the first that is not sent; it stays queued.
    """
    async with open_books(settings) as books:
        key, requests = refund_key(settings, key_file), await _requests(settings, books)
        seen: list[RefundSeen] = []
        for asked in await _all_that_have(books.db):
            while (quote := await requests.quote(asked)).items:
                try:
                    made = await requests.request(
                        asked.wallet, quote.id, expected=None, suspend=None
                    )
                except (RecoveryPending, RefundInProgress, TermsChanged):
                    break
                queued = await requests.one(asked.wallet, made.id)
                if any(each.waits_because for each in queued):
                    seen += [RefundSeen(_chain_of(books, it.chain_id)[0], it) for it in queued]
                    break
                for each in await decide(books, made.id, sends=True, reason=reason):
                    service = await send_queued(books, each, key=key)
                    await _follow(service, each, wait_seconds)
                    chain, _ = _chain_of(books, each.chain_id)
                    seen.append(RefundSeen(chain, await _stored(books, each)))
        return seen


async def _all_that_have(db: Database) -> list[RefundAsked]:
    purses = [each for each in await accounts.every_purse(db) if each.balance > 0]
    return [
        *(RefundAsked(each) for each in await accounts.wallets_with_credits(db)),
        *(RefundAsked(each.wallet, each.project_id) for each in purses),
    ]


async def _requests(settings: Settings, books: OpenBooks) -> RefundRequests:
    """Returns what takes requests, beside the gateway; nothing is sent by itself."""
    clock = SystemClock()
    metering = Metering(db=books.db, clock=clock, boot_id=boot_id())
    await metering.time.resume(books.db)
    month = settings.price_list.month(
        memory_mib=settings.build_memory_mib, cpu_millis=BUILD_CPU_MILLIS
    )
    return RefundRequests(
        db=books.db,
        clients=books.clients,
        metering=metering,
        build_time=BuildTime(
            db=books.db,
            minutes_per_usd=settings.build_minutes_per_usd,
            monthly_price=month,
            clock=clock,
        ),
        senders={},
        pay_to=books.pay_to,
        limits=RefundLimits(NOTHING, NOTHING, NOTHING),
        secret=secrets.token_bytes(),
        clock=clock,
    )


async def run_queued(settings: Settings) -> list[RefundSeen]:
    """Returns what customers asked back and is not sent yet, the oldest first."""
    async with open_books(settings) as books:
        return [
            RefundSeen(_chain_of(books, each.chain_id)[0], each)
            for each in await refunds.queued(books.db)
        ]


async def run_resume(
    settings: Settings, *, key_file: Path | None, wait_seconds: float
) -> list[RefundSeen]:
    """Follows every refund whose outcome is unknown or not final; returns their states.

    Raises RefundRefused for one that another key has signed, ConfigurationInvalid,
    ChainUnavailable.
    """
    async with open_books(settings) as books:
        key = refund_key(settings, key_file)
        followed = []
        open_refunds = [
            refund
            for chain in books.chains.values()
            for refund in await refunds.to_follow(books.db, chain_id=chain.chain_id)
        ]
        for refund in open_refunds:
            chain, client = _chain_of(books, refund.chain_id)
            service = _refunds(books, client, key)
            await _follow(service, refund, wait_seconds)
            followed.append(RefundSeen(chain, await _stored(books, refund)))
        return followed


async def _require_known(tx: Transaction, payment: Payment, earlier: int | None) -> None:
    """Raises RefundRefused if there are refunds of a payment that its operator does not know of.

    The one that is being stored is not counted.
    """
    stored = await refunds.of_payment(tx, payments.key_of(payment))
    if earlier is not None and len(stored) != earlier + 1:
        raise RefundRefused("It was refunded meanwhile. Look at it again.")


def refund_key(settings: Settings, key_file: Path | None) -> SigningKey:
    """Returns the key that refunds are sent with: of `key_file`, else as the settings say.

    Raises ConfigurationInvalid without one.
    """
    if key_file is None and settings.refund_key_file:
        return key_in(Path(settings.refund_key_file), option="refund_key_file")
    return dev_key(settings) if key_file is None else key_in(key_file, option="--key-file")


def _refunds(books: OpenBooks, client: RpcClient, key: SigningKey) -> Refunds:
    clock = SystemClock()
    return Refunds(
        db=books.db,
        client=client,
        relayer=treasury_relayer(books.db, client, key, clock=clock),
        sender=key.address,
        recipients=books.recipients,
        clock=clock,
    )


async def _follow(service: Refunds, refund: Refund, wait_seconds: float) -> None:
    """Follows the refund until its outcome is known, or `wait_seconds` are over.

    Errors of chain or database are ignored meanwhile: what was sent is on its way.
    """
    status = RefundStatus.INTENDED
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_seconds):
            while status in UNFINISHED:
                with suppress(ChainUnavailable, DatabaseUnavailable):
                    status = await service.follow(refund)
                if status in UNFINISHED:
                    await asyncio.sleep(_LOOK_SECONDS)


async def _stored(books: OpenBooks, refund: Refund) -> Refund:
    """Reads the refund's current state; without a database its outcome is as open as it was."""
    try:
        of_payment = await refunds.of_payment(books.db, payments.key_of(refund))
    except DatabaseUnavailable:
        return refund
    return next(each for each in of_payment if each.id == refund.id)


async def _ordered_payment(books: OpenBooks, order: RefundOrder) -> Payment:
    if order.chain is not None and order.chain not in books.chains:
        raise RefundRefused(f"--chain must be one of {', '.join(books.chains)}.")
    recorded = await payments.by_hash(books.db, tx_hash=order.tx_hash)
    ids = {chain.chain_id for name, chain in books.chains.items() if order.chain in (None, name)}
    found = [
        payment
        for payment in recorded
        if payment.chain_id in ids and order.log_index in (None, payment.log_index)
    ]
    if not found and recorded and order.chain is None:
        raise RefundRefused(_not_configured(recorded[0].chain_id))
    payment = _only(found)
    if order.recipient is not None and parse_address(order.recipient) != payment.payer:
        raise RefundRefused(f"{payment.payer} paid, and nobody else is sent it back.")
    return payment


def _only(found: Iterable[Payment]) -> Payment:
    match list(found):
        case [payment]:
            return payment
        case []:
            raise RefundRefused("No payment of this transaction is recorded here.")
        case several:
            listed = ", ".join(f"{item.log_index} on {item.chain_id}" for item in several)
            raise RefundRefused(
                f"This transaction made several payments: name one with --log-index ({listed})."
            )


def _chain_of(books: OpenBooks, chain_id: int) -> tuple[Chain, RpcClient]:
    for name, chain in books.chains.items():
        if chain.chain_id == chain_id:
            if name not in books.clients:
                raise ChainUnavailable(f"The chain {name} does not run.")
            return chain, books.clients[name]
    raise RefundRefused(_not_configured(chain_id))


def _not_configured(chain_id: int) -> str:
    return (
        f"Its chain {chain_id} is not configured any more: put it back under [chains], with "
        "`closed = true`, to refund what was paid there."
    )


def _amount(text: str | None, token: Token | None) -> AtomicUnits | None:
    """Converts a decimal of tokens to atomic units. Raises RefundRefused."""
    if text is None or token is None:
        return None
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isascii() and digits.isdecimal()) or len(fraction) > token.decimals:
        raise RefundRefused(
            f"--amount must be {token.name} as a decimal, with {token.decimals} places at most."
        )
    return AtomicUnits(int(digits) * 10 ** (token.decimals - len(fraction)))
