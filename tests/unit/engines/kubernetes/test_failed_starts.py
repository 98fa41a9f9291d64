"""Why an app did not start is told, even where the cluster does not take down how it ended."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from moorage.engines.engine import AppExit, InstanceSpec
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.kubernetes.cluster.client import Refused
from moorage.engines.kubernetes.cluster.pods import Pod
from moorage.engines.kubernetes.running.app import wait_ready
from moorage.engines.kubernetes.running.record import Record
from moorage.engines.kubernetes.running.starting import Patience
from moorage.errors import ClusterUnavailable, DeployFailed
from support.engines.small_apps import LIMITS, plan
from support.gateway.clock import MovableClock

CRASHED = Pod(
    namespace="ns",
    name="app-one-x",
    uid="1",
    deployment_id="one",
    created="2026-01-01T00:00:00Z",
    is_ending=False,
    is_over=False,
    last_end=AppExit(exit_code=3, out_of_memory=False),
)
RECORD = Record(deployment_id="one", namespace="ns", wallet="w", stage=Stage.STARTED)


class Stored:
    """What an app shares with others, in a cluster whose only pod has crashed."""

    def __init__(self, fault: Exception | None) -> None:
        self.fault = fault
        self.records: list[Record] = []
        self.clock = MovableClock()
        self.observed = SimpleNamespace(pods=lambda _id: [CRASHED], instance=lambda _id: None)
        self.cluster = SimpleNamespace(get=self.store)
        self.followers = SimpleNamespace(drained=self._drained)
        self.logs = SimpleNamespace(of=lambda _id: SimpleNamespace(tail=lambda *_: "no such table"))

    async def store(self, record: Record) -> Record:
        if self.fault is not None:
            raise self.fault
        self.records.append(record)
        return record

    async def _drained(self, _id: str) -> None:
        return


@pytest.mark.parametrize(
    "fault",
    [None, ClusterUnavailable("away"), Refused("no", reason="Forbidden")],
    ids=["stored", "unavailable", "refused"],
)
async def test_failed_start_is_told_by_its_own_cause(fault: Exception | None) -> None:
    shared = Stored(fault)
    with pytest.raises(DeployFailed, match="exit code 3"):
        await wait_ready(
            cast("Any", shared),
            RECORD,
            InstanceSpec(deployment_id="one", plan=plan(), limits=LIMITS),
            timeout_seconds=5.0,
            patience=Patience(),
        )
    codes = [each.exit_code for each in shared.records]
    assert codes == ([3] if fault is None else [])
