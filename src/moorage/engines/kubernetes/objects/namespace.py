"""Makes a wallet's namespace, with what bounds all that runs in it.

The gateway's own capacity comes first: a quota is what holds where the gateway errs, or where
somebody else has its credentials.
"""

from dataclasses import dataclass

from moorage.engines.engine import Limits
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    OWNER_ANNOTATION,
    WALLET_LABEL,
    wallet_hash,
    wallet_namespace,
)
from moorage.engines.kubernetes.objects.network import Networks, network_policies
from moorage.engines.kubernetes.objects.pod import Manifest, secret

_SECURITY = "pod-security.kubernetes.io"
_NAME = "moorage"  # of the ResourceQuota and of the LimitRange
_VERSIONS = 2  # of an app at the same time: the new one starts beside the old one
_VOLUME_PODS = 1  # of what fills or reads a volume
_PULL_TYPE = "kubernetes.io/dockerconfigjson"
_PULL_KEY = ".dockerconfigjson"


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What a wallet may have in the cluster at the same time."""

    apps: int
    app: Limits  # of one app, its volume included


def namespace_objects(
    quota: Quota, networks: Networks, *, prefix: str, owner: str, instance: str
) -> list[Manifest]:
    """Returns a wallet's namespace and what bounds it, in the order in which to apply them."""
    name = wallet_namespace(prefix, owner)
    labels = {INSTANCE_LABEL: instance, WALLET_LABEL: wallet_hash(owner)}
    return [
        namespace(name, labels=labels, owner=owner),
        *network_policies(networks, name, labels),
        _resource_quota(quota, name, labels),
        _limit_range(quota, name, labels),
    ]


def namespace(name: str, *, labels: dict[str, str], owner: str = "") -> Manifest:
    """Returns a namespace in which only restricted pods run."""
    metadata: Manifest = {
        "name": name,
        "labels": {
            **labels,
            f"{_SECURITY}/enforce": "restricted",
            f"{_SECURITY}/enforce-version": "latest",
        },
    }
    if owner:
        metadata["annotations"] = {OWNER_ANNOTATION: owner}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def pull_secret(name: str, namespace: str, *, instance: str, docker_config: str) -> Manifest:
    """Returns the Secret by which nodes fetch images; `docker_config` is a config.json's text.

    Whoever may read Secrets of the namespace can read it: give it an account that only pulls.
    """
    made = secret(
        name, namespace, labels={INSTANCE_LABEL: instance}, values={_PULL_KEY: docker_config}
    )
    return {**made, "type": _PULL_TYPE}


def _resource_quota(quota: Quota, namespace: str, labels: dict[str, str]) -> Manifest:
    app, pods = quota.app, quota.apps * _VERSIONS + _VOLUME_PODS
    amounts = {
        "cpu": f"{pods * app.cpu_millis}m",
        "memory": str(pods * app.memory_bytes),
        "ephemeral-storage": str(pods * app.disk_bytes),
    }
    hard = {
        "pods": str(pods),
        **{f"{kind}.{name}": it for kind in ("requests", "limits") for name, it in amounts.items()},
        "persistentvolumeclaims": str(quota.apps),
        "requests.storage": str(quota.apps * app.volume_bytes),
        "services.loadbalancers": "0",
        "services.nodeports": "0",
    }
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": _NAME, "namespace": namespace, "labels": labels},
        "spec": {"hard": hard},
    }


def _limit_range(quota: Quota, namespace: str, labels: dict[str, str]) -> Manifest:
    """Returns what one container may have, and gets if its pod says nothing."""
    app = quota.app
    default = {
        "cpu": f"{app.cpu_millis}m",
        "memory": str(app.memory_bytes),
        "ephemeral-storage": str(app.disk_bytes),
    }
    limits: list[Manifest] = [
        {
            "type": "Container",
            "default": default,
            "defaultRequest": dict(default),
            "max": dict(default),
        }
    ]
    if app.volume_bytes:
        storage = {"storage": str(app.volume_bytes)}
        limits.append({"type": "PersistentVolumeClaim", "max": storage})
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": _NAME, "namespace": namespace, "labels": labels},
        "spec": {"limits": limits},
    }
