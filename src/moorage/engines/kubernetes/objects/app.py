"""Makes the objects of one app: Secret, Deployment, Service, and the claim of its volume."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from moorage.engines.engine import Limits
from moorage.engines.kubernetes.objects.labels import (
    INSTANCE_LABEL,
    LOG_LABEL,
    VOLUME_LABEL,
    WALLET_LABEL,
    Part,
    app_name,
    deployment_labels,
    volume_name,
    wallet_hash,
)
from moorage.engines.kubernetes.objects.pod import (
    MIB,
    USER,
    Manifest,
    PodOptions,
    in_memory,
    literal,
    mount,
    on_one_node,
    resources,
    restricted_container,
    restricted_pod,
    secret,
)
from moorage.records.deployment import LogKind

# Shells get the signal only if there is nothing else, as in `host.kernel.signals`. `wait` returns
# when the trap has run as well; then the app is still there.
_SCRIPT = """\
pass_on() {
  shells= others=
  for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" = "$$" ] && continue
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    case $name in
      sh | bash | dash) shells="$shells $pid" ;;
      *) others="$others $pid" ;;
    esac
  done
  kill -TERM ${others:-$shells} 2>/dev/null
}
trap pass_on TERM
/bin/sh -c "$1" &
app=$!
while :; do
  wait "$app"
  code=$?
  kill -0 "$app" 2>/dev/null || exit "$code"
done
"""


def first_process(start: str) -> Sequence[str]:
    """Returns the command that runs a plan's command, and ends with its exit code."""
    return ("/bin/sh", "-c", _SCRIPT, "app", start)


CONTAINER = "app"  # the name of the container, whose logs are the app's
PORT = "http"  # the name of the port, in the pod and in its EndpointSlices
DATA = "/data"
_SCRATCH = {
    "tmp": ("/tmp", 64 * MIB),  # noqa: S108 (inside the container)
    "run": ("/run", 16 * MIB),
    "var-tmp": ("/var/tmp", 16 * MIB),  # noqa: S108
}
_ANY_PORT = {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}  # as in the other engines
_READY_SECONDS = 5
_READY_FAILURES = 3


@dataclass(frozen=True, kw_only=True)
class App:
    """One app to run."""

    deployment_id: str
    owner: str
    namespace: str
    image: str  # by digest
    start: str  # a command line for `sh -c`; "": what the image says
    port: int  # where the app must listen, on all addresses of its pod
    limits: Limits
    listen_seconds: int  # how long it may take until then
    environment: Mapping[str, str] = field(default_factory=dict)
    volume: str | None = None  # the id of the volume at DATA
    is_own_image: bool = False  # made by a deployer's Dockerfile, which says whom it runs as
    log: LogKind | None = None  # where what it prints goes, if it does not listen

    def labels(self, instance: str) -> dict[str, str]:
        """The labels of its objects, the volume's claim aside."""
        return deployment_labels(
            instance, owner=self.owner, deployment_id=self.deployment_id, part=Part.APP
        )


def app_objects(app: App, options: PodOptions) -> list[Manifest]:
    """Returns the Secret, the Service and the Deployment, in the order in which to apply them.

    Of what does not listen, the Secret and a pod, which is not started again by itself.
    """
    if app.log is not None:
        return [app_secret(app, options.instance), _command(app, options)]
    return [
        app_secret(app, options.instance),
        service(app, options.instance),
        _running(app, options),
    ]


def app_secret(app: App, instance: str) -> Manifest:
    """Returns the Secret with the app's variables, in which Kubernetes replaces no `$(NAME)`."""
    return secret(
        app_name(app.deployment_id),
        app.namespace,
        labels=app.labels(instance),
        values=app.environment,
    )


def service(app: App, instance: str) -> Manifest:
    """Returns the headless Service, by which the cluster says where the app is ready."""
    labels = app.labels(instance)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": app_name(app.deployment_id),
            "namespace": app.namespace,
            "labels": labels,
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "selector": labels,
            "ports": [{"name": PORT, "port": app.port, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def _running(app: App, options: PodOptions) -> Manifest:
    """Returns the Deployment with one pod. A volume has one user at a time, so it is recreated."""
    labels = app.labels(options.instance)
    strategy: Manifest = {"type": "Recreate"}
    if app.volume is None:
        rolling = {"maxUnavailable": 0, "maxSurge": 1}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": app_name(app.deployment_id),
            "namespace": app.namespace,
            "labels": labels,
        },
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 0,
            "strategy": strategy,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": {**labels, **_volume_label(app)}},
                "spec": _pod(app, options),
            },
        },
    }


def _command(app: App, options: PodOptions) -> Manifest:
    """Returns a pod that runs once; its container is asked nothing, and no port leads to it."""
    pod = _pod(app, options)
    (container,) = pod["containers"]
    for key in ("ports", "startupProbe", "readinessProbe"):
        del container[key]
    labels = {**app.labels(options.instance), **_volume_label(app), LOG_LABEL: str(app.log)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": app_name(app.deployment_id),
            "namespace": app.namespace,
            "labels": labels,
        },
        "spec": {**pod, "restartPolicy": "Never"},
    }


def _volume_label(app: App) -> dict[str, str]:
    return {} if app.volume is None else {VOLUME_LABEL: app.volume}


def _pod(app: App, options: PodOptions) -> Manifest:
    volumes = [in_memory(name, size_bytes=size) for name, (_, size) in _SCRATCH.items()]
    pod = restricted_pod(options, user=None if app.is_own_image else USER)
    pod["securityContext"]["sysctls"] = [_ANY_PORT]
    pod["containers"] = [_container(app)]
    if app.volume is not None:
        claim = {"claimName": volume_name(app.volume)}
        volumes.append({"name": "data", "persistentVolumeClaim": claim})
        pod["affinity"] = on_one_node(_volume_label(app))
    return {**pod, "volumes": volumes}


def _container(app: App) -> Manifest:
    """Returns the app's container.

    It is asked each second until it listens, and then seldom: whether it is healthy, the gateway
    asks over HTTP.
    """
    listens = {"tcpSocket": {"port": PORT}, "timeoutSeconds": 1}
    ready = {"periodSeconds": _READY_SECONDS, "failureThreshold": _READY_FAILURES}
    mounts = [mount(name, path) for name, (path, _) in _SCRATCH.items()]
    if app.volume is not None:
        mounts.append(mount("data", DATA))
    return {
        "name": CONTAINER,
        "image": app.image,
        "imagePullPolicy": "IfNotPresent",
        **({"command": literal(*first_process(app.start))} if app.start else {}),
        "envFrom": [{"secretRef": {"name": app_name(app.deployment_id)}}],
        "ports": [{"name": PORT, "containerPort": app.port, "protocol": "TCP"}],
        "startupProbe": {**listens, "periodSeconds": 1, "failureThreshold": app.listen_seconds},
        "readinessProbe": {**listens, **ready},
        "resources": resources(app.limits),
        "securityContext": restricted_container(),
        "volumeMounts": mounts,
    }


def volume_claim(
    volume_id: str,
    *,
    owner: str,
    namespace: str,
    instance: str,
    size_bytes: int,
    storage_class: str = "",
) -> Manifest:
    """Returns the claim of a volume, which outlives the deployments that use it.

    Without a storage class, the cluster's default one serves it.
    """
    labels = {
        INSTANCE_LABEL: instance,
        WALLET_LABEL: wallet_hash(owner),
        VOLUME_LABEL: volume_id,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": volume_name(volume_id), "namespace": namespace, "labels": labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": str(size_bytes)}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }
