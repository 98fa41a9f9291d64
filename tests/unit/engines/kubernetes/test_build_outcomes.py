"""What a build pod's status is taken for."""

from typing import Any

import pytest

from moorage.engines.kubernetes.building.outcome import (
    Ended,
    own_failure,
    pod_failure,
    progress,
    step_failure,
    unscheduled,
)
from moorage.engines.kubernetes.building.pod.program import REFUSED, TOO_LARGE, UNREACHABLE
from moorage.errors import FailureCause


def pod(state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    found = [] if state is None else [{"name": "install", "state": state}]
    return {"status": {"initContainerStatuses": found, **status}}


def test_container_that_is_not_there_yet_has_not_started() -> None:
    assert progress({}, "install") == progress(pod(), "install")
    assert not progress(pod({"waiting": {"reason": "PodInitializing"}}), "install").has_started
    assert not progress(pod({"running": {}}), "build").has_started


def test_running_container_has_started() -> None:
    found = progress(pod({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), "install")
    assert (found.has_started, found.ended) == (True, None)


def test_ended_container_says_how() -> None:
    state = {"terminated": {"exitCode": 3, "reason": "Error", "message": "why"}}
    found = progress(pod(state), "install").ended
    assert found == Ended(code=3, reason="Error", message="why")


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "CreateContainerError"])
def test_container_that_can_not_start_says_why(reason: str) -> None:
    found = progress(pod({"waiting": {"reason": reason, "message": "no such image"}}), "install")
    assert found.obstacle == f"{reason}: no such image"


def test_pod_that_no_node_takes_says_why() -> None:
    refused = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert unscheduled(pod(conditions=[refused])) == "0/3 nodes are available"
    assert unscheduled(pod(conditions=[{"type": "PodScheduled", "status": "True"}])) == ""
    assert unscheduled({}) == ""


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"phase": "Running"}, None),
        ({"phase": "Failed"}, None),  # by a container, which says more
        ({"phase": "Failed", "reason": "DeadlineExceeded"}, FailureCause.BUILD_TIMEOUT),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": 'Usage of EmptyDir volume "app" exceeds the limit "1Gi". ',
            },
            FailureCause.OUT_OF_DISK,
        ),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "Pod ephemeral local storage usage exceeds the total limit 1Gi.",
            },
            FailureCause.OUT_OF_DISK,
        ),
        (
            {
                "phase": "Failed",
                "reason": "Evicted",
                "message": "The node was low on resource: memory.",
            },
            FailureCause.INTERRUPTED,
        ),
        ({"phase": "Failed", "reason": "NodeLost"}, FailureCause.INTERRUPTED),
    ],
    ids=["runs", "container", "time", "volume", "storage", "node", "lost"],
)
def test_pod_that_was_ended_says_why(status: dict[str, Any], cause: FailureCause | None) -> None:
    found = pod_failure({"status": status})
    assert (None if found is None else found.cause) == cause


@pytest.mark.parametrize(
    ("name", "ended", "tail", "cause"),
    [
        ("install", Ended(code=0), "", None),
        ("install", Ended(code=1), "", FailureCause.INSTALL_FAILED),
        ("build", Ended(code=1), "", FailureCause.BUILD_FAILED),
        ("build", Ended(code=137, reason="OOMKilled"), "", FailureCause.OUT_OF_MEMORY),
        ("install", Ended(code=1), "npm error ENOSPC\n", FailureCause.OUT_OF_DISK),
    ],
)
def test_step_fails_for_a_cause(
    name: str, ended: Ended, tail: str, cause: FailureCause | None
) -> None:
    found = step_failure(name, "npm ci", ended, tail)
    assert (None if found is None else found.cause) == cause
    assert found is None or found.reason.startswith("`npm ci` failed with exit code")


@pytest.mark.parametrize(
    ("name", "ended", "cause"),
    [
        ("fetch", Ended(code=0), None),
        ("fetch", Ended(code=UNREACHABLE, message="no route"), FailureCause.INTERRUPTED),
        ("fetch", Ended(code=1), FailureCause.INTERRUPTED),
        ("program-maven", Ended(code=1), FailureCause.INTERRUPTED),
        ("pack", Ended(code=UNREACHABLE, message="no route"), FailureCause.INTERRUPTED),
        ("pack", Ended(code=TOO_LARGE, message="too large"), FailureCause.OUT_OF_DISK),
        ("pack", Ended(code=REFUSED, message="'app/.wh.x'"), FailureCause.BUILD_FAILED),
        ("pack", Ended(code=137, reason="OOMKilled"), FailureCause.OUT_OF_MEMORY),
    ],
)
def test_moorages_own_programs_fail_for_a_cause(
    name: str, ended: Ended, cause: FailureCause | None
) -> None:
    found = own_failure(name, ended)
    assert (None if found is None else found.cause) == cause
    assert found is None or ended.message in found.reason
