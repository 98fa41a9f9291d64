"""Asks every node of a chain about transactions: what one node says is not yet so.

Whatever makes or unmakes money for good is decided here: by all nodes that can tell, and by two
where two are configured. A node that is silent, or has not reached a block yet, denies nothing.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from moorage.chains.chain import Chain
from moorage.chains.heads import HEAD_CALLS, Block, Heads, block_call, parse_block, parse_heads
from moorage.chains.receipt import Receipt, parse_receipt
from moorage.chains.rpc import QUICK_ANSWER_BYTES, Call, RpcClient, RpcError
from moorage.errors import ChainUnavailable
from moorage.ledger.transfer import Transfer, transfers_in
from moorage.records.payments import Payment, Place

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
        try:
            heads = parse_heads(answers[:3], finality_blocks=node.chain.finality_blocks)
            return [
                Sighting(
                    heads=heads,
                    receipt=parse_receipt_of(place.tx_hash, receipt),
                    canonical=parse_block(block),
                )
                for place, receipt, block in zip(places, answers[3::2], answers[4::2], strict=True)
            ]
        except ValueError as problem:
            raise node.contradiction(problem) from problem

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
