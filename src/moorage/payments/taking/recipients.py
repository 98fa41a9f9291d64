"""The addresses that payments go to: today's `pay_to`, and whatever it was before.

Who was told an old one may pay it at any time, so they are watched, verified and audited like
today's; only new demands name that alone.
"""

from moorage.chains.address import parse_address
from moorage.clock import Clock
from moorage.storage.database import Database
from moorage.storage.money import recipients


async def note_recipient(db: Database, pay_to: str, *, clock: Clock) -> frozenset[str]:
    """Remember at a start what `pay_to` is; gives what it was before, as `parse_address` has it."""
    address = parse_address(pay_to)
    async with db.transaction(durable=True) as tx:
        await recipients.add(tx, address, since_ms=clock.now_ms())
        return await recipients.known(tx) - {address}
