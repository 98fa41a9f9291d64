"""What the gateway that keeps the apps tells of this machine, for other gateways on it.

It is a file, written anew every two seconds.
"""

import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from moorage.engines.engine import Capabilities, Cursor, Disks, Engine, LogPage
from moorage.engines.host.configuration import FOLDERS
from moorage.engines.logs import reader
from moorage.errors import KeeperAway, NoCapacity
from moorage.records.deployment import LogKind
from moorage.threads import in_thread
from moorage.whole_file import replace_file

EVERY_SECONDS = 2.0
SILENT_SECONDS = 30.0
_FILE = "machine.json"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """How much there is for apps, and what of them is here."""

    memory_bytes: int
    disks: Disks
    free_networks: int | None
    running: frozenset[str]


async def tell(engine: Engine, directory: Path) -> None:
    """Writes what an open engine says."""
    machine = Machine(
        memory_bytes=engine.memory_bytes(),
        disks=await engine.disks(),
        free_networks=await engine.free_networks(),
        running=frozenset(await engine.running()),
    )
    await in_thread(replace_file, directory / _FILE, msgspec.json.encode(machine))


class MachineView:
    """What a gateway knows of an engine that another process has open. Reads logs by itself."""

    def __init__(self, *, capabilities: Capabilities, state_dir: Path, told: Path) -> None:
        """`told` is the directory that `tell` writes to."""
        self.capabilities = capabilities
        self._places = [state_dir / folder for folder in FOLDERS]
        self._file = told / _FILE

    async def check(self) -> None:
        """Raises KeeperAway when the gateway that keeps the apps has told nothing for a while."""
        try:
            silent_seconds = time.time() - self._file.stat().st_mtime
        except FileNotFoundError:
            raise KeeperAway("No gateway of this machine has kept its apps yet.") from None
        if silent_seconds > SILENT_SECONDS:
            raise KeeperAway(
                f"The gateway that keeps the apps has told nothing for {silent_seconds:.0f} s: "
                "end it if it stands still, so that another takes over."
            )

    def memory_bytes(self) -> int:
        """As `Engine.memory_bytes`. Raises NoCapacity as long as no gateway has kept apps."""
        return self._told().memory_bytes

    async def disks(self) -> Disks:
        """As `Engine.disks`. Raises NoCapacity."""
        return self._told().disks

    async def free_networks(self) -> int | None:
        """As `Engine.free_networks`. Raises NoCapacity."""
        return self._told().free_networks

    async def running(self) -> Collection[str]:
        """The deployments whose apps run. Raises NoCapacity."""
        return self._told().running

    async def known(self) -> set[str]:
        """As `Engine.known`."""
        return {path.name for place in self._places if place.is_dir() for path in place.iterdir()}

    async def written(self, deployment_id: str) -> None:
        """None: it can't be told from here what an app has written."""

    async def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        """As `Engine.log_tail`."""
        page = await self.read_log(deployment_id, kind, tail=10_000)
        return "".join(f"{line.text}\n" for line in page.lines)[-max_bytes:]

    async def read_log(
        self,
        deployment_id: str,
        kind: LogKind,
        *,
        after: Cursor = 0,
        since_ms: int = 0,
        tail: int | None = None,
        limit: int = 10_000,
    ) -> LogPage:
        """As `Engine.read_log`."""
        log = self._directory(deployment_id) / "logs" / kind
        return await in_thread(
            reader.read_log, log, after=after, since_ms=since_ms, tail=tail, limit=limit
        )

    def _directory(self, deployment_id: str) -> Path:
        """Returns a deployment's directory, of whichever engine it is; it need not exist."""
        found = [place / deployment_id for place in self._places]
        return next((each for each in found if each.is_dir()), found[0])

    def _told(self) -> Machine:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=Machine)
        except FileNotFoundError:
            raise NoCapacity from None
