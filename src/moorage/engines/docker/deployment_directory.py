"""A deployment's files on this machine: its record, its logs, its socket, its proxy's group."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec

from moorage.engines.docker.container import Surroundings
from moorage.engines.docker.output import Followers
from moorage.engines.dockerd.daemon import Daemon
from moorage.engines.engine import AppExit
from moorage.engines.host import deployment_directory
from moorage.engines.host import deployment_directory as shared
from moorage.engines.host.cgroup import APPS, Cgroups
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.logs.logs import Logs
from moorage.engines.logs.store import OUT
from moorage.process import ProcessRecord
from moorage.records.deployment import LogKind
from moorage.threads import in_thread


class Record(deployment_directory.Record, frozen=True, kw_only=True):
    """One deployment, and its container once that was started."""

    container_id: str | None = None
    process: ProcessRecord | None = None  # the container's first process, outside

    def without_container(self, ended: AppExit) -> Self:
        """Returns the record after its app has ended and its container is removed."""
        return msgspec.structs.replace(self.ended(ended), container_id=None, process=None)


PROXY_GROUP = f"{APPS}/door-"


@dataclass(frozen=True, kw_only=True)
class Host(shared.Host["DeploymentDirectory"]):
    """What all deployments of a gateway share."""

    daemon: Daemon
    around: Surroundings
    subnet: str
    cgroups: Cgroups
    followers: Followers

    def directory(self, deployment_id: str) -> "DeploymentDirectory":
        """Returns the directory of a deployment, which need not exist."""
        return DeploymentDirectory(host=self, deployment_id=deployment_id)


@dataclass(frozen=True, kw_only=True)
class DeploymentDirectory(shared.DeploymentDirectory):
    """One deployment's directory."""

    host: Host

    @property
    def proxy_group(self) -> str:
        """The control group of the socket proxy."""
        return f"{PROXY_GROUP}{self.deployment_id}"

    @property
    def logs(self) -> Logs:
        """The two logs; Docker hands over what apps write, and no pipe is read."""
        return Logs(directory=self.path, collecting=None, clock=self.host.clock)

    @property
    def record(self) -> Record | None:
        """The deployment's record; None if there is none."""
        return Record.read(self.path)

    def volume_view(self, volume_id: str) -> Path:
        """Returns where the deployment's view of a volume is mounted."""
        return self.host.volumes.mounts / volume_id / self.deployment_id

    def begin(self) -> None:
        """Makes the directory, in stage BUILDING; keeps logs of an earlier attempt."""
        self._begin(Record(deployment_id=self.deployment_id, stage=Stage.BUILDING))

    async def write_build_log(self, lines: Sequence[str]) -> None:
        """Writes lines that a build printed."""
        texts = [line.encode("utf-8", "replace") for line in lines]
        now_ms = self.host.clock.now_ms()
        await in_thread(self.logs.append, LogKind.BUILD, OUT, texts, at_ms=now_ms)

    def finish(self) -> None:
        """Records the deployment as built."""
        self.write(Record(deployment_id=self.deployment_id, stage=Stage.BUILT))

    def abandon(self) -> None:
        """Records the build as failed; the logs stay."""
        self.write(Record(deployment_id=self.deployment_id, stage=Stage.FAILED))

    def remove(self) -> None:
        """Removes the socket and all files."""
        self.socket.unlink(missing_ok=True)
        if self.path.is_dir():
            shutil.rmtree(self.path)
