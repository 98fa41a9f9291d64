"""What a build pod's status says: how far its containers are, and why the build failed. Pure."""

from dataclasses import dataclass
from typing import Any

from moorage.engines.failure import failed_with
from moorage.engines.kubernetes.building.pod.program import TOO_LARGE, UNREACHABLE
from moorage.engines.kubernetes.objects.build import INSTALL, KEEP, PACK
from moorage.errors import FailureCause

_OUT_OF_MEMORY, _EVICTED, _DEADLINE = "OOMKilled", "Evicted", "DeadlineExceeded"
_FULL_WORDS = ("ENOSPC", "No space left on device", "no space left on device")
_OF_DISK = ("ephemeral", "emptydir", "disk")  # in the kubelet's words for an eviction
_UNSTARTABLE = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a container has ended."""

    code: int
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a container is."""

    has_started: bool
    ended: Ended | None = None
    obstacle: str = ""  # what keeps it from starting, in the kubelet's words


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a build failed."""

    cause: FailureCause
    reason: str


def progress(pod: dict[str, Any], container: str) -> Progress:
    """Returns how far a container of the pod is."""
    status = pod.get("status", {})
    found = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    state = next((it.get("state") or {} for it in found if it.get("name") == container), {})
    if ended := state.get("terminated"):
        return Progress(
            has_started=True,
            ended=Ended(
                code=int(ended.get("exitCode", 0)),
                reason=ended.get("reason", ""),
                message=ended.get("message", ""),
            ),
        )
    waiting = state.get("waiting") or {}
    reason = waiting.get("reason", "")
    obstacle = f"{reason}: {waiting.get('message', '')}" if reason in _UNSTARTABLE else ""
    return Progress(has_started="running" in state, obstacle=obstacle)


def unscheduled(pod: dict[str, Any]) -> str:
    """Returns why no node takes the pod; "" if one does, or none was looked for yet."""
    for condition in pod.get("status", {}).get("conditions") or ():
        if (condition.get("type"), condition.get("status")) == ("PodScheduled", "False"):
            return str(condition.get("message") or condition.get("reason") or "no node takes it")
    return ""


def pod_failure(pod: dict[str, Any]) -> Failure | None:
    """Returns why the pod as a whole was ended; None if it was not."""
    status = pod.get("status", {})
    if status.get("phase") != "Failed":
        return None
    reason, message = status.get("reason", ""), status.get("message", "")
    if reason == _DEADLINE:
        return Failure(cause=FailureCause.BUILD_TIMEOUT, reason="the build took too long")
    if reason == _EVICTED and any(word in message.lower() for word in _OF_DISK):
        return Failure(cause=FailureCause.OUT_OF_DISK, reason=f"the disk is full: {message}")
    if reason:
        return Failure(
            cause=FailureCause.INTERRUPTED,
            reason=f"the cluster ended the build: {message or reason}",
        )
    return None


def step_failure(name: str, command: str, ended: Ended, tail: str) -> Failure | None:
    """Returns why a step of the plan failed; None if it did not. `tail` ends its output."""
    if ended.code == 0:
        return None
    is_install = name == INSTALL
    reason = failed_with(command, ended.code, is_install=is_install)
    if ended.reason == _OUT_OF_MEMORY:
        return Failure(
            cause=FailureCause.OUT_OF_MEMORY, reason=f"{reason}: the build ran out of memory"
        )
    if any(word in tail for word in _FULL_WORDS):
        return Failure(cause=FailureCause.OUT_OF_DISK, reason=f"{reason}: the disk is full")
    cause = FailureCause.INSTALL_FAILED if is_install else FailureCause.BUILD_FAILED
    return Failure(cause=cause, reason=reason)


def own_failure(name: str, ended: Ended) -> Failure | None:
    """Returns why one of Moorage's own programs failed; None if it did not."""
    if ended.code == 0:
        return None
    what = ended.message or f"exit code {ended.code}"
    if ended.reason == _OUT_OF_MEMORY:
        return Failure(
            cause=FailureCause.OUT_OF_MEMORY, reason=f"the build ran out of memory in `{name}`"
        )
    if name not in {KEEP, PACK} or ended.code == UNREACHABLE:
        return Failure(cause=FailureCause.INTERRUPTED, reason=f"deploy again: {what}")
    if ended.code == TOO_LARGE:
        return Failure(cause=FailureCause.OUT_OF_DISK, reason=what)
    return Failure(
        cause=FailureCause.BUILD_FAILED, reason=f"what was built can't become an image: {what}"
    )
