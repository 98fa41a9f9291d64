"""Describes a kind of engine: its name, what it needs from the machine, how to make one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moorage.clock import Clock
from moorage.engines.engine import Capabilities, Engine, Limits, ProjectData
from moorage.engines.host.configuration import DEPLOYMENTS, HostConfiguration
from moorage.loop import Keeps, always
from moorage.planning.toolbox import Toolbox


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Settings of the operator that only some kinds of engine use."""

    subnet: str  # from which apps get their networks
    wallet_cache_bytes: int  # that builds of one wallet may keep for later ones; 0 for none
    total_cache_bytes: int  # the same for all wallets together
    downloads_bytes: int  # of the disk on which one build downloads
    docker_host: str  # where the Docker daemon listens: unix:///path
    base_images: Mapping[str, str]  # by program, in place of the engine's own choice
    local_images: bool  # whether deployers' Dockerfiles may use this machine's images
    dockerfile_registries: tuple[str, ...]  # whose images these may name; "*" for any
    cluster: "ClusterOptions"
    # Whether this gateway still keeps the apps; None where another does, and this one only asks.
    keeps: Keeps | None = always


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Settings of the operator for a cluster that runs the apps."""

    app: Limits  # of one app
    build: Limits  # of one build
    apps_per_wallet: int  # that run at the same time
    config: str  # a kubeconfig; "": as a pod of the cluster
    prefix: str  # of the names of wallets' namespaces; each set of gateways has another
    registry: str  # where images are put
    registry_credentials: str  # a config.json, by which the gateway puts them there
    pull_credentials: str  # a config.json, by which nodes fetch them
    builder: str  # the address of what builds the images: see `BuilderPlace`
    builder_certificates: str  # a directory with a client's, where that is at tcp://
    own_image: str  # Moorage's, for the pods of the self-test and of volumes
    runtime_class: str  # such as gvisor; "": the nodes' own
    user_namespaces: bool
    storage_class: str  # of volumes; "": the cluster's default
    resolvers: tuple[str, ...]  # name servers of pods; empty: the cluster's own
    gateway_namespace: str  # of the gateways' pods; "": they are outside the cluster
    gateway_networks: tuple[str, ...]  # from where gateways outside the cluster connect


class Exports(ProjectData, Protocol):
    """Copies an engine's files for a backup, while the gateway may be running.

    A gateway is restored by putting the copies where its engine keeps its files. Methods block, and
    raise OSError.
    """

    def app(self, deployment_id: str, target: Path) -> bool:
        """Copies a built deployment and its logs into the new directory `target`.

        Returns False if there is no such deployment.
        """
        ...

    def volume(self, volume_id: str, target: Path) -> bool:
        """Copies a volume into the new directory `target`; returns False if it has no files yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class EngineKind:
    """One line of the table of engines."""

    name: str  # the value of the setting `isolation`
    capabilities: Capabilities
    run_directory: Callable[[Path], Path]  # from the data_dir to the directory for sockets
    missing: Callable[[Path], Sequence[str]]  # what it lacks with this run_dir: `what: command`
    folder: str = DEPLOYMENTS  # of its deployments, in the data_dir's `apps`
    forwards_packets: bool  # whether it needs IP forwarding in this machine's kernel
    make: Callable[[HostConfiguration, EngineOptions], Engine]  # returns one that is not open
    has_images: bool = False  # whether apps run in images, which bring their own programs
    # Whether apps run on the gateway's machine. If not, every gateway opens the engine, wherever it
    # runs, and one of them acts.
    machine_bound: bool = True
    # From what the machine has to what can be planned for the engine's apps.
    offered: Callable[[Toolbox, EngineOptions], Toolbox] = lambda found, _options: found
    exports: Callable[[Path, Path, Clock], Exports] | None  # from a state_dir and a run_dir
