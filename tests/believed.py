"""An entrance that believes who asks: signatures have been checked, and each wallet has paid."""

from types import SimpleNamespace

from moorage.api.http.caller import Limiters
from moorage.auth.rate_limit import MemoryRateLimiter
from moorage.clock import Clock


class Believed:
    """In place of an authenticator and of the list of wallets that paid."""

    wallet: str

    def __init__(self, wallet: str) -> None:
        self.wallet = wallet
        self.nonces_used = 0

    async def verify(self, _: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(wallet=self.wallet, use_nonce=self.use_nonce)

    async def use_nonce(self) -> None:
        self.nonces_used += 1

    async def has_paid(self, _: str) -> bool:
        return True


def limiters_of(clock: Clock, *, limit: int, **times: int) -> Limiters:
    """Limiters of `limit` requests a minute; `times` says which have a multiple of it."""
    return Limiters(
        **{
            name: MemoryRateLimiter(clock=clock, limit=limit * times.get(name, 1))
            for name in Limiters.__dataclass_fields__
        }
    )
