"""A volume that can't leave a cluster now, and one that can't at all, are told apart."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sample_objects import APP_LIMITS, PLAIN

from moorage.engines.kind import ClusterOptions
from moorage.engines.kubernetes.cluster.client import Cluster, Refused
from moorage.engines.kubernetes.cluster.namespaces import Claims
from moorage.engines.kubernetes.cluster.shared import ImageBuilder, Shared
from moorage.engines.kubernetes.objects.app import volume_claim
from moorage.engines.kubernetes.objects.labels import PART_LABEL, Part
from moorage.engines.kubernetes.volume_program import INTERRUPTED, REFUSED
from moorage.engines.kubernetes.volumes import CONTAINER, ClaimedVolumes
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
        return cast("ImageBuilder", SimpleNamespace())


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def volumes(server: Server, clock: MovableClock) -> Volumes:
    return Volumes(server, clock)


async def test_volume_that_may_be_read_later_is_not_left_out(
    server: Server, volumes: Volumes, tmp_path: Path
) -> None:
    """Its project is deleted once the rest is exported."""
    server.ended = {"exitCode": INTERRUPTED, "message": "the connection was lost"}
    with pytest.raises(ClusterUnavailable, match="was lost"):
        await volumes.read_volume(VOLUME, tmp_path / "archive")
    server.ended = {"exitCode": 0, "message": "sha256:00 3 1"}
    with pytest.raises(ClusterUnavailable, match="lost"):  # nobody has connected to its pod
        await volumes.read_volume(VOLUME, tmp_path / "archive")
    server.refuses = True
    with pytest.raises(ClusterUnavailable, match="exceeded quota"):
        await volumes.read_volume(VOLUME, tmp_path / "archive")
    assert "Secret" in server.made
    assert "Secret" not in dict(server.kept)  # it has a token


async def test_volume_whose_files_can_not_be_read_is_refused(
    server: Server, volumes: Volumes, tmp_path: Path
) -> None:
    server.ended = {"exitCode": REFUSED, "message": "the files are larger"}
    with pytest.raises(DeployFailed, match="larger") as failed:
        await volumes.read_volume(VOLUME, tmp_path / "archive")
    assert failed.value.cause is FailureCause.OUT_OF_DISK
