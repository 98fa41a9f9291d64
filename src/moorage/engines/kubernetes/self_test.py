"""Finds out, by a pod like those of apps, whether the cluster isolates them."""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import msgspec

from moorage.clock import Clock
from moorage.engines.engine import Limits
from moorage.engines.isolation.bubblewrap import TMP
from moorage.engines.kubernetes.cluster.client import NAMESPACES, NODES, PODS, Cluster, Refused
from moorage.engines.kubernetes.cluster.pods import unscheduled
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    PART_LABEL,
    Part,
    self_test_namespace,
)
from moorage.engines.kubernetes.objects.namespace import (
    Networks,
    namespace,
    network_policies,
    pull_secret,
)
from moorage.engines.kubernetes.objects.pod import (
    MIB,
    Manifest,
    PodOptions,
    in_memory,
    literal,
    mount,
    resources,
    restricted_container,
    restricted_pod,
)
from moorage.errors import ClusterUnavailable, IsolationMissing

CONTAINER = "self-test"
_LIMITS = Limits(memory_bytes=128 * MIB, cpu_millis=500, pids=32, disk_bytes=64 * MIB)


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """One run of it."""

    name: str  # of the pod, and the end of its namespace's; another one each time
    prefix: str  # of the gateway's namespaces
    image: str  # Moorage's own
    command: Sequence[str]  # prints what it finds, and ends
    timeout_seconds: int


def self_test_objects(
    test: SelfTest, networks: Networks, options: PodOptions, *, docker_config: str = ""
) -> list[Manifest]:
    """Returns the namespace, its policies and the pod, in the order in which to apply them."""
    name = self_test_namespace(test.prefix, test.name)
    labels = {INSTANCE_LABEL: options.instance, PART_LABEL: Part.SELF_TEST.value}
    pod: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": test.name, "namespace": name, "labels": labels},
        "spec": {
            **restricted_pod(options),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": test.timeout_seconds,
            "containers": [
                {
                    "name": CONTAINER,
                    "image": test.image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": literal(*test.command),
                    "resources": resources(_LIMITS, helps=True),
                    "securityContext": restricted_container(),
                    "volumeMounts": [mount("tmp", TMP)],
                }
            ],
            "volumes": [in_memory("tmp", size_bytes=16 * MIB)],
        },
    }
    pulls = {"instance": options.instance, "docker_config": docker_config}
    secrets = [pull_secret(options.pull_secret, name, **pulls)] if docker_config else []
    policies = network_policies(networks, name, labels)
    return [namespace(name, labels=labels), *policies, *secrets, pod]


COMMAND = ("python3", "-m", "moorage.engines.kubernetes.running.probe")
_POLL_SECONDS = 0.25
_OVER = ("Succeeded", "Failed")
_FILTERS = "2"  # SECCOMP_MODE_FILTER
_SILENCE_SECONDS = 20.0


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe prints."""

    uid: int
    has_token: bool
    writes_root: bool
    kernel: str
    reached: list[str]
    cap_eff: str = msgspec.field(name="CapEff")
    cap_bnd: str = msgspec.field(name="CapBnd")
    no_new_privs: str = msgspec.field(name="NoNewPrivs")
    seccomp: str = msgspec.field(name="Seccomp")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried, and for how long at most."""

    prefix: str
    image: str
    networks: Networks
    options: PodOptions
    docker_config: str = ""  # by which nodes fetch the image; "": they need none
    timeout_seconds: int = 120


class NoNode(IsolationMissing):
    """No node takes the self-test's pod."""


async def require_isolation(cluster: Cluster, trial: Trial, clock: Clock) -> None:
    """Raises IsolationMissing unless a pod is as isolated as apps must be.

    It has a namespace of its own, which goes with it; one of a test that was interrupted goes too.
    """
    labels = {INSTANCE_LABEL: trial.options.instance, PART_LABEL: Part.SELF_TEST.value}
    for left in (await cluster.list(NAMESPACES, labels=labels)).items:
        await cluster.delete(NAMESPACES, left["metadata"]["name"])
    test = SelfTest(
        name=f"self-test-{secrets.token_hex(4)}",
        prefix=trial.prefix,
        image=trial.image,
        command=COMMAND,
        timeout_seconds=trial.timeout_seconds,
    )
    namespace = self_test_namespace(trial.prefix, test.name)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.delete, NAMESPACES, namespace)
        try:
            for manifest in self_test_objects(
                test, trial.networks, trial.options, docker_config=trial.docker_config
            ):
                await cluster.apply(manifest)
        except Refused as error:
            raise IsolationMissing((f"the cluster refuses a restricted pod: {error}",)) from error
        pod = await _ended(cluster, namespace, test, clock)
        found = await _findings(cluster, namespace, test.name)
    missing = lacking(found, is_virtual=bool(trial.options.runtime_class))
    if trial.options.runtime_class and found is not None:
        nodes = (await cluster.list(NODES)).items
        missing += unproven(found, pod, nodes, runtime_class=trial.options.runtime_class)
    if missing:
        raise IsolationMissing(tuple(missing))


def lacking(found: Findings | None, *, is_virtual: bool) -> list[str]:
    """Returns a sentence, with what repairs it, for each way in which the pod is not isolated.

    A pod on a kernel of its own (`is_virtual`) is judged by its user and its network alone.
    """
    if found is None:
        return ["the self-test's pod printed nothing: see its image, kubernetes_own_image"]
    missing = [
        f"pods reach {target}: use a network plugin that enforces NetworkPolicy"
        for target in found.reached
    ]
    if found.uid == 0:
        missing.append("pods run as root: let nothing change the pods of Moorage's namespaces")
    if found.has_token:
        missing.append("pods have a token of the cluster's API: let nothing mount one")
    if found.writes_root:
        missing.append("pods write to their root: let nothing change readOnlyRootFilesystem")
    if is_virtual:
        return missing
    if found.no_new_privs != "1":
        missing.append("pods may gain privileges: let nothing change allowPrivilegeEscalation")
    if int(found.cap_eff or "0", 16) or int(found.cap_bnd or "0", 16):
        missing.append("pods have capabilities: let nothing add to what is dropped")
    if found.seccomp != _FILTERS:
        missing.append("pods' system calls are not filtered: use nodes with seccomp")
    return missing


def unproven(
    found: Findings, pod: Manifest, nodes: Iterable[Manifest], *, runtime_class: str
) -> list[str]:
    """Returns what speaks against a runtime class: a pod of it sees its node's own kernel."""
    name = pod.get("spec", {}).get("nodeName")
    node = next((it for it in nodes if it["metadata"]["name"] == name), {})
    kernel = node.get("status", {}).get("nodeInfo", {}).get("kernelVersion")
    if found.kernel != kernel:
        return []
    return [
        f"runtime class {runtime_class} does not isolate: its pods run on the kernel of node {name}"
    ]


async def _ended(cluster: Cluster, namespace: str, test: SelfTest, clock: Clock) -> Manifest:
    """Waits for the pod's end; returns it. Raises IsolationMissing if that takes too long."""
    deadline = clock.monotonic_seconds() + test.timeout_seconds
    while True:
        pod = await cluster.get(PODS, test.name, namespace=namespace)
        if pod.get("status", {}).get("phase") in _OVER:
            return pod
        if clock.monotonic_seconds() > deadline:
            raise (NoNode if unscheduled(pod) else IsolationMissing)((_late(pod, test),))
        await asyncio.sleep(_POLL_SECONDS)


def _late(pod: Manifest, test: SelfTest) -> str:
    """Returns why the self-test's pod did not end in time, as far as the cluster says."""
    status = pod.get("status", {})
    reasons = [
        it["state"]["waiting"].get("message") or it["state"]["waiting"].get("reason", "")
        for it in status.get("containerStatuses") or ()
        if it.get("state", {}).get("waiting")
    ]
    why = "; ".join(filter(None, [*reasons, unscheduled(pod)])) or "it does not say why"
    return f"the self-test's pod did not end within {test.timeout_seconds} s: {why}"


async def _findings(cluster: Cluster, namespace: str, pod: str) -> Findings | None:
    """Returns the last line that the probe printed, if it is one."""
    params = {"container": CONTAINER}
    try:
        async with cluster.log(
            namespace=namespace, pod=pod, params=params, silence_seconds=_SILENCE_SECONDS
        ) as chunks:
            printed = b"".join([chunk async for chunk in chunks])
        return msgspec.json.decode(printed.strip().rpartition(b"\n")[2], type=Findings)
    except (Refused, ClusterUnavailable, msgspec.DecodeError):
        return None
