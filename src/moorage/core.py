"""What every part of a gateway uses: database, secrets, leases, clock and data directory."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from moorage.auth.rate_limit import MemoryRateLimiter, RateLimiter, SharedRateLimiter
from moorage.clock import Clock
from moorage.content.store import ContentStore
from moorage.loop import Ticks
from moorage.storage.database import Database
from moorage.storage.several.leases import LEADER, Leases
from moorage.storage.several.shared_tables import SharedTables
from moorage.storage.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Core:
    """The opened database with its vault and leases, the clock and the data directory."""

    db: Database
    vault: Vault
    leases: Leases
    clock: Clock
    data_dir: Path
    ticks: Ticks = field(default_factory=Ticks)  # of this gateway's loops
    speed: float = 1.0  # divides the pauses of periodic work; above 1 in tests
    name: str = ""  # of this gateway, where several share the data directory
    machine: str = ""  # the id of the data directory; "" is the leases' holder
    instance: str = ""  # names what engines make for this gateway, or for all on its database
    machine_bound: bool = True  # whether the apps run on this machine
    content: ContentStore | None = None  # where gateways on several machines share files
    challenges: bytes = b""  # the secret of challenges, where gateways on machines share it
    say: Callable[[], Awaitable[None]] | None = None  # tells other gateways that this one runs
    shared: SharedTables | None = None  # used nonces and counts, where several gateways share them

    @property
    def sources(self) -> Path:
        """The directory with the files of admitted deployments, one directory each."""
        return self.data_dir / "sources"

    @property
    def spool(self) -> Path:
        """The directory with this gateway's uploads."""
        return self.data_dir / "spool" / self.name

    @property
    def leader(self) -> str:
        """The id under which apps are kept and billed, whichever gateway does it."""
        return (self.machine or self.leases.holder) if self.machine_bound else LEADER

    def limiter(self, name: str, *, limit: int) -> RateLimiter:
        """Returns a limiter by the minute, which all gateways share."""
        if self.shared is None:
            return MemoryRateLimiter(clock=self.clock, limit=limit)
        return SharedRateLimiter(self.shared, name=name, limit=limit)
