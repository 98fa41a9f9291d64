"""A deployment's files on this machine, and what all deployments share, for every engine."""

import asyncio
import errno
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import msgspec

from moorage.address import Address
from moorage.clock import Clock
from moorage.engines.disks.volume import Volumes
from moorage.engines.engine import (
    AppExit,
    Incident,
    IncidentKind,
    Instance,
    InstanceSpec,
    WrittenFiles,
)
from moorage.engines.failure import volume_lost
from moorage.engines.host.cgroup import Cgroups, Shares
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.listeners import Listener
from moorage.engines.logs.collecting import Collecting
from moorage.engines.logs.logs import Logs
from moorage.records.deployment import LogKind
from moorage.whole_file import overwrite_file, read_file, replace_file

_FILE = "record.json"
_VOLUME_REPAIRED = (
    "The file system of /data had errors and was repaired: what was being written may be missing."
)


class Stage(StrEnum):
    """How far a deployment has come."""

    BUILDING = "building"  # or was interrupted during the build
    FAILED = "failed"  # the build failed; only its log is kept
    BUILT = "built"
    STARTED = "started"  # an app was launched; it may have ended


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment; each engine adds its own fields."""

    deployment_id: str
    stage: Stage
    listener: Listener | None = None  # the target of the socket proxy, once the app listens
    exit_code: int | None = None  # of an app that was stopped
    out_of_memory: bool = False
    written: WrittenFiles | None = None  # by the app, when it was stopped; None: not known
    listens: bool = True  # whether what was started is to listen
    log: LogKind = LogKind.RUNTIME  # of what was started

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Reads the record in a deployment's directory; None if it is missing or damaged."""
        try:
            return msgspec.json.decode(read_file(f"{directory}/{_FILE}"), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, directory: Path) -> None:
        """Writes the file atomically, or in place if the disk is full. Raises OSError."""
        path, content = directory / _FILE, msgspec.json.encode(self)
        try:
            replace_file(path, content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
                raise
            overwrite_file(path, content)

    def ended(self, how: AppExit, written: WrittenFiles | None = None) -> Self:
        """Returns the record after its app has ended."""
        return msgspec.structs.replace(
            self,
            exit_code=how.exit_code,
            out_of_memory=how.out_of_memory,
            listener=None,
            written=written or self.written,
        )

    @property
    def is_built(self) -> bool:
        """Whether its build succeeded."""
        return self.stage in (Stage.BUILT, Stage.STARTED)


class Incidents:
    """A queue that any thread may add to, after `open`; what is added before is lost."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Incident] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Starts to deliver incidents to the running event loop."""
        self._loop = asyncio.get_running_loop()

    def add(self, incident: Incident) -> None:
        """Adds an incident; may be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._queue.put_nowait, incident)

    async def next(self) -> Incident:
        """Waits for the next incident."""
        return await self._queue.get()


D = TypeVar("D", bound="DeploymentDirectory")


@dataclass(frozen=True, kw_only=True)
class Host(ABC, Generic[D]):
    """What all deployments of a gateway share."""

    configuration: HostConfiguration
    servers: tuple[str, ...]  # name servers
    tools: dict[str, Path]  # program → a path that every app can reach
    cgroups: Cgroups
    shares: Shares
    incidents: Incidents = field(default_factory=Incidents)

    @abstractmethod
    def directory(self, deployment_id: str) -> D:
        """Returns the directory of a deployment, which need not exist."""

    def directories(self) -> list[D]:
        """Returns the existing directories."""
        return [self.directory(deployment_id) for deployment_id in sorted(self.known())]

    def known(self) -> set[str]:
        """Returns the ids of the deployments that have a directory."""
        with os.scandir(self.deployments) as directories:  # called often: Path objects are slow
            return {directory.name for directory in directories}

    @property
    def clock(self) -> Clock:
        """The gateway's clock."""
        return self.configuration.clock

    @property
    def run_dir(self) -> Path:
        """The directory of sockets, and of files that need not survive a reboot."""
        return self.configuration.run_dir

    @property
    def deployments(self) -> Path:
        """The directory that contains all deployments' directories."""
        return self.configuration.deployments

    @property
    def volumes(self) -> Volumes:
        """The apps' volumes."""
        return Volumes.of(self.configuration)

    @cached_property
    def collecting(self) -> Collecting:
        """The client of the log collector: one object, made before there are threads."""
        return Collecting(
            deployments=self.deployments,
            state_dir=self.configuration.state_dir,
            run_dir=self.run_dir,
        )


@dataclass(frozen=True, kw_only=True)
class DeploymentDirectory(ABC):
    """One deployment's directory. Methods block; call them from a thread."""

    host: Host[Any]
    deployment_id: str

    @property
    def path(self) -> Path:
        """The directory with the deployment's files on the machine's own disk."""
        return self.host.deployments / self.deployment_id

    @property
    def socket(self) -> Path:
        """The socket proxy's socket."""
        return self.host.run_dir / f"{self.deployment_id}.sock"

    @property
    def status_file(self) -> Path:
        """The file to which bwrap writes the status of the app."""
        return self.path / "status.json"

    @property
    def logs(self) -> Logs:
        """The two logs; they are beside the app's files, and are kept longer."""
        host = self.host
        return Logs(directory=self.path, collecting=host.collecting, clock=host.clock)

    @property
    @abstractmethod
    def record(self) -> Record | None:
        """The deployment's record; None if there is none."""

    @abstractmethod
    def abandon(self) -> None:
        """Removes everything but the logs, and records the build as failed."""

    @abstractmethod
    def remove(self) -> None:
        """Removes everything, in whatever state it is."""

    def _begin(self, record: Record) -> None:
        """Makes the directory with a record in stage BUILDING; keeps logs of an earlier attempt."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.logs.create()
        if not self.logs.is_empty(LogKind.BUILD):
            self.logs.note(LogKind.BUILD, "what was begun before is begun again")
        self.write(record)

    def show_volume(self, spec: InstanceSpec, uid: int) -> Path | None:
        """Mounts the app's volume, whose files `uid` owns; returns where, None for an app without.

        Repairs errors that the kernel has found. Raises OSError, DeployFailed.
        """
        if spec.volume is None:
            return None
        volume = self.host.volumes.volume(spec.volume)
        if not (spec.makes_volume or volume.is_made):
            self.host.incidents.add(Incident(self.deployment_id, IncidentKind.VOLUME_LOST))
            raise volume_lost()
        if volume.repair():
            self.logs.note(LogKind.RUNTIME, _VOLUME_REPAIRED)
            self.host.incidents.add(Incident(self.deployment_id, IncidentKind.VOLUME_REPAIRED))
        return volume.show(
            self.deployment_id,
            uid,
            size_bytes=spec.limits.volume_bytes,
            grows=spec.resizes,
        )

    def write(self, record: Record) -> None:
        """Writes the record to disk."""
        record.write(self.path)

    def instance(self, listener: Listener) -> Instance:
        """Returns the running app, which listens at `listener`, behind a socket proxy."""
        address = Address.unix(self.socket)
        return Instance(deployment_id=self.deployment_id, address=address, port=listener.port)
