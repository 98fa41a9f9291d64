"""Makes the pod that finds out whether the cluster isolates apps, and its namespace.

The pod is in the same policies and the same standard as an app, so that what it can't do, no app
can.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moorage.engines.engine import Limits
from moorage.engines.isolation.bubblewrap import TMP
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    PART_LABEL,
    Part,
    self_test_namespace,
)
from moorage.engines.kubernetes.objects.namespace import namespace
from moorage.engines.kubernetes.objects.network import Networks, network_policies
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


def self_test_objects(test: SelfTest, networks: Networks, options: PodOptions) -> list[Manifest]:
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
                    "resources": resources(_LIMITS),
                    "securityContext": restricted_container(),
                    "volumeMounts": [mount("tmp", TMP)],
                }
            ],
            "volumes": [in_memory("tmp", size_bytes=16 * MIB)],
        },
    }
    return [namespace(name, labels=labels), *network_policies(networks, name, labels), pod]
