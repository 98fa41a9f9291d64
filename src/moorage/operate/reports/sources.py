"""Says which chain and token the money of a refund or a release came from."""

from collections.abc import Callable

from moorage.errors import BooksWrong
from moorage.operate.reports.lots import Source
from moorage.storage.database import Transaction
from moorage.storage.money import payments, refunds


async def source_of_postings(snapshot: Transaction) -> Callable[[str], Source]:
    """Returns the function from such a posting's id to its source. It raises BooksWrong."""
    tokens = {
        (payment.chain_id, payment.tx_hash, payment.log_index): Source(
            payment.chain_id, payment.token
        )
        for payment in await payments.every(snapshot)
    }
    refunded = {
        refund.id: (refund.chain_id, refund.tx_hash, refund.log_index)
        for refund in await refunds.every(snapshot)
    }

    def source_of(posting_id: str) -> Source:
        match posting_id.split(":"):
            case ["refund" | "refund-undone", refund_id]:
                key = refunded.get(refund_id)
            case ["release", "payment", chain_id, tx_hash, log_index, *_]:
                key = int(chain_id), tx_hash, int(log_index)
            case _:
                key = None
        if key is None or key not in tokens:
            raise BooksWrong
        return tokens[key]

    return source_of
