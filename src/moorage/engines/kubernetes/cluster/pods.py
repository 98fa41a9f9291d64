"""What the cluster says of an app's pod."""

from collections.abc import Iterable
from dataclasses import dataclass

from moorage.engines.engine import AppExit
from moorage.engines.kubernetes.objects.app import CONTAINER
from moorage.engines.kubernetes.objects.labels import DEPLOYMENT_LABEL, LOG_LABEL
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.records.deployment import LogKind

_OUT_OF_MEMORY = "OOMKilled"
_PULL_PROBLEMS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
     "RegistryUnavailable", "ImageInspectError"}
)  # fmt: skip
_START_PROBLEMS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_NEVER_STARTED = frozenset({"StartError", "ContainerCannotRun"})
_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """Why a container does not run yet: the kubelet's word, and its sentence."""

    reason: str
    message: str = ""

    @property
    def is_pull_problem(self) -> bool:
        """Whether its image can't be fetched."""
        return self.reason in _PULL_PROBLEMS

    @property
    def may_pass(self) -> bool:
        """Whether it may be a trouble of the node that passes."""
        return self.is_pull_problem or self.reason == "CreateContainerConfigError"

    @property
    def is_start_problem(self) -> bool:
        """Whether its image can't be started."""
        return self.reason in _START_PROBLEMS


@dataclass(frozen=True, kw_only=True)
class Pod:
    """An app's pod. The kubelet starts the container in it again when it has ended."""

    namespace: str
    name: str
    uid: str
    deployment_id: str
    created: str  # RFC 3339
    is_ending: bool  # its deletion has begun
    is_over: bool  # it will never run again, such as after an eviction
    ip: str = ""
    is_ready: bool = False
    is_running: bool = False  # its container
    starts: int = 0  # how often its container was started, after the first time
    waiting: Waiting | None = None
    last_end: AppExit | None = None  # of its container
    last_words: str = ""  # what the runtime says of that end, such as why nothing could be started
    unscheduled: str = ""  # why no node takes it
    log: LogKind | None = None  # as of `App`

    @property
    def end(self) -> AppExit | None:
        """How the app ended; None while it runs as it should, or has not run yet."""
        if self.is_over:
            return self.last_end or AppExit(exit_code=None, out_of_memory=False)
        return None if self.is_ready or self.log is not None else self.last_end


def parse(manifest: Manifest) -> Pod:
    """Reads what the API has of a pod."""
    metadata, status = manifest["metadata"], manifest.get("status", {})
    found = status.get("containerStatuses") or ()
    container: Manifest = next((it for it in found if it.get("name") == CONTAINER), {})
    state, last = container.get("state") or {}, container.get("lastState") or {}
    ended = _end(state.get("terminated"), last.get("terminated"))
    log = metadata.get("labels", {}).get(LOG_LABEL)
    conditions = _conditions(manifest)
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        deployment_id=metadata.get("labels", {}).get(DEPLOYMENT_LABEL, ""),
        created=metadata.get("creationTimestamp") or "",
        is_ending="deletionTimestamp" in metadata,
        is_over=status.get("phase") in _OVER,
        ip=status.get("podIP", ""),
        is_ready=conditions.get("Ready", {}).get("status") == "True",
        is_running="running" in state,
        starts=container.get("restartCount", 0),
        waiting=_waiting(state.get("waiting")),
        last_end=_exit(ended),
        last_words=(ended or {}).get("message", "") or status.get("message", ""),
        unscheduled=unscheduled(manifest),
        log=None if log is None else LogKind(log),
    )


def newest(pods: Iterable[Pod]) -> Pod | None:
    """Returns the pod that counts: the one made last whose deletion has not begun."""
    alive = [pod for pod in pods if not pod.is_ending]
    return max(alive, key=lambda pod: (not pod.is_over, pod.created, pod.name), default=None)


def has_ended(before: Pod, after: Pod | None) -> bool:
    """Returns whether the app in a pod has ended between two states of it."""
    if after is None:
        return not before.is_ending
    if after.is_ending or after.is_over:
        return not (before.is_ending or before.is_over)
    return after.starts > before.starts or (before.is_running and not after.is_running)


def _waiting(found: Manifest | None) -> Waiting | None:
    if not found:
        return None
    return Waiting(reason=found.get("reason", ""), message=found.get("message", ""))


def _end(now: Manifest | None, before: Manifest | None) -> Manifest | None:
    """Returns how the container ended last; one that could not start says less than the end before.

    So it is where the kubelet starts an app again whose pod is just being taken away.
    """
    if now and before and now.get("reason") in _NEVER_STARTED:
        return before
    return now or before


def _exit(ended: Manifest | None) -> AppExit | None:
    if not ended:
        return None
    return AppExit(
        exit_code=ended.get("exitCode"), out_of_memory=ended.get("reason") == _OUT_OF_MEMORY
    )


def _conditions(manifest: Manifest) -> dict[str, Manifest]:
    return {it["type"]: it for it in manifest.get("status", {}).get("conditions") or ()}


def unscheduled(manifest: Manifest) -> str:
    """Returns why no node takes a pod; "" if one does."""
    condition = _conditions(manifest).get("PodScheduled", {})
    if condition.get("status") != "False" or condition.get("reason") != "Unschedulable":
        return ""
    return str(condition.get("message") or "no node takes it")
