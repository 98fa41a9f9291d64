"""Makes the pod of a build, and its Secrets.

The pod's containers run one after the other. Those that fetch the files, keep what was installed
and pack what was built are Moorage's own and hold a token each, good for one request to the
gateway; the others run what a stranger wrote, in a language's image, and hold neither a token nor a
credential.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from moorage.engines.engine import Limits
from moorage.engines.isolation.bubblewrap import HOME, TMP
from moorage.engines.kubernetes.objects.labels import Part, build_name, deployment_labels
from moorage.engines.kubernetes.objects.pod import (
    Manifest,
    PodOptions,
    literal,
    mount,
    on_disk,
    resources,
    restricted_container,
    restricted_pod,
    secret,
)

FETCH, KEEP, PACK = "fetch", "keep", "pack"  # the names of Moorage's own containers
LAY = "installed"  # of the one that lays what an earlier build has installed
INSTALL, BUILD = "install", "build"  # of those that run the plan's steps
APP = "/app"
TOOLS = "/opt/moorage"  # below it, programs in `bin` and `toolchains`
SOURCE_URL, RESULT_URL = "MOORAGE_SOURCE_URL", "MOORAGE_RESULT_URL"
INSTALL_URL = "MOORAGE_INSTALL_URL"
_LAID = "/opt/moorage/laid"  # where the volumes are while an image's own files are to be seen
_VAR_TMP = "/var/tmp"  # noqa: S108 (inside the container)
_STOP_SECONDS = 1  # nobody waits for the last words of a build that was given up


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command line of the plan, or one that takes programs out of another image."""

    name: str  # of its container: a DNS label, such as install or build
    command: str  # for `sh -c`
    image: str = ""  # in place of the build's
    writes_tools: bool = False  # may put programs into TOOLS


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build."""

    deployment_id: str
    owner: str
    namespace: str
    own_image: str  # Moorage's
    image: str  # the language's
    directory: str  # of the steps, below APP; "": APP itself
    steps: Sequence[Step]
    fetch: Sequence[str]  # the command that puts files into APP and programs into TOOLS
    pack: Sequence[str]  # the command that hands over what the steps have made
    source_url: str  # with a token; for `fetch` alone
    result_url: str  # with a token; for `pack` alone
    limits: Limits
    timeout_seconds: int
    environment: Mapping[str, str] = field(default_factory=dict)  # of the steps
    installed: str = ""  # an image with what an earlier build has installed; "": there is none
    keep: Sequence[str] = ()  # the command that hands over what was installed; (): none does
    install_url: str = ""  # with a token; for `keep` alone

    def labels(self, instance: str) -> dict[str, str]:
        """The labels of its objects."""
        return deployment_labels(
            instance, owner=self.owner, deployment_id=self.deployment_id, part=Part.BUILD
        )


def build_objects(build: Build, options: PodOptions) -> list[Manifest]:
    """Returns the Secrets and the pod, in the order in which to apply them."""
    return [*build_secrets(build, options.instance), build_pod(build, options)]


def build_secrets(build: Build, instance: str) -> list[Manifest]:
    """Returns the Secrets of the build: the steps' variables, and the URLs of the other two."""
    name, labels = build_name(build.deployment_id), build.labels(instance)
    urls = {SOURCE_URL: build.source_url, RESULT_URL: build.result_url}
    if build.keep:
        urls[INSTALL_URL] = build.install_url
    return [
        secret(name, build.namespace, labels=labels, values=build.environment),
        secret(urls_name(name), build.namespace, labels=labels, values=urls),
    ]


def build_pod(build: Build, options: PodOptions) -> Manifest:
    """Returns the pod, which is run once."""
    size = build.limits.disk_bytes
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": build_name(build.deployment_id),
            "namespace": build.namespace,
            "labels": build.labels(options.instance),
        },
        "spec": {
            **restricted_pod(options),
            "restartPolicy": "Never",
            "activeDeadlineSeconds": build.timeout_seconds,
            "terminationGracePeriodSeconds": _STOP_SECONDS,
            "initContainers": list(_before_packing(build)),
            "containers": [_pack(build)],
            "volumes": [
                on_disk(name, size_bytes=size)
                for name in ("app", "home", "tools", "tmp", "var-tmp")
            ],
        },
    }


def _before_packing(build: Build) -> Iterator[Manifest]:
    if build.installed:
        yield _lay(build)
    yield _fetch(build)
    for step in build.steps:
        yield _step(build, step)
        if step.name == INSTALL and build.keep:
            yield _keep(build)


def _lay(build: Build) -> Manifest:
    """Copies what an image has at the places of the files into the pod's volumes.

    Not the places themselves: they are of others, and neither mode nor time of theirs can be set.
    """
    copying = (
        f"if [ -d {place} ] && cd {place}; then for it in ./.[!.]* ./..?* ./*; do"
        ' if [ -e "$it" ] || [ -L "$it" ]; then'
        f' cp -a "$it" {_LAID}/{name}/ || exit 1; fi; done; fi'
        for name, place in (("app", APP), ("home", HOME))
    )
    return {
        "name": LAY,
        "image": build.installed,
        "imagePullPolicy": "IfNotPresent",
        "command": literal("/bin/sh", "-c", "\n".join(copying)),
        "resources": resources(build.limits),
        "securityContext": restricted_container(),
        "volumeMounts": [mount(name, f"{_LAID}/{name}") for name in ("app", "home")],
    }


def _fetch(build: Build) -> Manifest:
    return {
        **_own_container(build, FETCH, build.fetch, url=SOURCE_URL),
        "volumeMounts": [
            mount("app", APP),
            mount("home", HOME, read_only=True),
            mount("tools", TOOLS),
            mount("tmp", TMP),
        ],
    }


def _keep(build: Build) -> Manifest:
    return {
        **_own_container(build, KEEP, build.keep, url=INSTALL_URL),
        "volumeMounts": [
            mount("app", APP, read_only=True),
            mount("home", HOME, read_only=True),
            mount("tools", TOOLS),
        ],
    }


def _step(build: Build, step: Step) -> Manifest:
    return {
        "name": step.name,
        "image": step.image or build.image,
        "imagePullPolicy": "IfNotPresent",
        "command": literal("/bin/sh", "-c", step.command),
        "workingDir": f"{APP}/{build.directory}".rstrip("/"),
        "envFrom": [{"secretRef": {"name": build_name(build.deployment_id)}}],
        "resources": resources(build.limits),
        "securityContext": restricted_container(),
        "volumeMounts": [
            mount("app", APP),
            mount("home", HOME),
            mount("tools", TOOLS, read_only=not step.writes_tools),
            mount("tmp", TMP),
            mount("var-tmp", _VAR_TMP),
        ],
    }


def _pack(build: Build) -> Manifest:
    return {
        **_own_container(build, PACK, build.pack, url=RESULT_URL),
        "volumeMounts": [
            mount("app", APP, read_only=True),
            mount("home", HOME, read_only=True),
            mount("tools", TOOLS, read_only=True),
        ],
    }


def _own_container(build: Build, name: str, command: Sequence[str], *, url: str) -> Manifest:
    reference = {"name": urls_name(build_name(build.deployment_id)), "key": url}
    return {
        "name": name,
        "image": build.own_image,
        "imagePullPolicy": "IfNotPresent",
        "command": literal(*command),
        "env": [{"name": url, "valueFrom": {"secretKeyRef": reference}}],
        "resources": resources(build.limits),
        "securityContext": restricted_container(),
    }


def urls_name(name: str) -> str:
    """Returns the name of the Secret with the URLs of a build of this name."""
    return f"{name}-urls"
