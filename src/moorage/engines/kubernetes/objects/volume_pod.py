"""Makes the pod in which `volume_program` reads a volume or writes it, and its Secret.

None of a stranger's programs runs in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from moorage.engines.engine import Limits
from moorage.engines.kubernetes.objects.app import DATA
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    PART_LABEL,
    VOLUME_LABEL,
    WALLET_LABEL,
    Part,
    volume_name,
    volume_pod_name,
)
from moorage.engines.kubernetes.objects.pod import (
    USER,
    Manifest,
    PodOptions,
    literal,
    mount,
    on_one_node,
    resources,
    restricted_container,
    restricted_pod,
    secret,
)
from moorage.engines.kubernetes.volume_program import PORT, TOKEN

CONTAINER = "volume"
_STOP_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class VolumePod:
    """One run."""

    volume_id: str
    wallet: str  # its hash
    namespace: str
    image: str  # Moorage's own
    command: Sequence[str]
    token: str  # whoever sends it gets the files, or gives them
    user: int = USER  # whom it runs as
    reads: bool  # and writes nothing: an app may be using the volume
    limits: Limits
    timeout_seconds: int

    def labels(self, instance: str) -> dict[str, str]:
        """The labels of its objects."""
        return {
            INSTANCE_LABEL: instance,
            WALLET_LABEL: self.wallet,
            VOLUME_LABEL: self.volume_id,
            PART_LABEL: Part.VOLUME,
        }


def volume_pod_objects(pod: VolumePod, options: PodOptions) -> list[Manifest]:
    """Returns the Secret and the pod, in the order in which to apply them."""
    name, labels = volume_pod_name(pod.volume_id), pod.labels(options.instance)
    return [
        secret(name, pod.namespace, labels=labels, values={TOKEN: pod.token}),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": pod.namespace, "labels": labels},
            "spec": _spec(pod, options),
        },
    ]


def _spec(pod: VolumePod, options: PodOptions) -> Manifest:
    claim = {"claimName": volume_name(pod.volume_id)}
    return {
        **restricted_pod(options, user=pod.user),
        "restartPolicy": "Never",
        "activeDeadlineSeconds": pod.timeout_seconds,
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "affinity": on_one_node({VOLUME_LABEL: pod.volume_id}),
        "containers": [_container(pod)],
        "volumes": [{"name": "data", "persistentVolumeClaim": claim}],
    }


def _container(pod: VolumePod) -> Manifest:
    reference = {"name": volume_pod_name(pod.volume_id), "key": TOKEN}
    return {
        "name": CONTAINER,
        "image": pod.image,
        "imagePullPolicy": "IfNotPresent",
        "command": literal(*pod.command),
        "env": [{"name": TOKEN, "valueFrom": {"secretKeyRef": reference}}],
        "ports": [{"containerPort": PORT}],
        "resources": resources(pod.limits),
        "securityContext": restricted_container(),
        "volumeMounts": [mount("data", DATA, read_only=pod.reads)],
    }
