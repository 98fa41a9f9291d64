"""Makes a wallet's namespace, with what bounds all that runs in it.

The gateway's own capacity comes first: a quota is what holds where the gateway errs, or where
somebody else has its credentials.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, collapse_addresses, ip_network

from moorage.engines.engine import Limits
from moorage.engines.isolation.firewall import NOT_PUBLIC
from moorage.engines.kubernetes.objects.labels import (
    GATEWAY_LABELS,
    INSTANCE_LABEL,
    OWNER_ANNOTATION,
    PART_LABEL,
    WALLET_LABEL,
    Part,
    wallet_hash,
    wallet_namespace,
)
from moorage.engines.kubernetes.objects.pod import Manifest, secret
from moorage.engines.kubernetes.volume_program import PORT

_MAIL_PORTS = (25, 465, 587)
_LAST_PORT = 65_535
_DNS_PODS = {"k8s-app": "kube-dns"}
_DNS_NAMESPACE = "kube-system"
_NAMESPACE_NAME = "kubernetes.io/metadata.name"  # a label that the API server gives a namespace


@dataclass(frozen=True, kw_only=True)
class Networks:
    """Where pods may connect, and who may connect to apps and to pods of volumes.

    Networks are CIDRs, IPv4 for `deny`, `allow` and `cluster`; `allow` takes precedence.
    """

    gateway_namespace: str = ""  # of the gateways' own pods; "": they are outside the cluster
    gateway_networks: Sequence[str] = ()  # from where gateways outside the cluster connect
    deny: Sequence[str] = ()  # in addition to NOT_PUBLIC
    allow: Sequence[str] = ()  # although they are private
    resolvers: Sequence[str] = field(default=())  # addresses; empty: the cluster's DNS


def network_policies(networks: Networks, namespace: str, labels: dict[str, str]) -> list[Manifest]:
    """Returns the policies of a namespace."""
    names = _dns(networks.resolvers)
    into_the_world = [names, _public(networks)]
    gateways = _gateways(networks)
    return [
        _policy("deny-all", namespace, labels, pods={}, ingress=[], egress=[]),
        _policy(
            "apps",
            namespace,
            labels,
            pods=_pods_of(Part.APP, Part.SELF_TEST),
            ingress=[{"from": gateways}],
            egress=into_the_world,
        ),
        _policy(
            "volumes",
            namespace,
            labels,
            pods=_pods_of(Part.VOLUME),
            ingress=[{"from": gateways, "ports": [{"protocol": "TCP", "port": PORT}]}],
            egress=[],
        ),
    ]


def _policy(
    name: str,
    namespace: str,
    labels: dict[str, str],
    *,
    pods: Manifest,
    ingress: list[Manifest],
    egress: list[Manifest],
) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": ingress,
            "egress": egress,
        },
    }


def _pods_of(*parts: Part) -> Manifest:
    matching = {"key": PART_LABEL, "operator": "In", "values": [part.value for part in parts]}
    return {"matchExpressions": [matching]}


def _gateways(networks: Networks) -> list[Manifest]:
    peers: list[Manifest] = [{"ipBlock": {"cidr": it}} for it in networks.gateway_networks]
    if networks.gateway_namespace:
        peers.append(
            {
                "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: networks.gateway_namespace}},
                "podSelector": {"matchLabels": dict(GATEWAY_LABELS)},
            }
        )
    return peers


def _dns(resolvers: Sequence[str]) -> Manifest:
    """Returns the rule for port 53 of the resolvers, or of the cluster's DNS pods."""
    peers: list[Manifest] = [
        {"ipBlock": {"cidr": str(ip_network(address))}} for address in resolvers
    ] or [
        {
            "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: _DNS_NAMESPACE}},
            "podSelector": {"matchLabels": dict(_DNS_PODS)},
        }
    ]
    return {"to": peers, "ports": [{"protocol": it, "port": 53} for it in ("UDP", "TCP")]}


def _public(networks: Networks) -> Manifest:
    """Returns the rule for the public internet over IPv4, by all ports but those of mail."""
    denied = _collapsed((*NOT_PUBLIC, *networks.deny))
    peers: list[Manifest] = [{"ipBlock": {"cidr": "0.0.0.0/0", "except": denied}}]
    peers += [{"ipBlock": {"cidr": network}} for network in _collapsed(networks.allow)]
    ports = [
        *({"protocol": "TCP", "port": first, "endPort": last} for first, last in _but_mail()),
        {"protocol": "UDP", "port": 1, "endPort": _LAST_PORT},
    ]
    return {"to": peers, "ports": ports}


def _but_mail() -> Iterable[tuple[int, int]]:
    """Yields the first and the last port of each range between the ports of mail."""
    first = 1
    for port in (*_MAIL_PORTS, _LAST_PORT + 1):
        yield first, port - 1
        first = port + 1


def _collapsed(networks: Iterable[str]) -> list[str]:
    """Returns networks without those that others contain; IPv6 is not reached in any case."""
    parsed = [ip_network(network, strict=False) for network in networks]
    return [str(it) for it in collapse_addresses(n for n in parsed if isinstance(n, IPv4Network))]


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
