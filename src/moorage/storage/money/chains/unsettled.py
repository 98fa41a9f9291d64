"""What is still on its way on each chain, so that the chain must be looked at."""

from typing import NamedTuple

from sqlalchemy import func, select

from moorage.records.payments import UNFINISHED, UNRESOLVED, Finality, PaymentStatus, RefundStatus
from moorage.storage.database import Source, Statement
from moorage.storage.schema import payments, refunds, settlements


class Unsettled(NamedTuple):
    """Money in one token that is neither here for good nor gone for good."""

    chain_id: int
    token_address: str
    token: str  # as clients name it, or its address
    what: str  # a sentence's part: "2 payments that are not final"

    @property
    def token_key(self) -> tuple[int, str]:
        """The chain's id and the token's address."""
        return self.chain_id, self.token_address


_PAYMENTS = Statement(
    select(payments.c.chain_id, payments.c.token_address, func.min(payments.c.token), func.count())
    .where(
        payments.c.finality == Finality.PROVISIONAL,
        payments.c.status.in_([PaymentStatus.CREDITED, PaymentStatus.HELD]),
    )
    .group_by(payments.c.chain_id, payments.c.token_address)
)
_SETTLEMENTS = Statement(
    select(
        settlements.c.chain_id,
        settlements.c.token_address,
        func.min(settlements.c.token),
        func.count(),
    )
    .where(settlements.c.status.in_(UNRESOLVED))
    .group_by(settlements.c.chain_id, settlements.c.token_address)
)
_REFUNDS = Statement(
    select(
        refunds.c.chain_id, refunds.c.token_address, func.min(refunds.c.token_address), func.count()
    )
    .where(
        refunds.c.status.in_(UNFINISHED)
        | (
            (refunds.c.status == RefundStatus.REFUNDED)
            & (refunds.c.finality == Finality.PROVISIONAL)
        )
    )
    .group_by(refunds.c.chain_id, refunds.c.token_address)
)
_KINDS = (
    (_PAYMENTS, "payments whose block is not safe yet"),
    (_SETTLEMENTS, "authorizations without an outcome"),
    (_REFUNDS, "refunds that are not final"),
)


async def by_token(source: Source) -> list[Unsettled]:
    """Returns what is on its way, by chain and token."""
    return [
        Unsettled(chain_id, address, token, f"{count} {words}")
        for statement, words in _KINDS
        for chain_id, address, token, count in await source.all(statement)
    ]
