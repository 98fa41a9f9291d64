"""The configuration of an engine on this machine."""

from dataclasses import dataclass, field
from pathlib import Path

from moorage.clock import Clock, SystemClock
from moorage.content.store import ContentStore
from moorage.engines.host.cgroup import Division
from moorage.engines.host.environment import Store
from moorage.engines.host.listeners import SUN_PATH_BYTES
from moorage.errors import ConfigurationInvalid


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """The operator's limits; 0 means no limit, except for `app_connections`."""

    app_connections: int = 1024  # to an app's socket proxy at the same time
    app_new_connections: int = 0  # that an app may open per second
    app_bandwidth_mbit: int = 0  # megabits per second, each way


DEPLOYMENTS, CONTAINERS, PODS = FOLDERS = ("deployments", "containers", "pods")
"""The names of directories of deployments. Engines that a gateway may have at the same time have
different ones; their volumes are the same."""

_MAX_ID_LENGTH = 36  # a UUID


@dataclass(frozen=True, kw_only=True)
class HostConfiguration:
    """No other gateway may use the directories. Raises ConfigurationInvalid (a long `run_dir`)."""

    state_dir: Path  # files, logs and records, kept over restarts
    run_dir: Path  # sockets; therefore its path must be short
    instance_id: str  # unique among the gateways on the machine
    tools: dict[str, Path]  # programs that builds and apps find on their PATH
    build_env: dict[str, str] = field(default_factory=dict)
    deny: tuple[str, ...] = ()  # IPv4 networks, in addition to the built-in ones
    allow: tuple[str, ...] = ()  # IPv4 networks; takes precedence over `deny`
    toolchains: Store | None = None
    traffic: ConnectionLimits = ConnectionLimits()
    memory: Division = Division()  # noqa: RUF009 (frozen)
    disk_reserve_bytes: int = 0  # to keep free on state_dir's disk, by killing apps if need be
    clock: Clock = field(default_factory=SystemClock)
    stop_grace_seconds: float = 5.0
    folder: str = DEPLOYMENTS  # of its deployments, below state_dir
    content: ContentStore | None = None  # where gateways on several machines share files
    volume_mounts: Path | None = None  # of the volumes that engines share; None: below run_dir

    def __post_init__(self) -> None:
        if len(bytes(self.run_dir)) + len("/.sock") + _MAX_ID_LENGTH > SUN_PATH_BYTES:
            raise ConfigurationInvalid(
                f"run_dir: {self.run_dir} is too long for the path of a unix socket, which has "
                f"{SUN_PATH_BYTES} bytes. Set run_dir to a short one, such as /run/moorage."
            )
        for name in ("state_dir", "run_dir"):
            object.__setattr__(self, name, getattr(self, name).absolute())

    @property
    def deployments(self) -> Path:
        """The directory that contains all deployments' directories."""
        return self.state_dir / self.folder
