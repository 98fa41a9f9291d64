"""A kind of engine: what it is called, what it lacks on this machine, how one is made."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moorage.clock import Clock
from moorage.engines.engine import Capabilities, Engine
from moorage.engines.host.configuration import HostConfiguration


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What an operator may tell some kinds of engine and not others."""

    subnet: str  # that apps' own networks are taken from
    wallet_cache_bytes: int  # that builds of one wallet may keep for later ones; 0 for none
    total_cache_bytes: int  # the same of all wallets together
    accept_soft_limits: bool  # limits that the kernel does not hold are enough


class Exports(Protocol):
    """Copies what an engine keeps, for a backup, beside a gateway that may be running.

    A copy that lies where the engine of another gateway keeps its own is that gateway's. Methods
    block, and raise OSError.
    """

    def app(self, deployment_id: str, target: Path) -> bool:
        """Copy a built deployment and its logs into `target`, a new directory; False for none."""
        ...

    def volume(self, volume_id: str, target: Path) -> bool:
        """Copy a volume into `target`, a new directory; False while nothing is there."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """One line of the table of engines."""

    name: str  # as the setting `isolation` says it
    suits: Callable[[], bool]  # whether this user and machine are for it, when none is named
    capabilities: Capabilities
    run_directory: Callable[[Path], Path]  # where sockets go, of a gateway with this data_dir
    missing: Callable[[Path], Sequence[str]]  # with this run_dir, as sentences `what: command`
    forwards_packets: bool  # through this machine's kernel, which must allow it
    make: Callable[[HostConfiguration, EngineOptions], Engine]  # not open yet
    exports: Callable[[Path, Path, Clock], Exports] | None  # of a state_dir and a run_dir
