"""The daemon that builds Dockerfiles may be away: what else the gateway does goes on."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sample_objects import APP_LIMITS, OWNER

from moorage.engines.dockerd.daemon import DaemonFailed
from moorage.engines.dockerd.images import Images
from moorage.engines.engine import BuildSpec
from moorage.engines.images.credentials import Credentials
from moorage.engines.images.reference import parse_reference
from moorage.engines.kubernetes.building.dockerfiles import DockerfileBuilder
from moorage.engines.kubernetes.building.registry.images import DeploymentImages
from moorage.errors import ConfigurationInvalid, DeployFailed, FailureCause, IsolationMissing
from support.books.records_fixture import PLAN


class Daemon:
    """One that is reached when nothing keeps it away; it builds anything."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.opened = 0

    async def open(self) -> Images:
        if self.faults:
            raise self.faults.pop(0)
        self.opened += 1
        return cast("Images", self)

    async def build(self, spec: BuildSpec, log: Any) -> None: ...

    async def user(self, deployment_id: str) -> str:
        return ""

    async def push(self, deployment_id: str, target: object, credentials: str) -> None: ...

    async def remove(self, deployment_id: str) -> None: ...


def builder(daemon: Daemon) -> DockerfileBuilder:
    async def adopt(owner: str, deployment_id: str, *, user: str) -> str:
        return f"{deployment_id} as {user}"

    def name(owner: str, deployment_id: str) -> Any:
        return parse_reference(f"registry.example/apps:{deployment_id}")

    images = cast("DeploymentImages", SimpleNamespace(adopt=adopt, name=name))
    return DockerfileBuilder(daemon.open, images, Credentials({}))


async def built(made: DockerfileBuilder) -> object:
    async def log(_: object) -> None: ...

    spec = BuildSpec(
        deployment_id="first",
        source=Path("/nowhere"),
        plan=PLAN,
        limits=APP_LIMITS,
        timeout_seconds=1,
        owner=OWNER,
    )
    return await made.build(spec, log)


async def test_daemon_that_is_away_fails_dockerfiles_alone_and_is_used_once_it_is_back() -> None:
    daemon = Daemon(IsolationMissing(("away",)), DaemonFailed("away"))
    made = builder(daemon)
    assert await made.open() is None
    with pytest.raises(DeployFailed, match="not there just now") as failed:
        await built(made)
    assert failed.value.cause is FailureCause.NO_CAPACITY
    assert await built(made) == "first as 1000:1000"
    await built(made)
    assert daemon.opened == 1


async def test_daemon_that_can_never_be_reached_is_told_at_the_start() -> None:
    with pytest.raises(ConfigurationInvalid):
        await builder(Daemon(ConfigurationInvalid("no ca.pem"))).open()
