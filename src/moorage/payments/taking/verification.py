"""Reads from a chain which transfers to the gateway a transaction made.

Only Transfer logs count: not who sent the transaction, which contract was called, its calldata, or
what the token returned.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal

import structlog

from moorage.address import parse_address
from moorage.auth.rate_limit import RateLimiter
from moorage.chains.chain import Chain, Token
from moorage.chains.heads import (
    HEAD_CALLS,
    Block,
    Heads,
    block_call,
    is_safe,
    parse_block,
    parse_heads,
)
from moorage.chains.receipt import (
    Receipt,
    balance_of_calldata,
    decode_uint256,
    normalise_tx_hash,
    parse_bytes32,
    parse_quantity,
    parse_receipt,
    parse_transfer_log,
    parse_transfer_logs,
)
from moorage.chains.rpc import QUICK_ANSWER_BYTES, Call, RpcClient, RpcError
from moorage.clock import Clock
from moorage.errors import (
    ChainUnavailable,
    PaymentHeld,
    PaymentNotFound,
    PaymentPending,
    RateLimited,
)
from moorage.ledger.ledger import Transfer, transfers_in, uncreditable_in, worth_of
from moorage.metrics import PAYMENTS_UNCREDITABLE
from moorage.money import MicroUsd
from moorage.records.payments import Payment, Place, Refund


def payment_problem(
    payment: Payment, receipt: Receipt | None, *, recipients: Collection[str]
) -> str | None:
    """Returns how a payment differs from its transaction's receipt; None when it does not."""
    if receipt is None:
        return "its transaction is not on the chain"
    logs = parse_transfer_logs(receipt, token_address=payment.token_address)
    log = next((log for log in logs if log.log_index == payment.log_index), None)
    if lies_in_another_block(payment, receipt):
        return f"lies in block {receipt.block_number} {receipt.block_hash} by now"
    if log is None:
        return "its transaction holds no such transfer"
    ours = recipients if payment.recipient is None else (payment.recipient,)
    told = (log.sender, log.value)
    if told != (payment.payer, payment.amount) or log.recipient not in ours:
        return f"the chain tells of {log.value} from {log.sender} to {log.recipient}"
    return None


def lies_in_another_block(payment: Payment, receipt: Receipt | None) -> bool:
    """Whether a payment's transaction is on the chain, in another block than was credited."""
    return receipt is not None and (receipt.block_number, receipt.block_hash) != (
        payment.block_number,
        payment.block_hash,
    )


def refund_is_on_chain(refund: Refund, receipt: Receipt | None) -> bool:
    """Whether a transaction pays the refund's amount to its recipient."""
    return receipt is not None and any(
        (log.recipient, log.value) == (refund.recipient, refund.amount)
        for log in parse_transfer_logs(receipt, token_address=refund.token_address)
    )


Head = Literal["latest", "safe", "finalized"]


class Stance(Enum):
    """What a node says of a transaction's place."""

    HOLDS = auto()  # the block is part of the chain, and holds the transaction
    LOST = auto()  # the block is part of the chain, and there is no such transaction
    MOVED = auto()  # the block is not part of the chain, and the transaction lies in another one
    GONE = auto()  # the block is not part of the chain, and the transaction is in none
    UNSURE = auto()  # the node is behind, or contradicts itself


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A transaction as one node shows it, and the block that has its block's number there."""

    heads: Heads
    receipt: Receipt | None
    canonical: Block | None

    def stance(self, place: Place) -> Stance:
        """Returns what the node says of the transaction in `place`."""
        at, mined = self.canonical, self.receipt
        if at is None or at.number != place.block_number:
            return Stance.UNSURE
        is_in_it = mined is not None and mined.block_hash == place.block_hash
        if at.hash == place.block_hash:
            kept = Stance.HOLDS if is_in_it else Stance.UNSURE
            return Stance.LOST if mined is None else kept
        if mined is None:
            return Stance.GONE
        is_safe = mined.block_number <= self.heads.safe
        return Stance.MOVED if is_safe and not is_in_it else Stance.UNSURE


async def sightings(
    client: RpcClient, places: Sequence[Place]
) -> list[list[Sighting] | ChainUnavailable]:
    """Returns what each node shows of each of `places`, in one round trip each, all at once.

    For a node that gives nothing valid it is why; AnswerTooLarge asks for fewer places.
    """
    calls: list[Call] = [*HEAD_CALLS]
    for place in places:
        calls += [
            ("eth_getTransactionReceipt", [place.tx_hash]),
            block_call(place.block_number),
        ]
    max_bytes = QUICK_ANSWER_BYTES if len(places) > 1 else None

    async def look(node: RpcClient) -> list[Sighting]:
        answers = await node.batch(calls, max_response_bytes=max_bytes)
        with node.reading():
            heads = parse_heads(answers[:3], finality_blocks=node.chain.finality_blocks)
            return [
                Sighting(
                    heads=heads,
                    receipt=parse_receipt_of(place.tx_hash, receipt),
                    canonical=parse_block(block),
                )
                for place, receipt, block in zip(places, answers[3::2], answers[4::2], strict=True)
            ]

    return await client.every(look)


def parse_receipt_of(tx_hash: str, answer: object) -> Receipt | None:
    """Returns the receipt in a node's answer; None if there is none.

    Raises ValueError for one that can't be true, and the RpcError if the node refused.
    """
    if isinstance(answer, RpcError):
        raise answer
    return None if answer is None else parse_receipt(answer, tx_hash=tx_hash)


@dataclass(frozen=True, kw_only=True)
class Witness:
    """What the nodes say together of a transaction's transfers to us."""

    transfers: tuple[Transfer, ...]  # none unless they agree
    nodes: int  # that show these
    disputed: bool  # one that can tell shows others, or none

    def shows(self, payment: Payment) -> bool:
        """Whether a payment is among the transfers, as the books have it."""
        return is_among(keyed(self.transfers), payment)


_Key = tuple[int, str, str, int]


def keyed(transfers: Iterable[Transfer]) -> dict[_Key, str]:
    """Returns the recipients of transfers of one transaction, by all else that tells them apart."""
    return {_key(one): one.recipient for one in transfers}


def is_among(shown: Mapping[_Key, str], payment: Payment) -> bool:
    """Whether the transfers in `shown` hold a payment, as the books have it."""
    recipient = shown.get(_key(payment))
    return recipient is not None and payment.recipient in (None, recipient)


def _key(one: Transfer | Payment) -> _Key:
    return one.log_index, one.token_address, one.payer, one.amount


async def witness(
    client: RpcClient, place: Place, *, recipients: Collection[str], head: Head
) -> Witness:
    """Asks every node whose `head` has reached the block which transfers the transaction made.

    Raises ChainUnavailable if no node answers.
    """
    views = await sightings(client, [place])
    answers = [view[0] for view in views if not isinstance(view, ChainUnavailable)]
    if not answers:
        raise client.silence(views)
    told = [
        transfers_seen(one, place, client.chain, recipients)
        for one in answers
        if getattr(one.heads, head) >= place.block_number
    ]
    if len(set(told)) != 1:
        return Witness(transfers=(), nodes=0, disputed=bool(told))
    return Witness(transfers=told[0], nodes=len(told), disputed=False)


async def is_shown_for_good(
    client: RpcClient, place: Place, shows: Callable[[Receipt | None], bool]
) -> bool:
    """Whether two nodes, where there are two, show it in a safe block, and none denies it.

    `shows` says of the receipt of the transaction in `place` whether it is there.
    """
    views = await sightings(client, [place])
    told = [
        one.stance(place) is Stance.HOLDS and shows(one.receipt)
        for one in (view[0] for view in views if not isinstance(view, ChainUnavailable))
        if one.heads.safe >= place.block_number
    ]
    return all(told) and len(told) >= client.quorum


def transfers_seen(
    one: Sighting, place: Place, chain: Chain, recipients: Collection[str]
) -> tuple[Transfer, ...]:
    """Returns the transfers to `recipients` that a node shows in `place`."""
    if one.receipt is None or one.stance(place) is not Stance.HOLDS:
        return ()
    try:
        return transfers_in(one.receipt, chain, recipients=recipients)
    except ValueError:  # what can't be true shows no payment
        return ()


WAIT_AT_ONCE = 64
WAIT_AT_ONCE_PER_ADDRESS = 8
"""Lookups of strangers that may wait for a transaction to appear, in all and of one address."""

MISSED_SECONDS = 60.0
MISSED_KEPT = 10_000

_LATER = (
    "Too many transactions are looked for right now. If you have paid, do not pay again: "
    "it is found without you, or when you send the same request again."
)


class Lookup:
    """One lookup of a transaction: whether it waits for it, and whom each question counts for."""

    def __init__(self, *, waits: bool = True, looks: RateLimiter | None = None, key: str = ""):
        self.waits = waits
        self._looks = looks
        self._key = key

    def at_once(self) -> "Lookup":
        """The same lookup, without waiting."""
        return Lookup(waits=False, looks=self._looks, key=self._key)

    async def count(self) -> None:
        """Counts one question to a node. Raises PaymentPending over the limit: it may be paid."""
        if self._looks is not None:
            try:
                await self._looks.check(self._key)
            except RateLimited as full:
                raise PaymentPending(_LATER, retry_after_seconds=full.retry_after_seconds) from full


class Lookups:
    """Limits the lookups of strangers; `looks` counts their questions by client address."""

    def __init__(self, *, looks: RateLimiter, clock: Clock) -> None:
        self._looks = looks
        self._clock = clock
        self._waiting: Counter[str] = Counter()
        self._missed: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def count(self, stranger_at: str) -> None:
        """Counts a question about a payment that has not moved money yet. Raises RateLimited."""
        await self._looks.check(stranger_at)

    @contextmanager
    def of(self, stranger_at: str | None, tx_hash: str) -> Iterator[Lookup]:
        """The lookup of `tx_hash` for a stranger at this address; None for a wallet that has paid.

        A stranger's lookup waits for a transaction only once: if that was missed within the last
        minute, each request asks once, without waiting. Nor does it wait when too many others do.
        """
        if stranger_at is None:
            yield Lookup()
            return
        waits = not self._is_missed(stranger_at, tx_hash) and (
            self._waiting[stranger_at] < WAIT_AT_ONCE_PER_ADDRESS
            and self._waiting.total() < WAIT_AT_ONCE
        )
        self._waiting[stranger_at] += waits
        try:
            yield Lookup(waits=waits, looks=self._looks, key=stranger_at)
        except PaymentPending:
            self._missed[stranger_at, tx_hash] = self._clock.monotonic_seconds()
            self._missed.move_to_end((stranger_at, tx_hash))
            while len(self._missed) > MISSED_KEPT:
                self._missed.popitem(last=False)
            raise
        finally:
            self._waiting[stranger_at] -= waits
            if not self._waiting[stranger_at]:
                del self._waiting[stranger_at]

    def _is_missed(self, stranger_at: str, tx_hash: str) -> bool:
        missed = self._missed.get((stranger_at, tx_hash))
        return missed is not None and self._clock.monotonic_seconds() - missed < MISSED_SECONDS


DEFAULT_AGREE_ABOVE: Final = MicroUsd(100_000_000)

log = structlog.get_logger()

_FREELY = Lookup()
_TOO_LARGE = (
    "This transfer is of more than a billion tokens, for which the books have no room. It is "
    "neither credited nor lost: ask the operator, naming the transaction. Do not pay again."
)
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 1.0


class _Contradiction(Exception):
    """A node's answer contradicts itself or another; the message says how."""


@dataclass(frozen=True, kw_only=True)
class _SeenTransaction:
    """A transaction as one answer shows it.

    `depth` is the number of confirmations of `receipt`: 1 in the newest block. Below 1, its block
    is beyond the newest block that the same answer names.
    """

    known: bool
    receipt: Receipt | None
    depth: int


class Verifier:
    """Reads payments to `pay_to` from the chains of `clients` (by chain name).

    Transfers to `former` addresses, earlier values of `pay_to`, are payments as well. A transaction
    that isn't known yet is looked for again for `pending_wait_seconds`, as clients send the hash
    as soon as they have it. One worth more than `safe_above` counts once its block is `safe`, one
    worth more than `agree_above` once two nodes show it, where there are two.
    """

    def __init__(
        self,
        *,
        pay_to: str,
        former: Collection[str] = (),
        clients: Mapping[str, RpcClient],
        clock: Clock,
        safe_above: MicroUsd,
        agree_above: MicroUsd = DEFAULT_AGREE_ABOVE,
        pending_wait_seconds: float = 4.0,
    ) -> None:
        self._pay_to = parse_address(pay_to)
        self._recipients = frozenset({self._pay_to, *former})
        self._clients = clients
        self._clock = clock
        self._safe_above = safe_above
        self._agree_above = agree_above
        self._pending_wait_seconds = pending_wait_seconds

    async def transfers(
        self, *, chain: Chain, token: Token, tx_hash: str, lookup: Lookup = _FREELY
    ) -> tuple[Transfer, ...]:
        """Returns every transfer to us in this transaction, in log order; one at least.

        It includes every payer and every token of the chain; `token` is the one that the client
        named, which is told if there is none. Transfers of zero, and those between our own
        addresses, bring no money and don't count. One HTTP round trip if the transaction is
        already confirmed.

        Raises PaymentPending while the transaction isn't known (not `seen`), mined,
        `chain.confirmations` deep or, if need be, safe; PaymentNotFound if it is, but was reverted
        or pays nothing; ChainUnavailable if no node answers, or if answers contradict each other;
        ValueError for a malformed `tx_hash`.
        """
        tx_hash = normalise_tx_hash(tx_hash)
        client = self._clients[chain.name]
        try:
            receipt, transfers = await self._confirmed(client, chain, tx_hash, lookup)
            if not transfers and await self._is_paid_elsewhere(client, chain, tx_hash):
                raise _Contradiction("of its nodes, one shows a payment and one shows none")
        except _Contradiction as contradiction:
            raise client.contradiction(contradiction) from contradiction
        if not transfers:
            raise self._not_found(receipt, chain, token)
        return transfers

    async def is_agreed(self, transfers: Sequence[Transfer]) -> bool:
        """Whether two nodes, where there are two, show these transfers of one transaction.

        None that can tell shows others. Raises ChainUnavailable.
        """
        first = transfers[0]
        client = next(one for one in self._clients.values() if one.chain.chain_id == first.chain_id)
        if client.quorum == 1:
            return True
        return await self._is_witnessed(client, tuple(transfers), head="latest")

    async def _is_witnessed(
        self, client: RpcClient, transfers: tuple[Transfer, ...], *, head: Head
    ) -> bool:
        seen = await witness(client, transfers[0].place, recipients=self._recipients, head=head)
        return seen.transfers == transfers and seen.nodes >= client.quorum

    async def _is_paid_elsewhere(self, client: RpcClient, chain: Chain, tx_hash: str) -> bool:
        """Whether another URL shows the payment; checked before the payer is asked to pay again."""
        if len(client.chain.rpc_urls) == 1:
            return False
        views = await client.each([("eth_getTransactionReceipt", [tx_hash])])
        shown = [view for (view,) in views if view is not None and not isinstance(view, RpcError)]
        try:
            receipts = [parse_receipt(view, tx_hash=tx_hash) for view in shown]
        except ValueError as problem:
            raise _Contradiction(str(problem)) from problem
        return any(self._transfers(one, chain) for one in receipts)

    async def _confirmed(
        self, client: RpcClient, chain: Chain, tx_hash: str, lookup: Lookup
    ) -> tuple[Receipt, tuple[Transfer, ...]]:
        """Returns the receipt, once it is deep enough, and the transfers of all tokens in it."""
        for pause_seconds in self._pauses() if lookup.waits else (0.0,):
            await lookup.count()
            sighting = await _look(client, tx_hash)
            receipt = sighting.receipt
            if receipt is not None and sighting.depth >= chain.confirmations:
                transfers = self._transfers(receipt, chain)
                if not transfers:
                    await self._refuse_too_large(client, receipt, chain)
                if await self._is_sure(client, transfers):
                    return receipt, transfers
            await asyncio.sleep(pause_seconds)
        if receipt is not None and sighting.depth < 1:
            raise _Contradiction("the transaction's block lies beyond the newest one")
        raise _pending(sighting, chain, tx_hash)

    def _transfers(self, receipt: Receipt, chain: Chain) -> tuple[Transfer, ...]:
        try:
            found = transfers_in(receipt, chain, recipients=self._recipients)
        except ValueError as problem:
            raise _Contradiction(str(problem)) from problem
        return found

    async def _refuse_too_large(self, client: RpcClient, receipt: Receipt, chain: Chain) -> None:
        """Raises PaymentHeld for a transfer that the books have no room for, if it is true.

        What a node tells of more than its recipient then has is a contradiction.
        """
        for each in uncreditable_in(receipt, chain, recipients=self._recipients):
            asked = {"to": each.token_address, "data": balance_of_calldata(each.recipient)}
            (answer,) = await client.batch([("eth_call", [asked, hex(receipt.block_number)])])
            try:
                if not isinstance(answer, RpcError) and decode_uint256(answer) < each.value:
                    raise _Contradiction("a transfer of more than there is")
            except ValueError as problem:
                raise _Contradiction(str(problem)) from problem
            PAYMENTS_UNCREDITABLE.labels(chain.name).inc()
            log.error("payment too large to credit", chain=chain.name, tx_hash=receipt.tx_hash)
            raise PaymentHeld(_TOO_LARGE)

    async def _is_sure(self, client: RpcClient, transfers: tuple[Transfer, ...]) -> bool:
        """Whether as many nodes show the transfers, as safe, as what they bring asks for."""
        worth = worth_of(transfers)
        if worth > self._agree_above and client.quorum > 1:
            head: Head = "safe" if worth > self._safe_above else "latest"
            return await self._is_witnessed(client, transfers, head=head)
        if worth <= self._safe_above:
            return True
        first = transfers[0]
        return await is_safe(client, number=first.block_number, block_hash=first.block_hash)

    def _pauses(self) -> Iterator[float]:
        """Yields the seconds to wait after each look; the last look follows the whole wait."""
        deadline = self._clock.monotonic_seconds() + self._pending_wait_seconds
        pause_seconds = _FIRST_PAUSE_SECONDS
        while (left := deadline - self._clock.monotonic_seconds()) > 0:
            yield min(pause_seconds, left)
            pause_seconds = min(pause_seconds * 2, _MAX_PAUSE_SECONDS)
        yield 0

    def _not_found(self, receipt: Receipt, chain: Chain, token: Token) -> PaymentNotFound:
        if not receipt.succeeded:
            problem = "The transaction was reverted, so it paid nothing."
        else:
            names = " or ".join(each.name for each in chain.tokens)
            problem = (
                f"The transaction on {chain.name} holds no transfer of {names} to {self._pay_to}."
                f"{_near_miss(receipt, chain, pay_to=self._pay_to)}"
            )
        return PaymentNotFound(
            problem,
            looked_for={
                "chain": chain.name,
                "token": token.name,
                "token_address": token.address,
                "pay_to": self._pay_to,
                "tx_hash": receipt.tx_hash,
            },
        )


async def _look(client: RpcClient, tx_hash: str) -> _SeenTransaction:
    answers = await client.batch(
        [
            ("eth_getTransactionReceipt", [tx_hash]),
            ("eth_getTransactionByHash", [tx_hash]),
            ("eth_blockNumber", []),
        ]
    )
    for answer in answers:
        if isinstance(answer, RpcError):
            raise answer
    try:
        return _sighting(*answers, tx_hash=tx_hash)
    except ValueError as problem:
        raise _Contradiction(str(problem)) from problem


def _sighting(
    receipt: object, transaction: object, head: object, *, tx_hash: str
) -> _SeenTransaction:
    head_number = parse_quantity(head)
    if transaction is not None and _field(transaction, "hash") != tx_hash:
        raise ValueError("the transaction is another one")
    if receipt is None:
        return _SeenTransaction(known=transaction is not None, receipt=None, depth=0)
    mined = parse_receipt(receipt, tx_hash=tx_hash)
    if transaction is not None and _field(transaction, "blockHash") not in (None, mined.block_hash):
        raise ValueError("the transaction and its receipt lie in different blocks")
    return _SeenTransaction(known=True, receipt=mined, depth=head_number - mined.block_number + 1)


def _field(transaction: object, name: str) -> str | None:
    value = transaction.get(name) if isinstance(transaction, dict) else ""
    return None if value is None else parse_bytes32(value)


def _pending(sighting: _SeenTransaction, chain: Chain, tx_hash: str) -> PaymentPending:
    if sighting.receipt is not None and sighting.depth >= chain.confirmations:
        state = (
            "brings so much that it counts once its block is safe, and two nodes show it, "
            "which is not so yet"
        )
    elif sighting.receipt is not None:
        state = f"has {sighting.depth} of {chain.confirmations} confirmations"
    elif sighting.known:
        state = "is not mined yet"
    else:
        state = "is not known yet"
    pending = PaymentPending(
        f"The transaction {tx_hash} {state} on {chain.name}. "
        "Do not pay again: send the same hash again."
    )
    pending.seen = sighting.known
    return pending


def _near_miss(receipt: Receipt, chain: Chain, *, pay_to: str) -> str:
    """Returns what the transaction did instead, as a sentence after a space; "" if nothing."""
    names = {token.key: token.name for token in chain.tokens}
    for log in receipt.logs:
        try:
            transfer = parse_transfer_log(log)
        except ValueError:
            continue  # an unknown contract may emit anything
        if transfer is None or transfer.value == 0:
            continue
        name = names.get(transfer.token_address)
        if name is not None:
            return f" It transferred {name} to {transfer.recipient} instead."
        if transfer.recipient == pay_to:
            return f" It transferred an unsupported token ({transfer.token_address}) instead."
    return ""
