"""Checks the cluster that apps are to run in: its version, and what it lets the gateway do."""

import re
from collections.abc import Sequence

from moorage.errors import ClusterUnavailable, ConfigurationInvalid
from moorage.gateway.platform import isolation
from moorage.operate.check.finding import Finding
from moorage.settings import Settings

OLDEST_KUBERNETES = (1, 31)
_ENGINE = "kubernetes"
_GRANT = "kubectl apply --filename ops/kubernetes/base/permissions.yaml"
_VERSION = re.compile(r"v(\d+)\.(\d+)")


async def check_cluster(settings: Settings) -> list[Finding]:
    """Returns what is found out without changing anything; nothing if apps run elsewhere."""
    if all(kind.name != _ENGINE for kind in isolation.kinds(settings)):
        return []
    # lightkube and what it needs are imported only where a cluster is used.
    from moorage.engines.kubernetes.cluster.client import (  # noqa: PLC0415
        Cluster,
        Refused,
        read_configuration,
    )
    from moorage.engines.kubernetes.opening import missing_permissions  # noqa: PLC0415

    try:
        cluster = Cluster(read_configuration(file=settings.kubernetes_config, context=""))
        try:
            return judge_cluster(await cluster.version(), await missing_permissions(cluster))
        finally:
            await cluster.close()
    except (ClusterUnavailable, ConfigurationInvalid, Refused) as error:
        remedy = "set kubernetes_config right, or run it as a pod"
        return [Finding("cluster", ok=False, detail=str(error), remedy=remedy)]


def judge_cluster(version: str, missing: Sequence[str]) -> list[Finding]:
    """Returns the findings about a cluster of this version and its missing permissions."""
    found = _VERSION.match(version)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    known = Finding("cluster", ok=True, detail=f"Kubernetes {version}")
    if numbers < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        remedy = f"upgrade the cluster to Kubernetes {oldest} or later"
        known = Finding("cluster", ok=False, detail=f"Kubernetes {version}", remedy=remedy)
    lacking = [Finding("permission", ok=False, detail=it, remedy=_GRANT) for it in missing]
    granted = Finding("permissions", ok=True, detail="the gateway may do what it must")
    return [known, *(lacking or [granted])]
