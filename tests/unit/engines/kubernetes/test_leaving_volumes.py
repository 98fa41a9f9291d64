"""A volume that can't leave a cluster now, and one that can't at all, are told apart."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sample_objects import APP_LIMITS, PLAIN

from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.building.pod.program import TOO_LARGE, UNREACHABLE
from moorage.engines.kubernetes.carrying.volumes import ClaimedVolumes
from moorage.engines.kubernetes.cluster.client import Cluster, Refused
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects.app import volume_claim
from moorage.engines.kubernetes.objects.carrier import CONTAINER
from moorage.engines.kubernetes.objects.labels import PART_LABEL, Part, volume_name
from moorage.engines.kubernetes.running.volumes import Claims
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from support.gateway.clock import MovableClock

VOLUME = "kept"


class Server:
    """An API server that has one claim, and what else the test puts there."""

    def __init__(self) -> None:
        self.claim = volume_claim(
            VOLUME,
            owner="0x" + "ab" * 20,
            namespace="wallet",
            instance=PLAIN.instance,
            size_bytes=1 << 20,
            storage_class="",
        )
        self.apps: list[Any] = []
        self.refuses = False
        self.ended: dict[str, Any] = {"exitCode": 0}
        self.made: list[str] = []
        self.kept = set[tuple[str, str]]()

    async def renew(self, name: str) -> None:
        assert name == "wallet"

    async def list(self, resource: Any, *, labels: Mapping[str, str], **_: Any) -> Any:
        if PART_LABEL not in labels:
            return SimpleNamespace(items=[self.claim])
        return SimpleNamespace(items=self.apps if labels[PART_LABEL] == Part.APP else [])

    async def apply(self, manifest: Any) -> None:
        if self.refuses and manifest["kind"] == "Pod":
            raise Refused("exceeded quota: moorage", reason="Forbidden")
        self.made.append(manifest["kind"])
        self.kept.add((manifest["kind"], manifest["metadata"]["name"]))

    async def delete(self, resource: Any, name: str, **_: Any) -> None:
        self.kept.discard((resource.kind, name))

    async def get(self, resource: Any, name: str, *, namespace: str) -> Any:
        state = {"terminated": self.ended}
        return {"status": {"containerStatuses": [{"name": CONTAINER, "state": state}]}}


class Volumes(ClaimedVolumes):
    """The volumes of that server."""

    def __init__(self, server: Server, clock: MovableClock) -> None:
        cluster = cast("Cluster", server)
        claims = Claims(cluster, instance=PLAIN.instance, storage_class="", clock=clock)
        self._server = SimpleNamespace(
            cluster=cluster, claims=claims, namespaces=server, pods=PLAIN, clock=clock
        )
        chosen = SimpleNamespace(own_image="moorage", app=APP_LIMITS)
        self._options = cast("ClusterOptions", chosen)

    @property
    def _shared(self) -> Shared:
        return cast("Shared", self._server)

    @property
    def _builder(self) -> ImageBuilder:
        return cast("ImageBuilder", SimpleNamespace(offered=offered))


@asynccontextmanager
async def offered(**_: Any) -> AsyncIterator[Any]:
    """Tickets that nobody uses."""
    result = asyncio.get_running_loop().create_future()
    yield SimpleNamespace(source_url="", result_url="http://gateway/result", result=result)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def volumes(server: Server, clock: MovableClock) -> Volumes:
    return Volumes(server, clock)


async def test_export_that_may_come_about_later_is_not_left_out(
    server: Server, volumes: Volumes, tmp_path: Path
) -> None:
    """Its project is deleted once the rest is exported."""
    server.ended = {"exitCode": UNREACHABLE, "message": "the gateway can't be reached"}
    with pytest.raises(ClusterUnavailable, match="can't be reached"):
        await volumes.export_volume(VOLUME, tmp_path / "data")
    server.ended = {"exitCode": 0}
    with pytest.raises(ClusterUnavailable, match="did not come"):
        await volumes.export_volume(VOLUME, tmp_path / "data")
    server.refuses = True
    with pytest.raises(ClusterUnavailable, match="exceeded quota"):
        await volumes.export_volume(VOLUME, tmp_path / "data")
    assert "Secret" in server.made
    assert "Secret" not in dict(server.kept)  # it has a URL


async def test_export_that_its_files_do_not_allow_is(
    server: Server, volumes: Volumes, tmp_path: Path
) -> None:
    server.ended = {"exitCode": TOO_LARGE, "message": "the volume's files are larger"}
    with pytest.raises(DeployFailed, match="larger") as failed:
        await volumes.export_volume(VOLUME, tmp_path / "data")
    assert failed.value.cause is FailureCause.OUT_OF_DISK


@pytest.mark.parametrize("phase", ["Running", "Pending"])
async def test_volume_that_an_app_still_has_is_not_packed(
    server: Server, volumes: Volumes, tmp_path: Path, phase: str
) -> None:
    """A node that does not answer ends no pod, and what it writes then would be lost."""
    uses = {"persistentVolumeClaim": {"claimName": volume_name(VOLUME)}}
    metadata = {"deletionTimestamp": "2026-11-27T10:00:00Z"}
    server.apps = [{"metadata": metadata, "spec": {"volumes": [uses]}, "status": {"phase": phase}}]
    with pytest.raises(DeployFailed, match="in use"):
        await volumes.pack_volume(VOLUME, tmp_path / "archive", max_bytes=1 << 20)
    assert server.made == []
    server.apps[0]["status"]["phase"] = "Succeeded"
    with pytest.raises(DeployFailed, match="did not come"):
        await volumes.pack_volume(VOLUME, tmp_path / "archive", max_bytes=1 << 20)
    assert server.made == ["Secret", "Pod"]
