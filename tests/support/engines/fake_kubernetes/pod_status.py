"""What the kubelet says of a pod."""

from dataclasses import dataclass, field
from typing import Any

from support.engines.fake_kubernetes.resources import Manifest
from support.engines.fake_kubernetes.store import timestamp


@dataclass
class ContainerState:
    """How one container of a pod is."""

    name: str
    image: str
    image_id: str = ""
    state: Manifest = field(default_factory=lambda: {"waiting": {"reason": "PodInitializing"}})
    last: Manifest = field(default_factory=dict)
    restarts: int = 0
    started: bool = False  # its startup probe has succeeded, or it has none
    ready: bool = False

    @property
    def running(self) -> bool:
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """None unless it has ended, and is not to run again."""
        ended = self.state.get("terminated")
        return None if ended is None else int(ended["exitCode"])

    def wait(self, reason: str, message: str = "") -> None:
        self.state = {"waiting": {"reason": reason} | ({"message": message} if message else {})}
        self.started = self.ready = False

    def run(self) -> None:
        self.state = {"running": {"startedAt": timestamp()}}

    def end(self, exit_code: int, reason: str, message: str = "") -> None:
        began = self.state.get("running", {}).get("startedAt", timestamp())
        ended = {"exitCode": exit_code, "reason": reason}
        ended |= {"startedAt": began, "finishedAt": timestamp()}
        self.state = {"terminated": ended | ({"message": message} if message else {})}
        self.started = self.ready = False

    def written(self) -> Manifest:
        return {
            "name": self.name,
            "image": self.image,
            "imageID": self.image_id,
            "state": self.state,
            "lastState": self.last,
            "restartCount": self.restarts,
            "started": self.started,
            "ready": self.ready,
        }


def status(
    live: Manifest,
    *,
    address: str,
    initial: list[ContainerState],
    usual: list[ContainerState],
    initialized: bool,
) -> Manifest:
    """A pod's status; what others have written of it stays."""
    phase = _phase(live["spec"]["restartPolicy"], initial, usual)
    ready = bool(usual) and all(state.ready for state in usual)
    reason = {"reason": "ContainersNotReady"} if not ready else {}
    conditions: dict[str, Any] = {
        "Initialized": {} if initialized else {"reason": "ContainersNotInitialized"},
        "Ready": reason,
        "ContainersReady": reason,
    }
    holds = {"Initialized": initialized, "Ready": ready, "ContainersReady": ready}
    before = live.get("status", {})
    found = {c["type"]: c for c in before.get("conditions", [])}
    for name, more in conditions.items():
        state = "True" if holds[name] else "False"
        if found.get(name, {}).get("status") != state:
            found[name] = {"type": name, "status": state, "lastTransitionTime": timestamp(), **more}
    addresses = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
    return {
        **before,
        "startTime": before.get("startTime", timestamp()),
        "phase": phase,
        "hostIP": "127.0.0.1",
        "qosClass": "Guaranteed",
        **addresses,
        "conditions": list(found.values()),
        **({"initContainerStatuses": [s.written() for s in initial]} if initial else {}),
        "containerStatuses": [state.written() for state in usual],
    }


def _phase(policy: str, initial: list[ContainerState], usual: list[ContainerState]) -> str:
    codes = [state.exit_code for state in usual]
    if policy == "Never" and any(state.exit_code for state in initial):
        return "Failed"
    if (
        policy != "Always"
        and None not in codes
        and all(state.state.get("terminated") for state in usual)
    ):
        if not any(codes):
            return "Succeeded"
        if policy == "Never":
            return "Failed"
    if any(state.running or state.restarts or state.last for state in usual):
        return "Running"
    return "Running" if any(code is not None for code in codes) else "Pending"


def ended_by(reason: str, message: str) -> Manifest:
    """The part of a pod's status when the kubelet itself ends it."""
    return {"phase": "Failed", "reason": reason, "message": message}
