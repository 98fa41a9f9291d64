"""What the pods of apps, builds and the self-test have in common.

Every one satisfies the Pod Security Standard `restricted`, which their namespaces enforce:
https://kubernetes.io/docs/concepts/security/pod-security-standards/.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorage.engines.engine import Limits

Manifest = dict[str, Any]
"""An object as the API server takes it, in JSON."""

USER = 1000
MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class PodOptions:
    """What is the same for all pods of a gateway."""

    instance: str  # the label's value
    runtime_class: str = ""  # such as gvisor or kata; "": the nodes' own
    pull_secret: str = ""  # the name of the Secret for the images' registry; "": none is needed
    user_namespaces: bool = False  # user ids of the pod are none of the node's
    resolvers: tuple[str, ...] = ()  # name servers' addresses; empty: the cluster's own
    stop_seconds: int = 5  # between SIGTERM and SIGKILL


def restricted_pod(options: PodOptions, *, user: int | None = USER) -> Manifest:
    """Returns the part of a pod's spec that isolates it; without containers and volumes.

    With `user` None it is the image's, which is refused if that is root.
    """
    owner = {} if user is None else {"runAsUser": user, "runAsGroup": user}
    spec: Manifest = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # variables with the addresses of services
        "hostname": "app",
        "securityContext": {
            "runAsNonRoot": True,
            **owner,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": options.stop_seconds,
        **_name_servers(options.resolvers),
    }
    if options.user_namespaces:
        spec["hostUsers"] = False
    if options.runtime_class:
        spec["runtimeClassName"] = options.runtime_class
    if options.pull_secret:
        spec["imagePullSecrets"] = [{"name": options.pull_secret}]
    return spec


def _name_servers(resolvers: tuple[str, ...]) -> Manifest:
    """Returns where names are looked up; never first among the names of the cluster's services."""
    options = [{"name": "ndots", "value": "1"}]
    if not resolvers:
        return {"dnsPolicy": "ClusterFirst", "dnsConfig": {"options": options}}
    config = {"nameservers": list(resolvers), "options": options}
    return {"dnsPolicy": "None", "dnsConfig": config}


def restricted_container() -> Manifest:
    """Returns the `securityContext` of every container."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }


def resources(limits: Limits, *, helps: bool = False) -> Manifest:
    """Returns the `resources` of a container: it is promised all that it may use.

    One that only `helps` the gateway for a moment is promised next to no processor, so that it runs
    where apps have all. Processes are limited by the nodes alone (`podPidsLimit` of the kubelet).
    """
    amounts = {
        "cpu": f"{limits.cpu_millis}m",
        "memory": str(limits.memory_bytes),
        "ephemeral-storage": str(limits.disk_bytes),
    }
    return {"requests": amounts | {"cpu": "5m"} if helps else amounts, "limits": dict(amounts)}


def in_memory(name: str, *, size_bytes: int) -> Manifest:
    """Returns a volume of a pod that counts as its containers' memory."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": str(size_bytes)}}


def on_disk(name: str, *, size_bytes: int) -> Manifest:
    """Returns a volume of a pod that counts as its ephemeral storage."""
    return {"name": name, "emptyDir": {"sizeLimit": str(size_bytes)}}


def mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    """Returns the entry of `volumeMounts` for a volume."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def on_one_node(labels: Mapping[str, str]) -> Manifest:
    """Returns the affinity by which all pods with these labels run on one node.

    A volume is on one node, and the old version of a project runs on beside the new one until that
    is healthy.
    """
    term = {"labelSelector": {"matchLabels": dict(labels)}, "topologyKey": "kubernetes.io/hostname"}
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def literal(*words: str) -> list[str]:
    """Returns a container's `command` that runs these words; Kubernetes replaces `$(NAME)`."""
    return [word.replace("$", "$$") for word in words]


def secret(
    name: str, namespace: str, *, labels: Mapping[str, str], values: Mapping[str, str]
) -> Manifest:
    """Returns a Secret.

    Not by `stringData`, of which the API server does not know who has applied it: a value that is
    left out of a later one would stay.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in values.items()},
    }
