"""What is read of pods and endpoints, what apps use, and why they can't start."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from moorage.engines.engine import AppExit, Instance, InstanceSpec, Usage
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.kubernetes.cluster import observed, pods
from moorage.engines.kubernetes.cluster.client import Refused
from moorage.engines.kubernetes.cluster.pods import Pod, has_ended, newest
from moorage.engines.kubernetes.running.app import wait_ready
from moorage.engines.kubernetes.running.record import Record
from moorage.engines.kubernetes.running.starting import Patience, refused
from moorage.engines.kubernetes.running.usage import Meter, allocatable, quantity, samples
from moorage.errors import ClusterUnavailable, DeployFailed
from support.engines.small_apps import LIMITS, plan
from support.gateway.clock import MovableClock


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("250m", 0.25), ("2", 2), ("12345678n", 0.012345678), ("1500u", 0.0015),
        ("128Mi", 128 * 2**20), ("64M", 64_000_000), ("1.5Gi", 1.5 * 2**30), ("1e3", 1000),
        ("2E", 2 * 10**18), ("0", 0),
    ],
)  # fmt: skip
def test_amounts_are_read_in_every_unit(text: str, amount: float) -> None:
    assert float(quantity(text)) == pytest.approx(amount)


@pytest.mark.parametrize("text", ["", "Mi", "12Xi", "1.2.3"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        quantity(text)


def measured(second: int, *, cpu: str = "500m", pod: str = "p") -> dict[str, Any]:
    return {
        "metadata": {"name": pod, "labels": {"moorage.dev/deployment": "one"}},
        "timestamp": f"2026-01-01T00:00:{second:02}Z",
        "containers": [{"name": "app", "usage": {"cpu": cpu, "memory": "10Mi"}}],
    }


def test_processor_time_is_the_sum_of_what_was_told() -> None:
    meter = Meter()
    seen = [meter.add(samples([measured(at)]))["one"].cpu_ms for at in (0, 10, 10, 30)]
    assert seen == [0, 5_000, 5_000, 15_000]


def test_pod_in_place_of_another_begins_anew() -> None:
    meter = Meter()
    meter.add(samples([measured(0)]))
    meter.add(samples([measured(10)]))
    assert meter.add(samples([measured(20, pod="q")])) == {
        "one": Usage(cpu_ms=0, memory_bytes=10 * 2**20)
    }


def test_what_is_not_complete_is_left_out() -> None:
    broken: list[dict[str, Any]] = [
        {**measured(0), "containers": []},
        {**measured(0), "metadata": {}},
    ]
    assert samples([*broken, measured(1, cpu="much")]) == []


def test_memory_is_that_of_nodes_that_take_pods() -> None:
    def node(**spec: Any) -> dict[str, Any]:
        return {"spec": spec, "status": {"allocatable": {"memory": "1Gi", "cpu": "1500m"}}}

    nodes = [node(), node(), node(unschedulable=True), {}]
    assert allocatable(nodes, "memory") == 2 * 2**30
    assert allocatable(nodes, "cpu") == 3


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


def pod(name: str = "app-one-x", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": name,
            "labels": {"moorage.dev/deployment": "one"},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "status": status,
    }


def container(state: dict[str, Any], last: dict[str, Any] | None = None, starts: int = 0) -> Any:
    return [{"name": "app", "state": state, "lastState": last or {}, "restartCount": starts}]


def ready(name: str = "app-one-x", ip: str = "10.0.0.5") -> dict[str, Any]:
    return pod(
        name,
        podIP=ip,
        conditions=[{"type": "Ready", "status": "True"}],
        containerStatuses=container({"running": {}}),
    )


@pytest.mark.parametrize(
    ("reason", "may_pass"),
    [
        ("ImagePullBackOff", True),
        ("CreateContainerConfigError", True),  # also while the kubelet is in trouble
        ("RunContainerError", False),
    ],
)
def test_what_may_be_a_trouble_of_the_node_is_waited_for(reason: str, may_pass: bool) -> None:
    waiting = container({"waiting": {"reason": reason}})
    parsed = pods.parse(pod(containerStatuses=waiting)).waiting
    assert parsed is not None
    assert parsed.may_pass is may_pass


def slice_of(*found: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "ns",
            "name": "app-one-s",
            "labels": {"moorage.dev/deployment": "one"},
        },
        "ports": [{"name": "http", "port": 3000}],
        "endpoints": list(found) or None,
    }


def endpoint(name: str, address: str, *, is_ready: bool = True) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": is_ready},
        "targetRef": {"kind": "Pod", "name": name},
    }


def found(pod_manifest: dict[str, Any], *listed: dict[str, Any]) -> Instance | None:
    return observed.instance_of(
        [pods.parse(pod_manifest)], [observed.read_endpoints(slice_of(*listed))]
    )


def test_app_runs_where_its_pod_and_its_endpoint_agree() -> None:
    instance = found(ready(), endpoint("app-one-x", "10.0.0.5"))
    assert instance is not None
    assert (str(instance.address), instance.port) == ("10.0.0.5:3000", 3000)
    assert instance.deployment_id == "one"


@pytest.mark.parametrize(
    ("manifest", "listed"),
    [
        (ready(), []),
        (ready(), [endpoint("app-one-x", "10.0.0.5", is_ready=False)]),
        (ready(), [endpoint("app-one-y", "10.0.0.5")]),
        (ready(ip="10.0.0.6"), [endpoint("app-one-x", "10.0.0.5")]),
        (
            pod(podIP="10.0.0.5", containerStatuses=container({"running": {}})),
            [endpoint("app-one-x", "10.0.0.5")],
        ),
        (
            {**ready(), "metadata": {**ready()["metadata"], "deletionTimestamp": "now"}},
            [endpoint("app-one-x", "10.0.0.5")],
        ),
    ],
    ids=["none", "not-ready", "another-pod", "another-address", "pod-not-ready", "ending"],
)
def test_app_does_not_run_where_either_says_no(
    manifest: dict[str, Any], listed: list[dict[str, Any]]
) -> None:
    assert found(manifest, *listed) is None


def test_address_of_the_sixth_version_is_in_brackets() -> None:
    instance = found(ready(ip="fd00::5"), endpoint("app-one-x", "fd00::5"))
    assert instance is not None
    assert str(instance.address) == "[fd00::5]:3000"


ENDED = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


@pytest.mark.parametrize(
    ("state", "last", "ended"),
    [
        ({"running": {}}, {}, None),
        (ENDED, {}, AppExit(exit_code=137, out_of_memory=True)),
        (
            {"waiting": {"reason": "CrashLoopBackOff"}},
            {"terminated": {"exitCode": 3, "reason": "Error"}},
            AppExit(exit_code=3, out_of_memory=False),
        ),
        (
            {"running": {}},
            {"terminated": {"exitCode": 3, "reason": "Error"}},
            AppExit(exit_code=3, out_of_memory=False),
        ),
        (
            {"terminated": {"exitCode": 128, "reason": "StartError"}},
            {"terminated": {"exitCode": 7, "reason": "Error"}},
            AppExit(exit_code=7, out_of_memory=False),
        ),
        (
            {"terminated": {"exitCode": 128, "reason": "StartError"}},
            {},
            AppExit(exit_code=128, out_of_memory=False),
        ),
    ],
    ids=["runs", "killed", "backs-off", "was-started-again", "not-started-again", "not-started"],
)
def test_end_of_an_app_is_that_of_its_container(
    state: dict[str, Any], last: dict[str, Any], ended: AppExit | None
) -> None:
    assert pods.parse(pod(containerStatuses=container(state, last, 1))).end == ended


def test_evicted_pod_has_ended_without_a_code() -> None:
    evicted = pods.parse(pod(phase="Failed", reason="Evicted", message="The node was low"))
    assert evicted.end == AppExit(exit_code=None, out_of_memory=False)
    assert evicted.last_words == "The node was low"


def test_app_that_is_ready_again_has_not_ended() -> None:
    manifest = ready()
    manifest["status"]["containerStatuses"] = container({"running": {}}, ENDED, 1)
    assert pods.parse(manifest).end is None


def of(**fields: Any) -> Pod:
    usual: dict[str, Any] = {
        "namespace": "ns", "name": "p", "uid": "1", "deployment_id": "one", "created": "1",
        "is_ending": False, "is_over": False, "is_running": True,
    }  # fmt: skip
    return Pod(**(usual | fields))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (of(), of(is_ready=True), False),
        (of(), of(is_running=False), True),
        (of(), of(starts=1), True),
        (of(is_running=False), of(), False),
        (of(), None, True),
        (of(), of(is_ending=True), True),
        (of(is_ending=True), None, False),
        (of(), of(is_over=True), True),
    ],
)
def test_end_is_told_once(before: Pod, after: Pod | None, expected: bool) -> None:
    assert has_ended(before, after) is expected


def test_pod_that_counts_is_the_newest_that_is_not_ending() -> None:
    old, new = of(name="a", created="1"), of(name="b", created="2")
    going, over = of(name="c", created="3", is_ending=True), of(name="d", created="4", is_over=True)
    assert newest([old, new, going, over]) == new
    assert newest([going]) is None
    assert newest([over]) == over


def test_why_no_pod_is_made_is_what_the_deployment_says() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}
    assert refused({"status": {"conditions": [failure]}}) == "exceeded quota"
    assert refused({"status": {"conditions": [{**failure, "status": "False"}]}}) == ""
    assert refused({}) == ""
