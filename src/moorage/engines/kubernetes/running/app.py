"""Begins, runs, stops and removes one app: its record, its Secret, Deployment and Service."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from functools import partial

from moorage.engines.engine import (
    AppExit,
    Incident,
    IncidentKind,
    Instance,
    InstanceSpec,
)
from moorage.engines.failure import volume_lost
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.images.recipe import environment
from moorage.engines.kubernetes.cluster.client import (
    CONFLICT,
    DEPLOYMENTS,
    FORBIDDEN,
    PODS,
    SECRETS,
    SERVICES,
    NotFound,
    Refused,
)
from moorage.engines.kubernetes.cluster.pods import Pod, newest
from moorage.engines.kubernetes.cluster.shared import Shared
from moorage.engines.kubernetes.objects.app import App, app_objects
from moorage.engines.kubernetes.objects.labels import app_name, wallet_hash
from moorage.engines.kubernetes.running.record import Record
from moorage.engines.kubernetes.running.starting import Patience, Starting
from moorage.errors import ClusterUnavailable, DeployFailed, FailureCause
from moorage.planning.plan import Stack
from moorage.records.deployment import LogKind
from moorage.threads import in_thread

_ONE_BYTES = 100_000  # the kernel takes 131,072 in one, and some 2 MB in all
_ALL_BYTES = 500 * 1024  # a Secret takes 1 MiB in base64


def require_short(variables: Mapping[str, str], *, setting: str, cause: FailureCause) -> None:
    """Raises DeployFailed with `cause`, naming the setting, for variables that are too long."""
    sizes = [len(name) + len(value.encode()) for name, value in variables.items()]
    if max(sizes, default=0) > _ONE_BYTES or sum(sizes) > _ALL_BYTES:
        raise DeployFailed(
            cause,
            f"{setting} are too long: {_ONE_BYTES:,} bytes in one, and {_ALL_BYTES:,} in all are "
            "taken",
        )


_PROBE_SECONDS = 60  # that the kubelet probes after the gateway has given up
_BEYOND_GRACE_SECONDS = 30.0  # that a node may take to end a pod, after the app's own time
_SCALE_TRIES = 10

logger = logging.getLogger(__name__)


async def begin(shared: Shared, deployment_id: str, *, owner: str, beside: Record | None) -> Record:
    """Begins a deployment, in stage BUILDING: its logs, and its record, which it returns.

    Its namespace is the owner's, or that of the deployment `beside` it. Raises ClusterUnavailable,
    ContentUnavailable, Refused.
    """
    await shared.logs.adopt(deployment_id)
    logs = shared.logs.of(deployment_id)
    if not logs.is_empty(LogKind.BUILD):
        await in_thread(logs.note, LogKind.BUILD, "what was begun before is begun again")
    if beside is not None:
        return await shared.store(_begun(deployment_id, beside.namespace, beside.wallet))
    async with shared.namespaces.made(owner) as namespace:
        return await shared.store(_begun(deployment_id, namespace, wallet_hash(owner)))


def _begun(deployment_id: str, namespace: str, wallet: str) -> Record:
    return Record(
        deployment_id=deployment_id, namespace=namespace, wallet=wallet, stage=Stage.BUILDING
    )


async def launch(
    shared: Shared, record: Record, spec: InstanceSpec, *, timeout_seconds: float
) -> Record:
    """Makes the cluster run the app, in a new pod if an earlier one has ended.

    Returns the record of an app that is started. Raises DeployFailed, ClusterUnavailable, Refused.
    """
    variables = environment(spec)
    require_short(variables, setting="settings.runEnvs", cause=FailureCause.CRASHED)
    await _remove_ended(shared, record)
    if not spec.listens and all(pod.is_ending for pod in shared.observed.pods(spec.deployment_id)):
        await _wait_ended(shared, spec.deployment_id)  # the next one has its name
    app = App(
        deployment_id=record.deployment_id,
        owner=spec.owner,
        namespace=record.namespace,
        image=record.image,
        start=spec.line,
        port=spec.plan.port,
        limits=spec.limits,
        listen_seconds=round(timeout_seconds) + _PROBE_SECONDS,
        environment=variables,
        volume=spec.volume,
        is_own_image=spec.plan.stack is Stack.DOCKERFILE,
        log=None if spec.listens else spec.log,
    )
    try:
        async with shared.namespaces.made(spec.owner):
            await require_volume(shared, spec)  # the namespace may have been made again just now
            record = await shared.store(record.started())
            if spec.volume is not None:
                await shared.claims.ensure(
                    spec.volume,
                    owner=spec.owner,
                    namespace=record.namespace,
                    size_bytes=spec.limits.volume_bytes,
                    grows=spec.resizes,
                )
            *first, last = app_objects(app, shared.pods)
            await asyncio.gather(*map(shared.cluster.apply, first))
            await shared.cluster.apply(last)
    except Refused as error:
        raise _not_taken(error) from error
    return record


async def require_volume(shared: Shared, spec: InstanceSpec) -> None:
    """Raises DeployFailed for a volume that is gone. Raises ClusterUnavailable, Refused."""
    if spec.volume is None or spec.makes_volume:
        return
    if await shared.claims.find(spec.volume) is None:
        shared.incidents.put_nowait(Incident(spec.deployment_id, IncidentKind.VOLUME_LOST))
        raise volume_lost()


async def wait_ready(
    shared: Shared,
    record: Record,
    spec: InstanceSpec,
    *,
    timeout_seconds: float,
    patience: Patience,
) -> Instance:
    """Waits until the app listens. Raises DeployFailed, ClusterUnavailable.

    How it has ended is recorded: the kubelet may have started it again, to be ended by the gateway.
    """
    name = app_name(record.deployment_id)

    async def last_words(has_ended: bool) -> str:  # noqa: FBT001 (one question)
        if has_ended:
            await shared.followers.drained(record.deployment_id)
        logs = shared.logs.of(record.deployment_id)
        return await in_thread(logs.tail, LogKind.RUNTIME)

    starting = Starting(
        spec,
        shared.observed,
        timeout_seconds=timeout_seconds,
        patience=patience,
        clock=shared.clock,
        deployment=partial(shared.cluster.get, DEPLOYMENTS, name, namespace=record.namespace),
        last_words=last_words,
    )
    try:
        return await starting.wait()
    except DeployFailed:
        with contextlib.suppress(ClusterUnavailable, Refused):  # why it failed says more
            pod = newest(shared.observed.pods(record.deployment_id))
            if pod is not None and pod.last_end is not None:
                await shared.store(record.ended(pod.last_end))
        raise


async def halt(shared: Shared, record: Record) -> None:
    """Ends the app, waits until it has ended, and records how. Raises ClusterUnavailable."""
    deployment_id = record.deployment_id
    name = app_name(deployment_id)
    await shared.observed.refresh(deployment_id)
    before = newest(shared.observed.pods(deployment_id))
    try:
        await _scale_to_none(shared, name, record.namespace)
    except NotFound:
        if before is None:
            return
    if before is not None and before.log is not None:
        await shared.cluster.delete(PODS, before.name, namespace=before.namespace)
    ended = await _wait_ended(shared, deployment_id)
    await shared.followers.drained(deployment_id)
    await shared.logs.publish(deployment_id)
    current = shared.observed.record(deployment_id)
    if current is not None and (ended or before) is not None and not current.has_ended:
        how = next((pod.last_end for pod in (ended, before) if pod and pod.last_end), None)
        await shared.store(current.ended(how or AppExit(exit_code=None, out_of_memory=False)))


async def remove_objects(shared: Shared, record: Record) -> None:
    """Removes the app's objects; it has ended. Raises ClusterUnavailable, Refused."""
    name, namespace = app_name(record.deployment_id), record.namespace
    await asyncio.gather(
        *(
            shared.cluster.delete(it, name, namespace=namespace)
            for it in (DEPLOYMENTS, SERVICES, SECRETS)
        )
    )


async def _remove_ended(shared: Shared, record: Record) -> None:
    """Removes pods whose app has ended, so that a new one is started at once."""
    for pod in shared.observed.pods(record.deployment_id):
        if not pod.is_ending and (pod.is_over or (pod.last_end and not pod.is_running)):
            await shared.followers.drained(record.deployment_id)
            seen = {"uid": pod.uid}
            await shared.cluster.delete(PODS, pod.name, namespace=pod.namespace, seen=seen)
            await shared.observed.refresh(record.deployment_id)


async def _scale_to_none(shared: Shared, name: str, namespace: str) -> None:
    """Takes a Deployment's pods away, unless somebody changes what it should be at the same time.

    Raises ClusterUnavailable then, else NotFound and Refused.
    """
    seen = found = await shared.cluster.get(DEPLOYMENTS, name, namespace=namespace)
    for _ in range(_SCALE_TRIES):
        if found["metadata"]["generation"] != seen["metadata"]["generation"]:
            break
        try:
            await shared.cluster.scale(found, replicas=0)
        except Refused as error:  # the state of its pods may have changed alone
            if error.reason != CONFLICT:
                raise
        else:
            return
        found = await shared.cluster.get(DEPLOYMENTS, name, namespace=namespace)
    raise ClusterUnavailable(f"The Deployment {name} was changed while it was to be stopped.")


async def _wait_ended(shared: Shared, deployment_id: str) -> Pod | None:
    """Waits until the app has no pod; returns what was known last of one whose app has ended.

    A node that does not answer does not end its pods: then it is not waited for them for ever.
    """
    clock, last = shared.clock, None
    limit_seconds = shared.pods.stop_seconds + _BEYOND_GRACE_SECONDS
    deadline = clock.monotonic_seconds() + limit_seconds
    while pods := shared.observed.pods(deployment_id):
        last = next((pod for pod in pods if pod.last_end is not None), last)
        if clock.monotonic_seconds() > deadline:
            logger.warning("pods of deployment %s do not end", deployment_id)
            return last
        if not await shared.observed.changes(deployment_id, seconds=1.0):
            await shared.observed.refresh(deployment_id)
    return last


def _not_taken(error: Refused) -> Exception:
    """Returns the failure of an app whose objects the cluster refuses."""
    if error.reason != FORBIDDEN:
        return ClusterUnavailable(f"The cluster refuses what an app needs: {error}")
    return DeployFailed(
        FailureCause.NO_CAPACITY,
        f"the cluster does not take the app: {error}. Deploy again in a while.",
    )
