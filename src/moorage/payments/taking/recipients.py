"""The addresses that payments go to: today's `pay_to`, and its former values.

A client may pay an address that it was told earlier at any time. So former addresses are watched,
verified and audited like today's, until an operator retires them; new demands name only today's.
"""

from moorage.chains.address import parse_address
from moorage.clock import Clock
from moorage.storage.database import Database
from moorage.storage.money.chains import recipients


async def note_recipient(db: Database, pay_to: str, *, clock: Clock) -> frozenset[str]:
    """Stores `pay_to`; returns its former values that are not retired.

    Addresses are spelled as `parse_address` does.
    """
    address = parse_address(pay_to)
    async with db.transaction(durable=True) as tx:
        await recipients.add(tx, address, since_ms=clock.now_ms())
        return await recipients.watched(tx) - {address}
