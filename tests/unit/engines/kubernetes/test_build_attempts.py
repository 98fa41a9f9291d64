"""How a build is followed while its cluster stumbles."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from moorage.clock import SystemClock
from moorage.engines.engine import Limits
from moorage.engines.kubernetes.building.attempt import Attempt, NotLaid, Patience
from moorage.engines.kubernetes.objects import Build, Manifest, Step
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause

MIB = 1024 * 1024
BUILD = Build(
    deployment_id="d",
    owner="0xfeed",
    namespace="n",
    own_image="own",
    image="language",
    directory="",
    steps=[Step(name="install", command="npm ci")],
    fetch=["fetch"],
    pack=["pack"],
    source_url="",
    result_url="",
    limits=Limits(memory_bytes=MIB, cpu_millis=1, pids=1, disk_bytes=MIB),
    timeout_seconds=60,
)
ENDED = {"terminated": {"exitCode": 0}}
RUNNING: dict[str, Any] = {"running": {}}


def pod(**states: Any) -> Manifest:
    statuses = [{"name": name, "state": state} for name, state in states.items()]
    return {"status": {"initContainerStatuses": statuses}}


DONE = pod(fetch=ENDED, install=ENDED, pack=ENDED)


@dataclass
class ScriptedPods:
    """A cluster that says what the test wants, and the last of it for ever."""

    looks: list[Manifest | Exception | None]
    outputs: list[list[Sequence[str] | Exception]] = field(default_factory=list)
    removal: Exception | None = None
    removed: int = 0

    async def start(self, build: Build) -> None:
        pass

    async def look(self, build: Build) -> Manifest | None:
        said = self.looks[0] if len(self.looks) == 1 else self.looks.pop(0)
        if isinstance(said, Exception):
            raise said
        return said

    async def output(self, build: Build, container: str) -> AsyncIterator[Sequence[str]]:
        for part in self.outputs.pop(0) if self.outputs else ():
            if isinstance(part, Exception):
                raise part
            yield part

    async def remove(self, build: Build) -> None:
        self.removed += 1
        if self.removal is not None:
            raise self.removal


async def run(pods: ScriptedPods, build: Build = BUILD, **patience: float) -> list[str]:
    """Follows a build to its end; returns its log."""
    lines: list[str] = []

    async def log(more: Sequence[str]) -> None:
        lines.extend(more)

    limits = Patience(**{"look_seconds": 0, **patience})
    await Attempt(pods, build, log, SystemClock(), limits).run()
    return lines


async def test_lines_are_told_once_although_the_output_was_cut_off() -> None:
    cut = ClusterUnavailable()
    pods = ScriptedPods(
        [pod(fetch=ENDED), pod(install=RUNNING), pod(install=RUNNING), DONE],
        [[["a"], ["b", "c"], cut], [["a", "b"]], [["a", "b", "c", "d"], ["e"]]],
    )
    assert await run(pods) == ["$ npm ci", "a", "b", "c", "d", "e"]


async def test_cluster_that_does_not_answer_for_a_while_fails_no_build() -> None:
    pods = ScriptedPods([ClusterUnavailable(), ClusterUnavailable(), pod(fetch=RUNNING), DONE])
    assert await run(pods) == ["$ npm ci"]


async def test_cluster_that_stays_silent_is_no_fault_of_the_deployers() -> None:
    pods = ScriptedPods([ClusterUnavailable()])
    with pytest.raises(ClusterUnavailable):
        await run(pods, silence_seconds=0)
    assert pods.removed == 1


async def test_pod_that_is_gone_interrupts_the_build() -> None:
    with pytest.raises(DeployFailed) as failed:
        await run(ScriptedPods([pod(fetch=ENDED), None]))
    assert failed.value.cause is FailureCause.INTERRUPTED


async def test_image_that_can_not_be_pulled_is_waited_for_and_then_given_up() -> None:
    stuck = pod(fetch={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}})
    assert await run(ScriptedPods([stuck, stuck, DONE])) == ["$ npm ci"]
    with pytest.raises(DeployFailed, match="no such image") as failed:
        await run(ScriptedPods([stuck]), obstacle_seconds=0)
    assert failed.value.cause is FailureCause.INTERRUPTED


async def test_install_that_can_not_be_laid_down_is_told_from_builds_that_fail() -> None:
    build = replace(BUILD, installed="lost")
    stuck = pod(installed={"waiting": {"reason": "ErrImagePull", "message": "no such image"}})
    with pytest.raises(NotLaid, match="no such image"):
        await run(ScriptedPods([stuck]), build, obstacle_seconds=0)
    with pytest.raises(NotLaid, match="exit code 1"):
        await run(ScriptedPods([pod(installed={"terminated": {"exitCode": 1}})]), build)
    full = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    with pytest.raises(DeployFailed, match="out of memory"):
        await run(ScriptedPods([pod(installed=full)]), build)


@pytest.mark.parametrize("problem", [ClusterUnavailable(), OSError("refused")])
async def test_pod_that_can_not_be_removed_changes_no_outcome(problem: Exception) -> None:
    assert await run(ScriptedPods([DONE], removal=problem)) == ["$ npm ci"]


async def test_what_was_left_out_is_told() -> None:
    packed = {"terminated": {"exitCode": 0, "message": "2 sockets are left out"}}
    assert await run(ScriptedPods([pod(fetch=ENDED, install=ENDED, pack=packed)])) == [
        "$ npm ci",
        "2 sockets are left out",
    ]


async def test_step_that_ended_with_its_evicted_pod_is_told_by_what_the_pod_was_ended_for() -> None:
    """The kubelet kills its processes, so that by its code alone the step seems to have failed."""
    killed = pod(fetch=ENDED, install={"terminated": {"exitCode": 137, "reason": "Error"}})
    full = 'Usage of EmptyDir volume "app" exceeds the limit "64Mi".'
    killed["status"] |= {"phase": "Failed", "reason": "Evicted", "message": full}
    with pytest.raises(DeployFailed) as failed:
        await run(ScriptedPods([pod(fetch=ENDED), killed]))
    assert failed.value.cause is FailureCause.OUT_OF_DISK
