"""Queries over what our addresses held when the books last accounted for it."""

import msgspec
from sqlalchemy import bindparam, delete, insert, select

from moorage.storage.database import Source, Statement, Transaction, struct_of
from moorage.storage.schema import balance_marks


class BalanceMark(msgspec.Struct, frozen=True, kw_only=True):
    """What our addresses held together of a token after a block."""

    chain_id: int
    token_address: str
    addresses: str  # in order, with spaces between
    block_number: int
    amount_atomic: str  # decimal

    @property
    def amount(self) -> int:
        """The amount, in the token's atomic units."""
        return int(self.amount_atomic)


_COLUMNS = [balance_marks.c[name] for name in BalanceMark.__struct_fields__]
_this = (
    balance_marks.c.chain_id == bindparam("chain_id"),
    balance_marks.c.token_address == bindparam("token_address"),
)
_ONE = Statement(select(*_COLUMNS).where(*_this))
_FORGET = Statement(delete(balance_marks).where(*_this))
_ADD = Statement(
    insert(balance_marks).values({name: bindparam(name) for name in BalanceMark.__struct_fields__})
)


async def one(source: Source, *, chain_id: int, token_address: str) -> BalanceMark | None:
    """Returns the last mark of a token; None before the first."""
    row = await source.one(_ONE, chain_id=chain_id, token_address=token_address)
    return struct_of(BalanceMark, row) if row else None


async def put(tx: Transaction, mark: BalanceMark) -> None:
    """Replaces the token's mark."""
    await tx.execute(_FORGET, chain_id=mark.chain_id, token_address=mark.token_address)
    await tx.execute(_ADD, **msgspec.structs.asdict(mark))
