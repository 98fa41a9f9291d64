"""What the API server completes in an object, and what it refuses."""

import ipaddress
import re
from collections.abc import Iterator
from decimal import Decimal

from support.engines.fake_kubernetes.faults import Refusal, forbidden, invalid
from support.engines.fake_kubernetes.resources import (
    CLAIMS,
    DEPLOYMENTS,
    LIMIT_RANGES,
    NAMESPACES,
    NETWORK_POLICIES,
    PODS,
    QUOTAS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
    SERVICES,
    STORED,
    Manifest,
    Resource,
)
from support.engines.fake_kubernetes.selection import labels_of, matches
from support.engines.fake_kubernetes.store import Store

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


_UNITS: dict[str, Decimal | int] = {
    "m": Decimal("0.001"),
    "k": 1000,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_UNITS |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "n": Decimal("1e-9")}


def number(quantity: str | float) -> Decimal:
    """How much it is, in cores, bytes or pieces."""
    text = str(quantity)
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            return Decimal(text.removesuffix(unit)) * _UNITS[unit]
    return Decimal(text)


def validate(resource: Resource, thing: Manifest) -> None:
    """Raises Refusal for what manifests of the engine could get wrong."""
    name = thing["metadata"]["name"]
    if resource is CLAIMS:
        storage = thing["spec"]["resources"]["requests"]["storage"]
        if number(storage) <= 0:
            place = "spec.resources[storage]"
            why = f'{place}: Invalid value: "{storage}": must be greater than zero'
            raise invalid(resource, name, why)
    if resource is NETWORK_POLICIES:
        for direction in ("ingress", "egress"):
            for index, rule in enumerate(thing["spec"].get(direction, [])):
                _validate_rule(resource, name, f"spec.{direction}[{index}]", rule)


def _validate_rule(resource: Resource, name: str, place: str, rule: Manifest) -> None:
    for index, port in enumerate(rule.get("ports", [])):
        for key in ("port", "endPort"):
            value = port.get(key, 1)
            if isinstance(value, int) and not 1 <= value <= 65_535:
                where = f"{place}.ports[{index}].{key}: Invalid value: {value}"
                raise invalid(resource, name, f"{where}: must be between 1 and 65535, inclusive")
    for peer in (*rule.get("to", []), *rule.get("from", [])):
        block = peer.get("ipBlock")
        if block is None:
            continue
        try:
            outer = ipaddress.ip_network(block["cidr"])
            inner = [ipaddress.ip_network(text) for text in block.get("except", [])]
        except ValueError as error:
            raise invalid(resource, name, f"{place}: Invalid value: {error}") from error
        for network in inner:
            if network.version != outer.version or not network.subnet_of(outer):  # type: ignore[arg-type]
                words = f"{place}: Invalid value: {network}: must be a strict subset of `cidr`"
                raise invalid(resource, name, words)


TOKEN_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
ENFORCE = "pod-security.kubernetes.io/enforce"
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")


def complete(resource: Resource, thing: Manifest) -> None:
    """Writes the defaults that a client reads back."""
    if resource is PODS:
        _complete_pod(thing["spec"])
        thing.setdefault("status", {"phase": "Pending"})
    elif resource is DEPLOYMENTS:
        _complete_deployment(thing["spec"])
    elif resource is NAMESPACES:
        thing["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = thing[
            "metadata"
        ]["name"]
        thing["spec"] = {"finalizers": ["kubernetes"]}
        thing.setdefault("status", {"phase": "Active"})
    elif resource is SERVICES:
        spec = thing["spec"]
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        for port in spec.get("ports", []):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
    elif resource is CLAIMS:
        thing["spec"].setdefault("volumeMode", "Filesystem")
        thing.setdefault("status", {"phase": "Pending"})
        finalizers = thing["metadata"].setdefault("finalizers", [])
        if "kubernetes.io/pvc-protection" not in finalizers:
            finalizers.append("kubernetes.io/pvc-protection")


def _complete_deployment(spec: Manifest) -> None:
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    _complete_pod(spec["template"]["spec"])


def _complete_pod(spec: Manifest) -> None:
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        container.setdefault("resources", {})
        container.setdefault("imagePullPolicy", "IfNotPresent")
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
        limits = container["resources"].get("limits", {})
        if limits:
            requests = container["resources"].setdefault("requests", {})
            for name, amount in limits.items():
                requests.setdefault(name, amount)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if probe in container:
                for name, default in _PROBE.items():
                    container[probe].setdefault(name, default)


_PROBE = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}


def admit(store: Store, resource: Resource, thing: Manifest) -> None:
    """Raises Refusal if the object may not be created; completes what a LimitRange sets."""
    name, namespace = thing["metadata"]["name"], thing["metadata"].get("namespace", "")
    if not _NAME.match(name) or len(name) > (63 if resource in {NAMESPACES, SERVICES} else 253):
        raise invalid(resource, name, f'metadata.name: Invalid value: "{name}"')
    if resource.namespaced:
        _admit_into(store, resource, name, namespace)
    if resource is PODS:
        _admit_pod(store, thing)
    for quota in store.all(QUOTAS, namespace) if namespace else []:
        _keep_within(store, quota, resource, thing)


def _admit_into(store: Store, resource: Resource, name: str, namespace: str) -> None:
    owner = store.get(NAMESPACES, "", namespace)
    if "deletionTimestamp" in owner["metadata"]:
        raise Refusal(
            403,
            "Forbidden",
            f'{resource.qualified} "{name}" is forbidden: unable to create new content in '
            f"namespace {namespace} because it is being terminated",
            causes=[{"reason": "NamespaceTerminating"}],
        )


def _admit_pod(store: Store, pod: Manifest) -> None:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    account = pod["spec"].setdefault("serviceAccountName", "default")
    if store.find(SERVICE_ACCOUNTS, namespace, account) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}"'
        raise forbidden(PODS, name, f"{why} not found")
    runtime = pod["spec"].get("runtimeClassName")
    if runtime is not None and store.find(RUNTIME_CLASSES, "", runtime) is None:
        raise forbidden(PODS, name, f'pod rejected: RuntimeClass "{runtime}" not found')
    if pod["spec"].get("automountServiceAccountToken", True):
        _mount_token(pod["spec"])
    for limit_range in store.all(LIMIT_RANGES, namespace):
        for limit in limit_range["spec"]["limits"]:
            if limit["type"] == "Container":
                _limit(pod, limit)
    level = labels_of(store.get(NAMESPACES, "", namespace)).get(ENFORCE, "privileged")
    if level == "restricted" and (found := list(violations(pod["spec"]))):
        why = f'violates PodSecurity "restricted:latest": {", ".join(found)}'
        raise forbidden(PODS, name, why)


def _mount_token(spec: Manifest) -> None:
    """Gives all containers the token of the pod's account, unless the pod wants none."""
    sources = [{"serviceAccountToken": {"path": "token"}}]
    volume = {"name": "kube-api-access", "projected": {"sources": sources}}
    spec["volumes"] = [*spec.get("volumes", []), volume]
    mount = {"name": "kube-api-access", "mountPath": TOKEN_DIRECTORY, "readOnly": True}
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        container["volumeMounts"] = [*container.get("volumeMounts", []), mount]


def _limit(pod: Manifest, limit: Manifest) -> None:
    """Applies one entry of a LimitRange: defaults, then the largest allowed."""
    for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
        resources = container["resources"]
        for section, defaults in (("limits", "default"), ("requests", "defaultRequest")):
            for name, amount in limit.get(defaults, {}).items():
                resources.setdefault(section, {}).setdefault(name, amount)
        for name, most in limit.get("max", {}).items():
            has = resources.get("limits", {}).get(name)
            if has is not None and number(has) > number(most):
                why = f"maximum {name} usage per Container is {most}, but limit is {has}"
                raise forbidden(PODS, pod["metadata"]["name"], why)


def _keep_within(store: Store, quota: Manifest, resource: Resource, thing: Manifest) -> None:
    """Raises Refusal if the namespace would have more than its quota."""
    hard = quota["spec"]["hard"]
    namespace, name = quota["metadata"]["namespace"], quota["metadata"]["name"]
    asked = dict(_counted(resource, thing))
    if resource is PODS:
        counted = ("requests.", "limits.", "cpu", "memory")
        missing = sorted(key for key in hard if key.startswith(counted) and key not in asked)
        missing = [key for key in missing if key != "requests.storage"]
        if missing:
            why = f"failed quota: {name}: must specify {','.join(missing)}"
            raise forbidden(resource, thing["metadata"]["name"], why)
    used = _used(store, resource, namespace)
    over = [
        key for key in asked if key in hard and used.get(key, 0) + asked[key] > number(hard[key])
    ]
    if over:
        words = [
            f"{title}: {','.join(f'{key}={amounts[key]}' for key in over)}"
            for title, amounts in (("requested", asked), ("used", used), ("limited", hard))
            if all(key in amounts for key in over)
        ]
        why = f"exceeded quota: {name}, {', '.join(words)}"
        raise forbidden(resource, thing["metadata"]["name"], why)


def _used(store: Store, resource: Resource, namespace: str) -> dict[str, Decimal]:
    """What the objects of a namespace take of its quotas; pods that have ended take nothing."""
    used: dict[str, Decimal] = {}
    for thing in store.all(resource, namespace):
        if thing.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            for key, amount in _counted(resource, thing):
                used[key] = used.get(key, Decimal(0)) + amount
    return used


def tell_quotas(store: Store) -> None:
    """Writes into each quota how much of it is used."""
    for quota in store.all(QUOTAS):
        namespace, hard = quota["metadata"]["namespace"], quota["spec"]["hard"]
        used: dict[str, Decimal] = {}
        for resource in STORED:
            used |= _used(store, resource, namespace) if resource.namespaced else {}
        with store.change(QUOTAS, namespace, quota["metadata"]["name"]) as live:
            if live is not None:
                live["status"] = {"hard": hard, "used": {k: str(used.get(k, 0)) for k in hard}}


def _counted(resource: Resource, thing: Manifest) -> Iterator[tuple[str, Decimal]]:
    """What an object takes of a quota."""
    yield f"count/{resource.qualified}", Decimal(1)
    yield resource.plural, Decimal(1)
    if resource is CLAIMS:
        yield "requests.storage", number(thing["spec"]["resources"]["requests"]["storage"])
    if resource is PODS:
        for section in ("requests", "limits"):
            for name in ("cpu", "memory", "ephemeral-storage"):
                amount = pod_amount(thing["spec"], section, name)
                if amount is not None:
                    yield f"{section}.{name}", amount
                    if section == "requests":
                        yield name, amount


def pod_amount(spec: Manifest, section: str, name: str) -> Decimal | None:
    """What a pod asks for: its containers together, or its largest init container."""

    def of(container: Manifest) -> Decimal | None:
        amount = container.get("resources", {}).get(section, {}).get(name)
        return None if amount is None else number(amount)

    initial = spec.get("initContainers", [])
    running = [of(c) for c in (*spec["containers"], *filter(is_sidecar, initial))]
    if None in running or any(of(c) is None for c in initial):
        return None
    together = sum((amount for amount in running if amount is not None), Decimal(0))
    return max(together, *(amount for c in initial if (amount := of(c)) is not None), Decimal(0))


def is_sidecar(container: Manifest) -> bool:
    """Whether an init container runs on beside the others."""
    return bool(container.get("restartPolicy") == "Always")


def admit_update(resource: Resource, live: Manifest, thing: Manifest) -> None:
    """Raises Refusal if something would change that can't."""
    name = live["metadata"]["name"]
    if resource is DEPLOYMENTS:
        if thing["spec"]["selector"] != live["spec"]["selector"]:
            raise invalid(resource, name, "spec.selector: field is immutable")
        if not matches(thing["spec"]["selector"], labels_of(thing["spec"]["template"])):
            words = "spec.template.metadata.labels: `selector` does not match template `labels`"
            raise invalid(resource, name, words)
    if resource is PODS and _fixed(thing["spec"]) != _fixed(live["spec"]):
        raise invalid(resource, name, "spec: Forbidden: pod updates may not change fields")
    if resource is CLAIMS and _size(thing) < _size(live):
        why = "spec.resources.requests.storage: Forbidden: field can not be less than before"
        raise invalid(resource, name, why)
    if resource is CLAIMS and _unsized(thing["spec"]) != _unsized(live["spec"]):
        raise invalid(resource, name, "spec: Forbidden: spec is immutable after creation")


def _fixed(spec: Manifest) -> Manifest:
    containers = [{**container, "image": ""} for container in spec["containers"]]
    return {**spec, "containers": containers, "tolerations": [], "activeDeadlineSeconds": 0}


def _size(claim: Manifest) -> Decimal:
    return number(claim["spec"]["resources"]["requests"]["storage"])


def _unsized(spec: Manifest) -> Manifest:
    return {**spec, "resources": {}, "volumeName": ""}
