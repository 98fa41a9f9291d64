"""An operator's session: whose acts are recorded, and until when."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.requests import Request


@dataclass(frozen=True, kw_only=True)
class OperatorSession:
    """An operator who signed in, or opened a link that this machine's commands made."""

    id: str  # not its secret
    name: str  # a wallet, or who made the link: acts are recorded under it
    csrf: str  # every form that changes something repeats it
    expires_ms: int
    may_change: bool = True


FindOperator = Callable[[Request], Awaitable[OperatorSession | None]]
"""Returns the session of a request to an operator's page, if it has one."""
