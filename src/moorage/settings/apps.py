"""The settings of apps, builds, and the machine that they share."""

from typing import Annotated, Any

import msgspec

TABLE = "table"
"""The key of a setting's metadata that names its table in the file."""


def setting(table: str, text: str, **limits: Any) -> msgspec.Meta:
    """Describes a setting that stands in a table of the file."""
    return msgspec.Meta(description=text, extra={TABLE: table}, **limits)


class AppSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What apps and builds get; the unit is in the name."""

    app_memory_mib: Annotated[int, setting("apps", "Memory of an app, in MiB.", ge=64)] = 512
    app_cpu_millis: Annotated[
        int, setting("apps", "CPU of an app, in thousandths of a core.", ge=50)
    ] = 500
    app_disk_mib: Annotated[int, setting("apps", "Disk of an app's files, in MiB.", ge=64)] = 1024
    app_volume_mib: Annotated[
        int,
        setting("apps", "Size of a volume, `/data` of a project that asks for one, in MiB.", ge=32),
    ] = 1024
    app_pids: Annotated[int, setting("apps", "Processes and threads of an app.", ge=16)] = 256
    app_connections: Annotated[
        int, setting("apps", "Visitors' connections that an app takes at once.", ge=16, le=10_000)
    ] = 1024
    listen_seconds: Annotated[
        int, setting("apps", "How long a started app may take to listen on a port.", ge=1)
    ] = 60
    healthy_seconds: Annotated[
        int,
        setting(
            "apps", "How long a listening app may take to answer GET / with less than 500.", ge=1
        ),
    ] = 30
    drain_seconds: Annotated[
        int,
        setting(
            "apps", "How long a version that was replaced may end what it was asked before.", ge=0
        ),
    ] = 30
    stop_seconds: Annotated[
        int,
        setting(
            "apps",
            "How long a stopped app may take to end after SIGTERM; then SIGKILL.",
            ge=0,
            le=60,
        ),
    ] = 5
    sleep_after_seconds: Annotated[
        int,
        setting(
            "apps",
            "How long an app without request and connection runs on before it sleeps until its "
            "next request, in seconds; 0: for ever.",
            ge=0,
        ),
    ] = 0
    projects_per_wallet: Annotated[
        int,
        setting(
            "apps",
            "How many projects a wallet may have, unless `moorage allow` says otherwise for it; "
            "0: any number.",
            ge=0,
        ),
    ] = 0
    releases_kept: Annotated[
        int,
        setting(
            "apps",
            "How many replaced versions of a project can be rolled back to; of as many that failed "
            "and of as many that were given up the logs are kept.",
            ge=0,
            le=100,
        ),
    ] = 3
    usage_days: Annotated[
        int, setting("apps", "How long what apps used is kept, hour by hour, in days.", ge=1)
    ] = 90
    retention_days: Annotated[
        int,
        setting(
            "apps", "How long a suspended project is kept before it is deleted, in days.", ge=1
        ),
    ] = 30
    failed_retention_days: Annotated[
        int, setting("apps", "How long a project that never served keeps its name, in days.", ge=1)
    ] = 7
    export_days: Annotated[
        int,
        setting(
            "apps",
            "How long after its deletion the export of a project that you evicted can be fetched, "
            "in days.",
            ge=0,
        ),
    ] = 30
    app_subnet: Annotated[
        str, setting("networks", "The private IPv4 network that apps' own networks are cut from.")
    ] = "10.201.0.0/16"
    app_connects_per_second: Annotated[
        int,
        setting(
            "networks",
            "Connections a second that an app may begin into the world; 0 for any.",
            ge=0,
        ),
    ] = 200
    app_bandwidth_mbit: Annotated[
        int,
        setting(
            "networks",
            "What an app itself may send into the world and fetch from it, each, in Mbit/s; "
            "0 for any.",
            ge=0,
        ),
    ] = 0
    deny_networks: Annotated[
        tuple[str, ...], setting("networks", "More networks that apps and builds must not reach.")
    ] = ()
    allow_networks: Annotated[
        tuple[str, ...],
        setting("networks", "Networks that apps may reach although they are private."),
    ] = ()
    build_memory_mib: Annotated[int, setting("builds", "Memory of a build, in MiB.", ge=128)] = 2048
    build_cpu_millis: Annotated[
        int, setting("builds", "CPU of a build, in thousandths of a core.", ge=100)
    ] = 2000
    build_pids: Annotated[int, setting("builds", "Processes and threads of a build.", ge=16)] = 512
    build_seconds: Annotated[int, setting("builds", "How long a build may take.", ge=1, le=540)] = (
        480
    )
    builds_at_once: Annotated[
        int, setting("builds", "How many builds run at the same time.", ge=1)
    ] = 2
    builds_per_wallet: Annotated[
        int, setting("builds", "How many builds of one wallet run at the same time.", ge=1)
    ] = 1
    build_downloads_mib: Annotated[
        int,
        setting(
            "builds",
            "Disk on which one build downloads, in MiB; it takes room only as it is written, and is"
            " thrown away after the build if it holds more than `build_cache_mib`.",
            ge=64,
        ),
    ] = 4096
    build_cache_mib: Annotated[
        int,
        setting(
            "builds",
            "What builds of one wallet keep for its later ones, downloads and installed packages,"
            " in MiB; 0: nothing.",
            ge=0,
        ),
    ] = 1024
    build_cache_total_mib: Annotated[
        int, setting("builds", "What builds of all wallets keep for later ones, in MiB.", ge=0)
    ] = 10_240
    build_env: Annotated[
        dict[str, str],
        setting("builds", "Variables that every build sees, such as a package mirror's URL."),
    ] = {}
    toolchains: Annotated[
        bool,
        setting(
            "builds",
            "Install other versions of Node, Bun, Deno and package managers than this machine has,"
            " from npm packages, as apps ask for them.",
        ),
    ] = True
    toolchains_mib: Annotated[
        int,
        setting(
            "builds",
            "What all installed versions together may take, in MiB. Those that no app needs make "
            "room, the least recently used first.",
            ge=256,
        ),
    ] = 8192
    base_images: Annotated[
        dict[str, str],
        setting(
            "images",
            "Images that planned apps are built on, in place of the official ones, by program"
            " (`node`, `python`, …; `plain` without a language); `{version}`, `{minor}`, `{major}`"
            " stand for 3.13.7, 3.13, 3. With Docker only.",
        ),
    ] = {}
    image_registry: Annotated[
        str,
        setting(
            "images",
            "Put before the names of these images, such as `registry.example/hub`. Docker's own"
            " credentials are used for them.",
        ),
    ] = ""
    local_images: Annotated[
        bool,
        setting(
            "images",
            "Let deployers' Dockerfiles begin with any image on this machine; else theirs are"
            " pulled, without credentials, whatever the machine has.",
        ),
    ] = False
    dockerfile_registries: Annotated[
        tuple[str, ...],
        setting(
            "images",
            "The registries whose images a deployer's Dockerfile may name, with the port if it has"
            ' one; `["*"]` for whatever this machine reaches.',
        ),
    ] = (
        "docker.io",
        "ghcr.io",
        "quay.io",
        "gcr.io",
        "registry.k8s.io",
        "mcr.microsoft.com",
        "public.ecr.aws",
    )
    isolation: Annotated[
        str,
        setting(
            "machine",
            "What apps run on: root, the sandbox of a gateway that is root; docker; kubernetes; "
            "auto is root.",
        ),
    ] = "auto"
    moving_from: Annotated[
        str,
        setting(
            "machine",
            "The engine that projects are leaving for `isolation`: it runs on what is still on it, "
            "until `moorage engine move` has moved each.",
        ),
    ] = ""
    docker_host: Annotated[
        str,
        setting("machine", "Where Docker listens on this machine, for isolation = docker."),
    ] = "unix:///var/run/docker.sock"
    deploys_at_once: Annotated[
        int, setting("machine", "How many deployments are carried out at the same time.", ge=1)
    ] = 8
    disk_reserve_mib: Annotated[
        int,
        setting(
            "machine", "What no app is ever to have of the disk that data_dir is on, in MiB.", ge=0
        ),
    ] = 2048
    disk_overcommit: Annotated[
        float,
        setting(
            "machine",
            "How many times the disk's free space may be promised to apps, whose disks are sparse: "
            "with 1 all of them can be full at once. Volumes always have their space.",
            ge=1,
            le=100,
        ),
    ] = 2.0
    memory_reserve_mib: Annotated[
        int,
        setting(
            "machine",
            "Memory that apps and builds leave to the gateway, the proxy and the system, in MiB;"
            " of the rest, builds have what `builds_at_once` need, at most half.",
            ge=64,
        ),
    ] = 1024
    memory_overcommit: Annotated[
        float,
        setting(
            "machine",
            "How many times the memory that apps have may be promised to them: with 1 all of them"
            " can use their limit at once. Most use far less than half. What sleeps or is"
            " suspended does not count; it is woken only where there is room.",
            ge=1,
        ),
    ] = 2.0
