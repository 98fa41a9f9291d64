"""One of each object that the gateway makes in a cluster, as golden files and schemas see them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from moorage.engines.engine import Limits
from moorage.engines.kubernetes.objects.app import App, app_objects, volume_claim
from moorage.engines.kubernetes.objects.labels import wallet_hash, wallet_namespace
from moorage.engines.kubernetes.objects.namespace import (
    Networks,
    Quota,
    namespace_objects,
    pull_secret,
)
from moorage.engines.kubernetes.objects.pod import Manifest, PodOptions
from moorage.engines.kubernetes.self_test import SelfTest, self_test_objects
from moorage.engines.kubernetes.volumes import VolumePod, volume_pod_objects
from moorage.records.deployment import LogKind

MIB = 1024 * 1024
OWNER = "0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B"
NAMESPACE = wallet_namespace("moorage", OWNER)
DEPLOYMENT = "0b7e2f6c-4a61-4e0f-9f3e-5a1c2d3e4f50"
VOLUME = "7d9b1c22-8e0a-4a55-b7c3-1f2e3d4c5b6a"
DIGEST = "sha256:" + "ab" * 32
APP_LIMITS = Limits(
    memory_bytes=512 * MIB,
    cpu_millis=500,
    pids=256,
    disk_bytes=1024 * MIB,
    volume_bytes=2048 * MIB,
)

PLAIN = PodOptions(instance="3f2a1b")
STRICT = PodOptions(
    instance="3f2a1b",
    runtime_class="gvisor",
    pull_secret="registry",
    user_namespaces=True,
    resolvers=("9.9.9.9",),
    stop_seconds=10,
)
INSIDE = Networks(gateway_namespace="moorage")
OUTSIDE = Networks(
    gateway_networks=("192.0.2.10/32",),
    deny=("10.244.0.0/16", "10.96.0.0/12", "203.0.113.0/24", "fd00::/48", "198.51.100.0/24"),
    allow=("10.1.2.0/24",),
    resolvers=("9.9.9.9", "10.1.2.53"),
)


def app(*, volume: str | None = None) -> App:
    return App(
        deployment_id=DEPLOYMENT,
        owner=OWNER,
        namespace=NAMESPACE,
        image=f"registry.example/moorage/app@{DIGEST}",
        start="node index.js",
        port=3000,
        limits=APP_LIMITS,
        listen_seconds=60,
        environment={"PORT": "3000", "GREETING": "a $(PORT) ü\nb"},
        volume=volume,
    )


def volume_pod() -> VolumePod:
    return VolumePod(
        volume_id=VOLUME,
        wallet=wallet_hash(OWNER),
        namespace=NAMESPACE,
        image=f"registry.example/moorage/moorage@{DIGEST}",
        command=["python3", "-m", "program", "read", "$(SIZE)"],
        token="secret-of-a-volume",
        reads=True,
        limits=APP_LIMITS,
        timeout_seconds=600,
    )


def quota() -> Quota:
    return Quota(apps=10, app=APP_LIMITS)


def self_test() -> SelfTest:
    return SelfTest(
        name="self-test-1a2b",
        prefix="moorage",
        image=f"registry.example/moorage/moorage@{DIGEST}",
        command=["python", "-m", "self_test"],
        timeout_seconds=60,
    )


def claim(storage_class: str = "") -> Manifest:
    return volume_claim(
        VOLUME,
        owner=OWNER,
        namespace=NAMESPACE,
        instance="3f2a1b",
        size_bytes=2048 * MIB,
        storage_class=storage_class,
    )


def namespaced(networks: Networks) -> list[Manifest]:
    return namespace_objects(quota(), networks, prefix="moorage", owner=OWNER, instance="3f2a1b")


def registry_secret() -> Manifest:
    config = '{"auths": {"registry.example": {"auth": "cHVsbDpvbmx5"}}}'
    return pull_secret("registry", NAMESPACE, instance="3f2a1b", docker_config=config)


SAMPLES: Mapping[str, list[Manifest]] = {
    "app": app_objects(app(), PLAIN),
    "app-strict-with-volume": app_objects(app(volume=VOLUME), STRICT),
    "command-with-volume": app_objects(replace(app(volume=VOLUME), log=LogKind.BUILD), PLAIN),
    "volume-pod": volume_pod_objects(volume_pod(), STRICT),
    "namespace": namespaced(INSIDE),
    "namespace-outside": namespaced(OUTSIDE),
    "self-test": self_test_objects(self_test(), INSIDE, STRICT),
    "volume": [claim(), claim("fast"), registry_secret()],
}
"""By the name of the golden file."""


def pod_specs(objects: Iterable[Manifest]) -> list[Manifest]:
    """The specs of all pods, also of those that a Deployment makes."""
    made = [
        found["spec"]["template"]["spec"] if found["kind"] == "Deployment" else found["spec"]
        for found in objects
        if found["kind"] in {"Deployment", "Pod"}
    ]
    assert made
    return made


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", ()), *spec["containers"]]
