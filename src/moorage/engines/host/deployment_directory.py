"""Where things of a deployment lie on this machine, whatever isolates it, and what all share."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from moorage.address import Address
from moorage.clock import Clock
from moorage.engines.engine import Instance
from moorage.engines.host.cgroup import Cgroups
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.listeners import Listener
from moorage.engines.host.memory import Shares
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
    cgroups: Cgroups | None  # None where the gateway's user may make none
    shares: Shares
    incidents: Incidents = field(default_factory=Incidents)

    @abstractmethod
    def directory(self, deployment_id: str) -> D:
        """The directory of a deployment, whether or not anything is there."""

    def directories(self) -> list[D]:
        """Every one in which something is."""
        return [self.directory(deployment_id) for deployment_id in sorted(self.known())]

    def known(self) -> set[str]:
        """The deployments that have a directory with something in it."""
        with os.scandir(self.deployments) as directories:  # many times, and so without making paths
            return {directory.name for directory in directories}

    @property
    def clock(self) -> Clock:
        """The gateway's."""
        return self.configuration.clock

    @property
    def run_dir(self) -> Path:
        """The directory of sockets, and of what does not outlive the machine."""
        return self.configuration.run_dir

    @property
    def deployments(self) -> Path:
        """The directory of all of them."""
        return self.configuration.state_dir / "deployments"

    @cached_property
    def collecting(self) -> Collecting:
        """What has all apps' output collected: one object, made before there are threads."""
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
        """All that lies on the machine's own disk."""
        return self.host.deployments / self.deployment_id

    @property
    def socket(self) -> Path:
        """The socket proxy's socket."""
        return self.host.run_dir / f"{self.deployment_id}.sock"

    @property
    def status_file(self) -> Path:
        """What bwrap says of the app it runs."""
        return self.path / "status.json"

    @property
    def logs(self) -> Logs:
        """The two logs: beside the app's files, so that they outlive those."""
        host = self.host
        return Logs(directory=self.path, collecting=host.collecting, clock=host.clock)

    @property
    @abstractmethod
    def record(self) -> Record | None:
        """What is known of the deployment."""

    @abstractmethod
    def abandon(self) -> None:
        """Take away all but the logs and the record of a build that failed."""

    @abstractmethod
    def remove(self) -> None:
        """Take away all there is, in whatever state."""

    def write(self, record: Record) -> None:
        """Keep the record."""
        record.write(self.path)

    def instance(self, listener: Listener) -> Instance:
        """The app, which runs and listens there."""
        address = Address.unix(self.socket)
        return Instance(deployment_id=self.deployment_id, address=address, port=listener.port)
