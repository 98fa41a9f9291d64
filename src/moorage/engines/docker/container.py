"""Makes the configuration of an app's container: a pure function."""

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.engines.dockerd.buildx import CORE_BYTES
from moorage.engines.engine import InstanceSpec, Usage
from moorage.engines.host import processes
from moorage.engines.host.cgroup import APPS, BUILDS, Cgroups, Shares
from moorage.engines.images.recipe import DATA, SHELL, environment
from moorage.errors import DeployFailed, FailureCause


def parent(instance_id: str, shared: str, *, systemd: bool) -> str:
    """Returns the value of `CgroupParent` for the containers of apps, or of builds.

    systemd wants the name of a slice, whose dashes say what it lies in (systemd.slice(5)).
    """
    separator = "-" if systemd else "/"
    path = separator.join((f"moorage-{instance_id}", shared))
    return f"{path}.slice" if systemd else f"/{path}"


def slice_limits(instance_id: str, shared: str, memory_bytes: int) -> list[str]:
    """Returns the command that limits a slice until the machine restarts."""
    name = parent(instance_id, shared, systemd=True)
    return [
        "systemctl", "set-property", "--runtime", name,
        f"MemoryMax={memory_bytes}", "MemorySwapMax=0", "TasksMax=75%",
    ]  # fmt: skip


def limit_slices(instance_id: str, shares: Shares) -> None:
    """Limits the memory of all apps together, and of all builds. Raises OSError."""
    for shared, memory_bytes in ((APPS, shares.apps_bytes), (BUILDS, shares.builds_bytes)):
        processes.run(slice_limits(instance_id, shared, memory_bytes))


def group_of(process_cgroups: str) -> str | None:
    """Returns a process's group, without a leading slash, by its `/proc/<pid>/cgroup`."""
    for line in process_cgroups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(",") or (not controllers and path != "/"):
            return path.lstrip("/")
    return None


def pids_beside(groups: Cgroups, pid: int) -> list[int]:
    """Returns all processes of the container with this first process."""
    found = _group(pid)
    return [] if found is None else Cgroups(groups.hierarchy, "").pids(found)


def usage_of(groups: Cgroups, pid: int) -> Usage | None:
    """Returns what the container with this first process has used; None if it is gone."""
    found = _group(pid)
    return None if found is None else Cgroups(groups.hierarchy, "").usage(found)


def _group(pid: int) -> str | None:
    try:
        return group_of(Path(f"/proc/{pid}/cgroup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None


INSTANCE_LABEL, DEPLOYMENT_LABEL = "moorage.instance", "moorage.deployment"
_MIB = 1024 * 1024
_NANO = 1_000_000  # nanoseconds of a millisecond, as NanoCpus counts billionths of a core
_START_CPU_MILLIS = 1000  # a starting app may use a whole core, even if its limit is lower
_TMPFS = {
    "/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=64m",  # noqa: S108 (inside the container)
    "/run": "rw,noexec,nosuid,nodev,mode=1777,size=16m",
    "/var/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=16m",  # noqa: S108
}


_SCRATCH_BYTES = 16 * _MIB
_MAX_SCRATCH = 32


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is the same for all containers of a gateway."""

    instance_id: str
    network: str
    cgroup_parent: str
    resolvers: Sequence[str]
    oom_score: int  # of apps; they can't lower it


def container_name(instance_id: str, deployment_id: str) -> str:
    """Returns a container's name, from which other apps can't tell whose it is.

    Docker answers an app's questions for the names of the containers in its network.
    """
    digest = hashlib.blake2b(deployment_id.encode(), digest_size=12, key=instance_id.encode())
    return f"moorage-{instance_id}-{digest.hexdigest()}"


def scratch(configuration: Mapping[str, Any]) -> list[str]:
    """Returns the directories that an image's configuration names by VOLUME. Raises DeployFailed.

    Docker would give each of them the machine's disk without a limit.
    """
    named = list(configuration.get("Volumes") or ())
    if len(named) > _MAX_SCRATCH or not all(path.startswith("/") for path in named):
        raise DeployFailed(
            FailureCause.CRASHED,
            f"the image can't be started: its VOLUMEs must be absolute paths, {_MAX_SCRATCH} at"
            " most",
        )
    return sorted({f"/{posixpath.normpath(path).lstrip('/')}" for path in named})


def container(
    spec: InstanceSpec,
    image: str,
    around: Surroundings,
    *,
    data: Path | None,
    scratch: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the body of `POST /containers/create`; the image says what runs, and as whom.

    `scratch` are further directories in memory.
    """
    limits = spec.limits
    taken = (*_TMPFS, *([] if data is None else [DATA]))
    return {
        "Image": image,
        **({"Entrypoint": list(SHELL), "Cmd": [spec.command]} if spec.command else {}),
        "Hostname": "app",
        "Env": [f"{name}={value}" for name, value in environment(spec).items()],
        # Docker would run the image's own check as often as every millisecond, at its own expense.
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {INSTANCE_LABEL: around.instance_id, DEPLOYMENT_LABEL: spec.deployment_id},
        "HostConfig": {
            "NetworkMode": around.network,
            "CgroupParent": around.cgroup_parent,
            "Dns": list(around.resolvers),
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,  # no swap
            "NanoCpus": (
                max(limits.cpu_millis, _START_CPU_MILLIS) if spec.listens else limits.cpu_millis
            )
            * _NANO,
            "PidsLimit": limits.pids,
            "Ulimits": [{"Name": "core", "Soft": CORE_BYTES, "Hard": CORE_BYTES}],
            "OomScoreAdj": around.oom_score,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges:true"],
            "Privileged": False,
            "ReadonlyRootfs": True,
            "Tmpfs": dict(_TMPFS),
            "Mounts": [_in_memory(path) for path in scratch if path not in taken],
            "ShmSize": 64 * _MIB,
            "Init": True,
            "Sysctls": {"net.ipv6.conf.all.disable_ipv6": "1"},
            "Binds": [] if data is None else [f"{data}:{DATA}"],
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {
                "Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"},
            },
        },
    }  # fmt: skip


def _in_memory(path: str) -> dict[str, Any]:
    options = {"SizeBytes": _SCRATCH_BYTES, "Mode": 0o1777}
    return {"Type": "tmpfs", "Target": path, "TmpfsOptions": options}


def settled(cpu_millis: int) -> dict[str, int]:
    """Returns the body of `POST /containers/…/update` for an app that has started."""
    return {"NanoCpus": cpu_millis * _NANO}
