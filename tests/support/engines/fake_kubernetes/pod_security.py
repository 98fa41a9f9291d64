"""What the Pod Security Standard `restricted` finds in a pod, in its admission's words."""

from collections.abc import Iterator

from support.engines.fake_kubernetes.resources import Manifest

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"}
VOLUMES |= {"projected", "secret", "image"}


def violations(spec: Manifest) -> Iterator[str]:
    """Each rule that the pod breaks."""
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    contexts = {c["name"]: c.get("securityContext", {}) for c in containers}
    of_pod = spec.get("securityContext", {})
    if any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host namespaces"
    if any(context.get("privileged") for context in contexts.values()):
        yield "privileged"
    if any("hostPort" in port for c in containers for port in c.get("ports", [])):
        yield "hostPort"
    unlike = [v["name"] for v in spec.get("volumes", []) if not VOLUMES & set(v)]
    if unlike:
        yield f"restricted volume types (volumes {unlike})"
    if any(context.get("allowPrivilegeEscalation") is not False for context in contexts.values()):
        yield "allowPrivilegeEscalation != false"
    if any(not _drops_all(context) for context in contexts.values()):
        yield "unrestricted capabilities"
    if any(
        context.get("runAsNonRoot", of_pod.get("runAsNonRoot")) is not True
        for context in contexts.values()
    ):
        yield "runAsNonRoot != true"
    if 0 in {of_pod.get("runAsUser"), *(context.get("runAsUser") for context in contexts.values())}:
        yield "runAsUser=0"
    if any(not _is_filtered(context, of_pod) for context in contexts.values()):
        yield "seccompProfile"


def _drops_all(context: Manifest) -> bool:
    capabilities = context.get("capabilities", {})
    kept = set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}
    return "ALL" in capabilities.get("drop", []) and not kept


def _is_filtered(context: Manifest, of_pod: Manifest) -> bool:
    profile = context.get("seccompProfile") or of_pod.get("seccompProfile") or {}
    return profile.get("type") in {"RuntimeDefault", "Localhost"}
