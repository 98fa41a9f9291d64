"""The labels and names of everything that the gateway makes in a cluster.

A deployment's objects are found by label across namespaces; each name follows from an id, so that
an object is applied again rather than made twice.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum

INSTANCE_LABEL = "moorage.dev/instance"  # the gateway's, so that two can share a cluster
WALLET_LABEL = "moorage.dev/wallet"  # a hash: see `wallet_hash`
DEPLOYMENT_LABEL = "moorage.dev/deployment"
VOLUME_LABEL = "moorage.dev/volume"
PART_LABEL = "moorage.dev/part"
LOG_LABEL = "moorage.dev/log"  # where what a pod prints goes, of one that does not listen

OWNER_ANNOTATION = "moorage.dev/owner"  # the wallet's address, of its namespace
GATEWAY_LABELS: Mapping[str, str] = {
    "app.kubernetes.io/name": "moorage",
    "app.kubernetes.io/component": "gateway",
}
"""Of the gateways' own pods where they run in the cluster; see `ops/kubernetes`."""

_HASH_LENGTH = 16


class Part(StrEnum):
    """What an object is for."""

    APP = "app"
    SELF_TEST = "self-test"
    RECORD = "record"
    VOLUME = "volume"


def wallet_hash(owner: str) -> str:
    """Returns the first 16 hex digits of the SHA-256 of a wallet's address, in lower case."""
    return hashlib.sha256(owner.lower().encode()).hexdigest()[:_HASH_LENGTH]


def wallet_namespace(prefix: str, owner: str) -> str:
    """Returns the name of a wallet's namespace."""
    return f"{prefix}-{wallet_hash(owner)}"


def self_test_namespace(prefix: str, test: str) -> str:
    """Returns the name of the namespace in which one self-test tries the isolation."""
    return f"{prefix}-{test}"


def app_name(deployment_id: str) -> str:
    """Returns the name of an app's Deployment, Secret and Service."""
    return f"{Part.APP}-{deployment_id}"


def record_name(deployment_id: str) -> str:
    """Returns the name of the ConfigMap that says what was built."""
    return f"{Part.RECORD}-{deployment_id}"


def volume_name(volume_id: str) -> str:
    """Returns the name of a volume's claim."""
    return f"data-{volume_id}"


def volume_pod_name(volume_id: str) -> str:
    """Returns the name of the pod that fills or reads a volume, and of its Secret."""
    return f"{Part.VOLUME}-{volume_id}"


def selector(labels: Mapping[str, str]) -> str:
    """Returns the label selector of a list or watch request: `a=1,b=2`."""
    return ",".join(f"{name}={value}" for name, value in labels.items())


def deployment_labels(
    instance: str, *, owner: str, deployment_id: str, part: Part
) -> dict[str, str]:
    """Returns the labels of a deployment's objects."""
    return {
        INSTANCE_LABEL: instance,
        WALLET_LABEL: wallet_hash(owner),
        DEPLOYMENT_LABEL: deployment_id,
        PART_LABEL: part,
    }
