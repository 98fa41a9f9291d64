"""A deployment's files on this machine, and what all deployments share, for every engine."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from moorage.address import Address
from moorage.clock import Clock
from moorage.engines.engine import Instance
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.kernel.cgroup import Cgroups
from moorage.engines.host.kernel.memory import Shares
from moorage.engines.host.network.listeners import Listener
from moorage.engines.host.record import Record
from moorage.engines.incidents import Incidents
from moorage.engines.logs.collecting import Collecting
from moorage.engines.logs.logs import Logs

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

    def write(self, record: Record) -> None:
        """Writes the record to disk."""
        record.write(self.path)

    def instance(self, listener: Listener) -> Instance:
        """Returns the running app, which listens at `listener`, behind a socket proxy."""
        address = Address.unix(self.socket)
        return Instance(deployment_id=self.deployment_id, address=address, port=listener.port)
