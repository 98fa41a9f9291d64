"""The kinds of objects that the gateway uses, and where the API has them."""

from dataclasses import dataclass

from moorage.engines.kubernetes.objects.pod import Manifest


@dataclass(frozen=True)
class Resource:
    """A kind of object, and where the API has it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "") -> str:
        """Returns the path of one object, of those of a namespace, or of all."""
        root = "apis" if "/" in self.api_version else "api"
        within = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"/{root}/{self.api_version}{within}/{self.plural}" + (f"/{name}" if name else "")


NAMESPACES = Resource("v1", "Namespace", "namespaces", namespaced=False)
NODES = Resource("v1", "Node", "nodes", namespaced=False)
PODS = Resource("v1", "Pod", "pods")
SECRETS = Resource("v1", "Secret", "secrets")
SERVICES = Resource("v1", "Service", "services")
CONFIG_MAPS = Resource("v1", "ConfigMap", "configmaps")
CLAIMS = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
QUOTAS = Resource("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGES = Resource("v1", "LimitRange", "limitranges")
DEPLOYMENTS = Resource("apps/v1", "Deployment", "deployments")
JOBS = Resource("batch/v1", "Job", "jobs")
NETWORK_POLICIES = Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
ENDPOINT_SLICES = Resource("discovery.k8s.io/v1", "EndpointSlice", "endpointslices")
REVIEWS = Resource(
    "authorization.k8s.io/v1",
    "SelfSubjectAccessReview",
    "selfsubjectaccessreviews",
    namespaced=False,
)
POD_METRICS = Resource("metrics.k8s.io/v1beta1", "PodMetrics", "pods")

_APPLIED = {
    (it.api_version, it.kind): it
    for it in (
        NAMESPACES, PODS, SECRETS, SERVICES, CONFIG_MAPS, CLAIMS, QUOTAS, LIMIT_RANGES,
        DEPLOYMENTS, JOBS, NETWORK_POLICIES,
    )
}  # fmt: skip


def resource_of(manifest: Manifest) -> Resource:
    """Returns where the API has an object that the gateway makes."""
    return _APPLIED[manifest["apiVersion"], manifest["kind"]]
