"""Who acts for a wallet in what runs now: rows that are written meanwhile say so."""

from contextvars import ContextVar
from typing import NamedTuple


class Acting(NamedTuple):
    """A request's wallet, and who acts for it."""

    wallet: str = ""
    by: str = ""
    """A delegate's address, or `token:` and a manage token's id; "" for the wallet itself."""


_NOBODY = Acting()
ACTING: ContextVar[Acting] = ContextVar("acting", default=_NOBODY)


def acted_by(wallet: str) -> str:
    """Returns who acts for a wallet in what runs now; "" for itself, and for the gateway."""
    acting = ACTING.get()
    return acting.by if acting.wallet == wallet else ""
