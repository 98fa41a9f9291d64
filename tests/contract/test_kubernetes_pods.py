"""How Kubernetes runs pods, as the engine relies on it.

Runs on the fake cluster, or on a real one: MOORAGE_TEST_KUBECONFIG, MOORAGE_TEST_IMAGE.
"""

import asyncio
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import pytest

from support.engines.kubernetes_client import KubernetesClient, Manifest, Refused
from support.engines.kubernetes_fixture import TestedCluster
from support.gateway.waiting import until, until_read

pytestmark = pytest.mark.root

SERVER = """\
import http.server, os, signal, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ.get("GREETING", "hello").encode())
def end(*_):
    print("ends", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("begins", flush=True)
http.server.HTTPServer(("", 3000), Handler).serve_forever()
"""
"""An app that answers with its GREETING, and ends when it is told to."""

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "fsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@pytest.fixture
def image(tested_cluster: TestedCluster) -> str:
    return tested_cluster.image


@pytest.fixture
def apps(namespace: str) -> str:
    return namespace.replace("/api/v1", "/apis/apps/v1")


def container(image: str, *command: str, name: str = "app", **more: Any) -> Manifest:
    resources = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    found = {"name": name, "image": image, "command": [*command], "resources": resources}
    return {**found, "imagePullPolicy": "IfNotPresent", "securityContext": RESTRICTED, **more}


def shell(image: str, script: str, *, name: str = "app", **more: Any) -> Manifest:
    return container(image, "sh", "-c", script, name=name, **more)


def server(image: str, **more: Any) -> Manifest:
    """The app SERVER, with the engine's probes."""
    port = {"tcpSocket": {"port": "http"}}
    return container(
        image,
        *("python3", "-c", SERVER),
        ports=[{"name": "http", "containerPort": 3000}],
        startupProbe={**port, "periodSeconds": 1, "failureThreshold": 60},
        readinessProbe={**port, "periodSeconds": 5},
        **more,
    )


def pod_spec(*containers: Manifest, **more: Any) -> Manifest:
    shared = {"securityContext": SECURITY, "automountServiceAccountToken": False}
    return {**shared, "terminationGracePeriodSeconds": 5, "containers": [*containers], **more}


def pod(*containers: Manifest, name: str = "one", **more: Any) -> Manifest:
    spec = pod_spec(*containers, **{"restartPolicy": "Never", **more})
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def deployment(*containers: Manifest, replicas: int = 1, **more: Any) -> Manifest:
    labels = {"matchLabels": {"app": "one"}}
    template = {"metadata": {"labels": {"app": "one"}}, "spec": pod_spec(*containers, **more)}
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    spec = {"replicas": replicas, "revisionHistoryLimit": 0, "selector": labels}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "one"},
        "spec": {**spec, "strategy": strategy, "template": template},
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "one"},
    "spec": {
        "clusterIP": "None",
        "selector": {"app": "one"},
        "ports": [{"name": "http", "port": 3000, "targetPort": "http"}],
    },
}


async def until_object(
    api: KubernetesClient, path: str, holds: Callable[[Manifest], bool], **query: str
) -> Manifest:
    """The object, once it is so."""
    read = partial(api.answer, "GET", path, **query)
    found: Manifest = await until_read(read, holds, pause_seconds=0.02)
    return found


async def the_pods(api: KubernetesClient, namespace: str) -> list[Manifest]:
    found = await api.answer("GET", f"{namespace}/pods", labelSelector="app=one")
    pods: list[Manifest] = found["items"]
    return pods


async def ready_addresses(api: KubernetesClient, namespace: str) -> dict[str, str]:
    """Names of the ready pods of the Service, and where each is dialled."""
    path = namespace.replace("/api/v1", "/apis/discovery.k8s.io/v1") + "/endpointslices"
    found = await api.answer("GET", path, labelSelector="kubernetes.io/service-name=one")
    return {
        endpoint["targetRef"]["name"]: f"{endpoint['addresses'][0]}:{one['ports'][0]['port']}"
        for one in found["items"]
        for endpoint in one["endpoints"] or ()
        if endpoint["conditions"]["ready"]
    }


async def serving(api: KubernetesClient, namespace: str) -> tuple[str, str]:
    """Name and address of the one pod that is ready, once there is just one."""
    found = await until_read(
        partial(ready_addresses, api, namespace), lambda ready: len(ready) == 1
    )
    (pair,) = found.items()
    return pair


async def fetched(address: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/") as answer:
        return await answer.text()


def state_of(pod: Manifest, *, initial: bool = False) -> Manifest:
    """The state of the pod's first container; empty before there is one."""
    statuses = pod["status"].get("initContainerStatuses" if initial else "containerStatuses", [{}])
    return statuses[0].get("state", {}) if statuses else {}


def waits_for(*reasons: str) -> Callable[[Manifest], bool]:
    return lambda pod: state_of(pod).get("waiting", {}).get("reason") in reasons


def has_ended(pod: Manifest) -> bool:
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


async def log(api: KubernetesClient, path: str, **query: str) -> str:
    found: str = await api.answer("GET", f"{path}/log", **query)
    return found


async def run(api: KubernetesClient, namespace: str, manifest: Manifest) -> Manifest:
    """A pod after its end."""
    await api.answer("POST", f"{namespace}/pods", manifest)
    return await until_object(api, f"{namespace}/pods/one", has_ended)


async def test_ready_pod_is_dialled_at_the_address_of_its_slice(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    greeting = {"name": "one", "data": {"GREETING": "aGk="}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}}
    await api.apply(f"{namespace}/secrets/one", {**secret, "data": greeting["data"]})
    await api.apply(f"{namespace}/services/one", SERVICE)
    body = deployment(server(image, envFrom=[{"secretRef": {"name": "one"}}]))
    await api.apply(f"{apps}/deployments/one", body)
    name, address = await serving(api, namespace)
    assert await fetched(address) == "hi"
    (found,) = await the_pods(api, namespace)
    assert (found["metadata"]["name"], f"{found['status']['podIP']}:3000") == (name, address)
    rolled = await until_object(
        api, f"{apps}/deployments/one", lambda d: d["status"].get("availableReplicas") == 1
    )
    assert rolled["status"]["observedGeneration"] == rolled["metadata"]["generation"]
    conditions = {c["type"]: (c["status"], c["reason"]) for c in rolled["status"]["conditions"]}
    assert conditions["Available"] == ("True", "MinimumReplicasAvailable")


async def test_service_without_pods_has_a_slice_without_endpoints(
    api: KubernetesClient, namespace: str
) -> None:
    await api.apply(f"{namespace}/services/one", SERVICE)
    path = namespace.replace("/api/v1", "/apis/discovery.k8s.io/v1") + "/endpointslices"
    found = await until_object(api, path, lambda found: bool(found["items"]))
    (one,) = found["items"]
    assert not one["endpoints"]
    assert one["metadata"]["labels"]["kubernetes.io/service-name"] == "one"


async def test_container_is_an_ordinary_user_on_a_read_only_root(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    script = "id -u; id -g; touch /x 2>/dev/null || echo refused; touch /tmp/x && echo written"
    volumes = [{"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    body = pod(shell(image, script, volumeMounts=mounts), volumes=volumes)
    await run(api, namespace, body)
    lines = (await log(api, f"{namespace}/pods/one")).splitlines()
    assert lines == ["1000", "1000", "refused", "written"]


async def test_new_version_replaces_the_old_one_once_it_is_ready(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    await api.apply(f"{namespace}/services/one", SERVICE)
    await api.apply(f"{apps}/deployments/one", deployment(server(image)))
    first, _ = await serving(api, namespace)
    bad = deployment({**server(image), "command": ["sh", "-c", "exit 3"]})
    await api.apply(f"{apps}/deployments/one", bad)

    async def crashes() -> bool:
        pods = await the_pods(api, namespace)
        return any(waits_for("CrashLoopBackOff")(found) for found in pods)

    await until(crashes)
    assert set(await ready_addresses(api, namespace)) == {first}
    env = [{"name": "GREETING", "value": "second"}]
    await api.apply(f"{apps}/deployments/one", deployment(server(image, env=env)))

    async def is_replaced() -> bool:
        ready = await ready_addresses(api, namespace)
        return len(ready) == 1 and first not in ready

    await until(is_replaced)
    _, address = await serving(api, namespace)
    assert await fetched(address) == "second"
    await until_read(partial(the_pods, api, namespace), lambda pods: len(pods) == 1)


async def test_pod_without_replicas_ends_in_order(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    await api.apply(f"{namespace}/services/one", SERVICE)
    await api.apply(f"{apps}/deployments/one", deployment(server(image)))
    name, _ = await serving(api, namespace)
    async with api.lines(f"{namespace}/pods/{name}/log", follow="true") as lines:
        await api.merge(f"{apps}/deployments/one", {"spec": {"replicas": 0}})
        assert [line async for line in lines][-1] == b"ends\n"
    await api.until_gone(f"{namespace}/pods/{name}")
    assert await ready_addresses(api, namespace) == {}
    await api.merge(f"{apps}/deployments/one", {"spec": {"replicas": 1}})
    again, address = await serving(api, namespace)
    assert again != name
    assert await fetched(address) == "hello"


async def test_ending_pod_is_not_ready(api: KubernetesClient, namespace: str, image: str) -> None:
    body = pod(server(image), restartPolicy="Always", terminationGracePeriodSeconds=120)
    body["spec"]["containers"][0]["command"][2] = SERVER.replace("sys.exit(0)", "time.sleep(999)")
    await api.apply(f"{namespace}/services/one", SERVICE)
    await api.apply(f"{namespace}/pods/one", body)
    await serving(api, namespace)
    await api.delete(f"{namespace}/pods/one")
    found = await api.answer("GET", f"{namespace}/pods/one")
    assert found["metadata"]["deletionGracePeriodSeconds"] == 120
    await until_read(partial(ready_addresses, api, namespace), lambda ready: not ready)
    assert await api.has(f"{namespace}/pods/one")
    await api.delete(f"{namespace}/pods/one", gracePeriodSeconds=0)


async def test_pod_that_ignores_the_signal_is_killed_after_its_grace(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    await api.apply(f"{namespace}/pods/one", pod(shell(image, "sleep 99; true")))
    await until_object(api, f"{namespace}/pods/one", lambda found: "running" in state_of(found))
    began = time.monotonic()
    await api.delete(f"{namespace}/pods/one", gracePeriodSeconds=2)
    await api.until_gone(f"{namespace}/pods/one")
    assert 1.5 < time.monotonic() - began < 30


async def test_recreated_version_finds_the_volume_of_the_one_before(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    await api.apply(f"{namespace}/persistentvolumeclaims/data", claim)
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]

    def version(script: str) -> Manifest:
        mounted = [{"name": "data", "mountPath": "/data"}]
        body = deployment(shell(image, script, volumeMounts=mounted), volumes=volumes)
        body["spec"]["strategy"] = {"type": "Recreate", "rollingUpdate": None}
        return body

    wait = "; trap 'exit 0' TERM; while true; do sleep 0.1; done"
    writes = version(f"echo kept > /data/file{wait}")
    await api.apply(f"{apps}/deployments/one", writes)
    ready = partial(the_pods, api, namespace)
    (first,) = await until_read(ready, lambda pods: [*map(_is_running, pods)] == [True])
    await api.apply(f"{apps}/deployments/one", version(f"cat /data/file{wait}"))

    def is_second(pods: list[Manifest]) -> bool:
        uids = [found["metadata"]["uid"] for found in pods]
        return len(pods) == 1 and uids[0] != first["metadata"]["uid"] and _is_running(pods[0])

    (second,) = await until_read(ready, is_second)
    path = f"{namespace}/pods/{second['metadata']['name']}"
    await until_read(partial(log, api, path), lambda text: text == "kept\n")
    await api.delete(f"{namespace}/persistentvolumeclaims/data")
    held = await api.answer("GET", f"{namespace}/persistentvolumeclaims/data")
    assert "deletionTimestamp" in held["metadata"]  # a pod uses it
    await api.delete(f"{apps}/deployments/one")
    await api.until_gone(f"{namespace}/persistentvolumeclaims/data")


def _is_running(found: Manifest) -> bool:
    return "running" in state_of(found)


async def test_crashing_container_is_started_again_after_pauses(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    body = pod(shell(image, "echo crashed; exit 3"), restartPolicy="Always")
    await api.apply(f"{namespace}/pods/one", body)
    path = f"{namespace}/pods/one"
    found = await until_object(api, path, waits_for("CrashLoopBackOff"))
    status = found["status"]["containerStatuses"][0]
    assert found["status"]["phase"] == "Running"
    assert status["lastState"]["terminated"]["exitCode"] == 3
    assert status["lastState"]["terminated"]["reason"] == "Error"
    assert status["ready"] is False
    await until_read(partial(log, api, path), lambda text: text == "crashed\n")
    again = await until_object(
        api, path, lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] >= 1
    )
    assert again["status"]["containerStatuses"][0]["restartCount"] >= 1
    assert await log(api, path, previous="true") == "crashed\n"


async def test_container_without_memory_is_told_so(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    greedy = container(image, "python3", "-c", "x = bytearray(200 << 20); print(len(x))")
    found = await run(api, namespace, pod(greedy))
    ended = state_of(found)["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


async def test_missing_image_is_told_so(api: KubernetesClient, namespace: str, image: str) -> None:
    body = pod(container("localhost:1/none@sha256:" + "0" * 64, "true"))
    await api.apply(f"{namespace}/pods/one", body)
    path, failures = f"{namespace}/pods/one", ("ErrImagePull", "ImagePullBackOff")
    found = await until_object(api, path, waits_for(*failures))
    assert found["status"]["phase"] == "Pending"
    with pytest.raises(Refused) as refused:
        await log(api, path)
    assert refused.value.code == 400


async def test_missing_program_is_told_so(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    found = await run(api, namespace, pod(container(image, "no-such-program")))
    ended = state_of(found)["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert "no-such-program" in ended["message"]


async def test_container_waits_for_its_secret(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    body = pod(shell(image, "echo $GREETING", envFrom=[{"secretRef": {"name": "late"}}]))
    path = f"{namespace}/pods/one"
    await api.apply(path, body)
    await until_object(api, path, waits_for("CreateContainerConfigError"))
    secret: Manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late"}}
    await api.apply(f"{namespace}/secrets/late", {**secret, "stringData": {"GREETING": "hi"}})
    await until_object(api, path, has_ended)
    assert await log(api, path) == "hi\n"


async def test_init_containers_run_one_after_the_other(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    mounts = [{"name": "work", "mountPath": "/made"}]
    steps = [
        shell(image, "echo one > /made/file; echo fetched", name="fetch", volumeMounts=mounts),
        shell(image, "echo two >> /made/file", name="build", volumeMounts=mounts),
    ]
    body = pod(
        shell(image, "cat /made/file", name="pack", volumeMounts=mounts),
        initContainers=steps,
        volumes=[{"name": "work", "emptyDir": {}}],
    )
    found = await run(api, namespace, body)
    assert found["status"]["phase"] == "Succeeded"
    assert await log(api, f"{namespace}/pods/one", container="pack") == "one\ntwo\n"
    assert await log(api, f"{namespace}/pods/one", container="fetch") == "fetched\n"
    ends = [s["state"]["terminated"]["reason"] for s in found["status"]["initContainerStatuses"]]
    assert ends == ["Completed", "Completed"]


async def test_failed_init_container_ends_the_pod(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    steps = [shell(image, "echo refused; exit 7", name="build")]
    found = await run(api, namespace, pod(shell(image, "true"), initContainers=steps))
    assert found["status"]["phase"] == "Failed"
    assert state_of(found, initial=True)["terminated"]["exitCode"] == 7
    assert state_of(found)["waiting"]["reason"] == "PodInitializing"
    assert await log(api, f"{namespace}/pods/one", container="build") == "refused\n"


async def test_pod_past_its_deadline_has_failed(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    slow = shell(image, "trap 'exit 1' TERM; while true; do sleep 0.1; done", name="build")
    body = pod(shell(image, "true"), initContainers=[slow], activeDeadlineSeconds=2)
    found = await run(api, namespace, body)
    assert (found["status"]["phase"], found["status"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert "terminated" in found["status"]["initContainerStatuses"][0]["state"]  # before it fails


async def test_log_is_followed_to_the_end_and_read_from_a_second_on(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    script = "echo one; sleep 1.2; echo two >&2; sleep 1.2; printf three"
    path = f"{namespace}/pods/one"
    await api.apply(path, pod(shell(image, script)))
    await until_object(api, path, lambda pod: _is_running(pod) or has_ended(pod))
    query = {"follow": "true", "timestamps": "true"}
    async with api.lines(f"{path}/log", **query) as lines:
        stamped = [line.decode().split(" ", 1) async for line in lines]
    assert [text.strip() for _, text in stamped] == ["one", "two", "three"]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z", stamp) for stamp, _ in stamped)
    since = stamped[1][0]
    later = await log(api, path, sinceTime=since[:19] + ".999999999Z")
    assert later == "two\nthree\n" or later == "two\nthree"  # its fraction is cut off
    assert (await log(api, path, tailLines="1")).strip() == "three"


async def test_pod_that_fits_nowhere_is_unschedulable(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    huge = {"limits": {"cpu": "100000", "memory": "64Mi"}}
    await api.apply(f"{namespace}/pods/one", pod(shell(image, "true", resources=huge)))

    def condition(found: Manifest) -> Manifest:
        conditions = found["status"].get("conditions", [])
        return next((c for c in conditions if c["type"] == "PodScheduled"), {"reason": None})

    path = f"{namespace}/pods/one"
    found = await until_object(api, path, lambda pod: condition(pod).get("reason") is not None)
    assert (condition(found)["status"], condition(found)["reason"]) == ("False", "Unschedulable")
    assert "Insufficient cpu" in condition(found)["message"]
    await api.delete(path)
    await api.until_gone(path)  # it has never begun, so nothing is waited for


async def test_pod_beyond_the_quota_is_refused_and_its_deployment_says_so(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "moorage"},
        "spec": {"hard": {"limits.memory": "100Mi"}},
    }
    await api.apply(f"{namespace}/resourcequotas/moorage", quota)
    path = f"{namespace}/resourcequotas/moorage"
    await until_object(api, path, lambda found: "hard" in found.get("status", {}))
    wait = "trap 'exit 0' TERM; while true; do sleep 0.1; done"
    await api.apply(f"{namespace}/pods/one", pod(shell(image, wait)))
    with pytest.raises(Refused) as refused:
        await api.apply(f"{namespace}/pods/two", pod(shell(image, wait), name="two"))
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert "exceeded quota: moorage" in refused.value.message
    await api.apply(f"{apps}/deployments/one", deployment(shell(image, wait)))

    def failure(found: Manifest) -> str:
        conditions = {c["type"]: c for c in found.get("status", {}).get("conditions", [])}
        return str(conditions.get("ReplicaFailure", {}).get("message", ""))

    path = f"{apps}/deployments/one"
    found = await until_object(api, path, lambda found: bool(failure(found)))
    assert "exceeded quota: moorage" in failure(found)
    unlimited = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "three"}}
    spec = pod_spec(shell(image, wait, resources={}))
    with pytest.raises(Refused, match=r"must specify limits\.memory"):
        await api.apply(f"{namespace}/pods/three", {**unlimited, "spec": spec})


async def test_limit_range_completes_and_bounds_containers(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    limit = {
        "type": "Container",
        "default": {"memory": "32Mi"},
        "defaultRequest": {"memory": "16Mi"},
        "max": {"memory": "100Mi"},
    }
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "moorage"}}
    await api.apply(f"{namespace}/limitranges/moorage", {**body, "spec": {"limits": [limit]}})

    async def is_completed() -> bool:  # admission learns of it a little later
        await api.delete(f"{namespace}/pods/one", gracePeriodSeconds=0)
        await api.until_gone(f"{namespace}/pods/one")
        return await made() == {"limits": {"memory": "32Mi"}, "requests": {"memory": "16Mi"}}

    async def made() -> Manifest:
        _, found = await api.apply(f"{namespace}/pods/one", pod(shell(image, "true", resources={})))
        resources: Manifest = found["spec"]["containers"][0]["resources"]
        return resources

    await made()
    await until(is_completed)
    large = {"limits": {"memory": "200Mi"}}
    with pytest.raises(Refused, match="maximum memory usage per Container is 100Mi"):
        await api.apply(
            f"{namespace}/pods/two", pod(shell(image, "true", resources=large), name="two")
        )


async def test_restricted_namespace_refuses_what_could_harm(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    labels = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    await api.merge(namespace, {"metadata": labels})
    body = pod(shell(image, "true", securityContext={}), securityContext={})
    with pytest.raises(Refused) as refused:
        await until_refused(api, f"{namespace}/pods/one", body)
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    for words in (
        'violates PodSecurity "restricted:latest"',
        "allowPrivilegeEscalation != false",
        "unrestricted capabilities",
        "runAsNonRoot != true",
        "seccompProfile",
    ):
        assert words in refused.value.message
    await api.apply(f"{namespace}/pods/two", pod(shell(image, "true"), name="two"))


async def until_refused(api: KubernetesClient, path: str, body: Manifest) -> None:
    """Makes the pod anew until it is refused: admission sees a label a little later."""
    async with asyncio.timeout(60):
        while True:
            await api.apply(path, body)
            await api.delete(path, gracePeriodSeconds=0)
            await api.until_gone(path)


async def test_pod_of_an_unknown_runtime_class_is_refused(
    api: KubernetesClient, namespace: str, image: str
) -> None:
    body = pod(shell(image, "true"), runtimeClassName="moorage-none")
    with pytest.raises(Refused, match=r"RuntimeClass .* not found") as refused:
        await api.apply(f"{namespace}/pods/one", body)
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")


async def test_deleted_deployment_takes_its_pods_along(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    await api.apply(f"{namespace}/services/one", SERVICE)
    await api.apply(f"{apps}/deployments/one", deployment(server(image)))
    name, _ = await serving(api, namespace)
    await api.delete(f"{apps}/deployments/one", propagationPolicy="Foreground")
    await api.until_gone(f"{apps}/deployments/one")
    left = await the_pods(api, namespace)
    assert all("deletionTimestamp" in found["metadata"] for found in left)
    await api.until_gone(f"{namespace}/pods/{name}")


async def test_scaled_deployment_stays_so_when_an_apply_does_not_name_replicas(
    api: KubernetesClient, namespace: str, apps: str, image: str
) -> None:
    path = f"{apps}/deployments/one"
    await api.apply(path, deployment(server(image)))
    scaled = await api.merge(path, {"spec": {"replicas": 0}}, manager="scaler")
    assert scaled["metadata"]["generation"] == 2
    silent = deployment(server(image))
    del silent["spec"]["replicas"]
    _, found = await api.apply(path, silent)
    assert found["spec"]["replicas"] == 0
    _, found = await api.apply(path, deployment(server(image)))
    assert found["spec"]["replicas"] == 1
