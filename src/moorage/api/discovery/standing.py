"""How well the gateway is, as far as anybody may know it: the page at `/` tells it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from moorage.clock import Clock
from moorage.errors import DatabaseUnavailable
from moorage.storage.operation.wallet_rules import NoticeKind


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What works, and what the operator tells everybody; never why something does not work."""

    looked_ms: int | None  # when the gateway last looked at itself; None: it has just started
    deploys: bool
    apps: bool
    payments: Mapping[str, bool] = field(default_factory=dict)  # by the chain's name
    maintenance: str | None = None  # new deploys are refused meanwhile
    announcement: str | None = None


class StandingBoard:
    """The last look at the gateway's parts, and the notices that are in force."""

    def __init__(
        self,
        read_notices: Callable[[], Awaitable[Mapping[str, str]]],
        *,
        chains: Iterable[str],
        clock: Clock,
    ) -> None:
        self._read_notices = read_notices
        self._chains = tuple(chains)
        self.clock = clock
        self._ill: frozenset[str] = frozenset()
        self._looked_ms: int | None = None

    def note(self, parts: Mapping[str, str]) -> None:
        """Keeps what a look at the parts of /ready found: "ok", or what is wrong."""
        self._ill = frozenset(part for part, state in parts.items() if state != "ok")
        self._looked_ms = self.clock.now_ms()

    async def read(self) -> Standing:
        """Returns how well the gateway is."""
        try:
            told = await self._read_notices()
        except DatabaseUnavailable:
            return Standing(looked_ms=self._looked_ms, deploys=False, apps=self._works("runtime"))
        maintenance = told.get(NoticeKind.MAINTENANCE)
        return Standing(
            looked_ms=self._looked_ms,
            deploys=maintenance is None and self._works("database", "disk", "runtime"),
            apps=self._works("runtime", "proxy"),
            payments={name: self._works("database", f"chain {name}") for name in self._chains},
            maintenance=maintenance,
            announcement=told.get(NoticeKind.ANNOUNCEMENT),
        )

    def _works(self, *parts: str) -> bool:
        return self._ill.isdisjoint(parts)
