"""What every room stands on."""

from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock
from moorage.storage.database import Database
from moorage.storage.leases import Leases
from moorage.storage.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Core:
    """The opened database, what opens its secrets, and what tells the time."""

    db: Database
    vault: Vault
    leases: Leases
    clock: Clock
    data_dir: Path
    speed: float = 1.0  # what pauses of periodic work are divided by: tests hurry it

    @property
    def sources(self) -> Path:
        """Where the files of admitted deployments lie, a directory each."""
        return self.data_dir / "sources"
