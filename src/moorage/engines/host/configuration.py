"""What a gateway asks of a runtime on this machine, before the machine was looked at."""

from dataclasses import dataclass, field
from pathlib import Path

from moorage.clock import Clock, SystemClock
from moorage.engines.connection_limits import ConnectionLimits
from moorage.engines.host.memory import Division
from moorage.engines.host.socket_proxy import SUN_PATH_BYTES
from moorage.engines.host.toolchains import Store

_LONGEST_ID = 36  # a UUID


@dataclass(frozen=True, kw_only=True)
class HostConfiguration:
    """The directories are this gateway's alone. Raises ValueError when `run_dir` is too long."""

    state_dir: Path  # files, logs and records, kept over restarts
    run_dir: Path  # sockets, so that its path must be short
    instance_id: str  # this gateway's alone on the machine
    tools: dict[str, Path]  # programs that builds and apps find on their PATH
    build_env: dict[str, str] = field(default_factory=dict)
    deny: tuple[str, ...] = ()  # IPv4 networks besides the built-in ones
    allow: tuple[str, ...] = ()  # the same; it wins
    toolchains: Store | None = None
    traffic: ConnectionLimits = ConnectionLimits()  # noqa: RUF009 (frozen)
    memory: Division = Division()  # noqa: RUF009 (frozen)
    disk_reserve_bytes: int = 0  # of the disk that state_dir is on: apps are ended, not to have it
    clock: Clock = field(default_factory=SystemClock)
    stop_grace_seconds: float = 5.0

    def __post_init__(self) -> None:
        if len(bytes(self.run_dir)) + len("/.sock") + _LONGEST_ID > SUN_PATH_BYTES:
            raise ValueError(f"run_dir {self.run_dir} is too long for the path of a unix socket")
        for name in ("state_dir", "run_dir"):
            object.__setattr__(self, name, getattr(self, name).absolute())
