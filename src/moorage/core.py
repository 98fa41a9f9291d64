"""What every part of a gateway uses: database, secrets, leases, clock and data directory."""

from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock
from moorage.storage.database import Database
from moorage.storage.leases import Leases
from moorage.storage.vault import Vault


@dataclass(frozen=True, kw_only=True)
class Core:
    """The opened database with its vault and leases, the clock and the data directory."""

    db: Database
    vault: Vault
    leases: Leases
    clock: Clock
    data_dir: Path
    speed: float = 1.0  # divides the pauses of periodic work; above 1 in tests

    @property
    def sources(self) -> Path:
        """The directory with the files of admitted deployments, one directory each."""
        return self.data_dir / "sources"
