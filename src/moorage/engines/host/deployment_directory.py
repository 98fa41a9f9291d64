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

P = TypeVar("P", bound="Place")


@dataclass(frozen=True, kw_only=True)
class Machine(ABC, Generic[P]):
    """What all deployments of a gateway share."""

    configuration: HostConfiguration
    servers: tuple[str, ...]  # name servers
    tools: dict[str, Path]  # program → a path that every app can reach
    cgroups: Cgroups | None  # None where the gateway's user may make none
    shares: Shares
    incidents: Incidents = field(default_factory=Incidents)

    @abstractmethod
    def place(self, deployment_id: str) -> P:
        """The place of a deployment, whether or not anything is there."""

    def places(self) -> list[P]:
        """Every place where something is."""
        return [self.place(deployment_id) for deployment_id in sorted(self.known())]

    def known(self) -> set[str]:
        """The deployments that have a place where something is."""
        with os.scandir(self.deployments) as places:  # many times, and so without making paths
            return {place.name for place in places}

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
        """The directory of all places' directories."""
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
class Place(ABC):
    """One deployment's place. Methods block; call them from a thread."""

    machine: Machine[Any]
    deployment_id: str

    @property
    def directory(self) -> Path:
        """All that lies on the machine's own disk."""
        return self.machine.deployments / self.deployment_id

    @property
    def socket(self) -> Path:
        """The door's socket."""
        return self.machine.run_dir / f"{self.deployment_id}.sock"

    @property
    def status_file(self) -> Path:
        """What bwrap says of the app it runs."""
        return self.directory / "status.json"

    @property
    def logs(self) -> Logs:
        """The two logs: beside the app's files, so that they outlive those."""
        machine = self.machine
        return Logs(directory=self.directory, collecting=machine.collecting, clock=machine.clock)

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
        record.write(self.directory)

    def instance(self, listener: Listener) -> Instance:
        """The app, which runs and listens there."""
        address = Address.unix(self.socket)
        return Instance(deployment_id=self.deployment_id, address=address, port=listener.port)
