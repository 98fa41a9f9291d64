"""Waits until an app that was just started is ready, or says why it is not."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moorage.clock import Clock
from moorage.engines.engine import Instance, InstanceSpec
from moorage.engines.failure import crashed, not_bound, out_of_memory
from moorage.engines.kubernetes.cluster.observed import Observed
from moorage.engines.kubernetes.cluster.pods import Pod, newest
from moorage.engines.kubernetes.objects.pod import Manifest
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25  # how exact times are
_REFRESH_SECONDS = 2.0  # after which the cluster is asked, if it has reported no change
_PULL, _SCHEDULE, _RUN, _MAKE = "pull", "schedule", "run", "make"


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a cluster may take for what it does before an app can listen."""

    schedule_seconds: float = 60.0  # until a node has room
    pull_seconds: float = 30.0  # with an image that can't be fetched, or a node in trouble
    make_seconds: float = 10.0  # until it has made a pod, or has answered why not
    all_seconds: float = 300.0  # for all together, such as fetching a large image


class Starting:
    """One start of an app."""

    def __init__(
        self,
        spec: InstanceSpec,
        observed: Observed,
        *,
        timeout_seconds: float,
        patience: Patience,
        clock: Clock,
        deployment: Callable[[], Awaitable[Manifest]],
        last_words: Callable[[bool], Awaitable[str]],
    ) -> None:
        """`deployment` asks for the app's Deployment.

        `last_words` gives the end of the log, of an app that has ended (True) all of it.
        """
        self._spec = spec
        self._observed = observed
        self._timeout_seconds = timeout_seconds
        self._patience = patience
        self._clock = clock
        self._deployment = deployment
        self._last_words = last_words
        self._begun = clock.monotonic_seconds()
        self._since: dict[str, float] = {}  # when one of these was first seen
        self._starts = {pod.name: pod.starts for pod in observed.pods(spec.deployment_id)}

    async def wait(self) -> Instance:
        """Waits until the app is ready; until it runs or has ended, if it does not listen.

        Raises DeployFailed, ClusterUnavailable.
        """
        name, silent_seconds = self._spec.deployment_id, 0.0
        while True:
            if (found := self._observed.instance(name)) is not None:
                return found
            pod = newest(self._observed.pods(name))
            if pod is not None and pod.is_over and not self._spec.listens:
                return Instance(deployment_id=name, address=None, port=None)
            await self._check(pod)
            if not await self._observed.changes(name, seconds=_POLL_SECONDS):
                silent_seconds += _POLL_SECONDS
            if silent_seconds >= _REFRESH_SECONDS:
                await self._observed.refresh(name)
                silent_seconds = 0.0

    async def _check(self, pod: Pod | None) -> None:
        """Raises what prevents the app from getting ready."""
        if pod is None:
            await self._check_made()
        elif self._has_ended(pod) and self._spec.listens:
            raise await self._ended(pod)
        elif (waiting := pod.waiting) is not None and (
            waiting.is_pull_problem or waiting.is_start_problem
        ):
            if not waiting.may_pass or self._lasts(_PULL) > self._patience.pull_seconds:
                why = waiting.message or waiting.reason
                raise _not_pulled(why) if waiting.is_pull_problem else _not_startable(why)
        elif pod.unscheduled:
            if self._lasts(_SCHEDULE) > self._patience.schedule_seconds:
                logger.warning("no node takes %s: %s", pod.name, pod.unscheduled)
                raise _no_room("no node has room for the app")
        elif pod.is_running and self._lasts(_RUN) >= self._timeout_seconds:
            tail = await self._last_words(False)
            raise not_bound(self._spec, self._timeout_seconds, tail=tail)
        if self._clock.monotonic_seconds() - self._begun > self._limit_seconds:
            raise ClusterUnavailable("The cluster did not bring the app up in time.")

    @property
    def _limit_seconds(self) -> float:
        return self._patience.all_seconds + self._timeout_seconds

    async def _check_made(self) -> None:
        """Raises NO_CAPACITY when the cluster refuses to make a pod."""
        if self._lasts(_MAKE) < 1.0:
            return
        refusal = refused(await self._deployment())
        if refusal and self._lasts(_MAKE) > self._patience.make_seconds:
            raise _no_room(f"the cluster does not run the app: {refusal}")

    def _lasts(self, what: str) -> float:
        """Returns for how many seconds something has lasted, as far as it was seen."""
        now = self._clock.monotonic_seconds()
        return now - self._since.setdefault(what, now)

    def _has_ended(self, pod: Pod) -> bool:
        """Returns whether the app has ended since it was started here."""
        if pod.is_over or pod.starts > self._starts.get(pod.name, 0):
            return True
        return pod.last_end is not None and not pod.is_running

    async def _ended(self, pod: Pod) -> DeployFailed:
        how, tail = pod.last_end, await self._last_words(True)
        if how is None:
            return DeployFailed(
                FailureCause.CRASHED,
                f"the cluster ended the app: {pod.last_words or 'it does not say why'}",
                log_tail=tail,
            )
        if how.out_of_memory:
            return out_of_memory(self._spec, code=how.exit_code, tail=tail)
        if pod.last_words and not tail:  # what the runtime says where nothing could be started
            return _not_startable(pod.last_words)
        return crashed(self._spec, code=how.exit_code, tail=tail)


def refused(deployment: Mapping[str, Any]) -> str:
    """Returns why a cluster makes no pod of a Deployment, such as its quota; "" if it does."""
    conditions = deployment.get("status", {}).get("conditions") or ()
    for condition in conditions:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return str(condition.get("message") or condition.get("reason"))
    return ""


def _not_startable(why: str) -> DeployFailed:
    return DeployFailed(FailureCause.CRASHED, f"the image can't be started: {why}")


def _not_pulled(why: str) -> DeployFailed:
    return DeployFailed(
        FailureCause.INTERRUPTED, f"its image can't be fetched: deploy it again ({why})"
    )


def _no_room(why: str) -> DeployFailed:
    return DeployFailed(FailureCause.NO_CAPACITY, f"{why}. Deploy again in a while.")
