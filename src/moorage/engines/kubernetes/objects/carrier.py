"""Makes the pod in which a program of Moorage's own fills a volume, or reads it, and its Secret.

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
    carrier_name,
    volume_name,
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

CONTAINER = "carrier"
URL = "MOORAGE_URL"  # the variable with where the archive is fetched, or left
_STOP_SECONDS = 1


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """One run."""

    volume_id: str
    wallet: str  # its hash
    namespace: str
    image: str  # Moorage's own
    command: Sequence[str]
    url: str = ""  # with a token
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


def carrier_objects(carrier: Carrier, options: PodOptions) -> list[Manifest]:
    """Returns the Secret and the pod, in the order in which to apply them."""
    name, labels = carrier_name(carrier.volume_id), carrier.labels(options.instance)
    return [
        secret(name, carrier.namespace, labels=labels, values={URL: carrier.url}),
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": carrier.namespace, "labels": labels},
            "spec": _spec(carrier, options),
        },
    ]


def _spec(carrier: Carrier, options: PodOptions) -> Manifest:
    claim = {"claimName": volume_name(carrier.volume_id)}
    return {
        **restricted_pod(options, user=carrier.user),
        "restartPolicy": "Never",
        "activeDeadlineSeconds": carrier.timeout_seconds,
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "affinity": on_one_node({VOLUME_LABEL: carrier.volume_id}),
        "containers": [_container(carrier)],
        "volumes": [{"name": "data", "persistentVolumeClaim": claim}],
    }


def _container(carrier: Carrier) -> Manifest:
    reference = {"name": carrier_name(carrier.volume_id), "key": URL}
    return {
        "name": CONTAINER,
        "image": carrier.image,
        "imagePullPolicy": "IfNotPresent",
        "command": literal(*carrier.command),
        "env": [{"name": URL, "valueFrom": {"secretKeyRef": reference}}],
        "resources": resources(carrier.limits),
        "securityContext": restricted_container(),
        "volumeMounts": [mount("data", DATA, read_only=carrier.reads)],
    }
