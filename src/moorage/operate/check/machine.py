"""Finds what this machine lacks for a gateway, and the commands that fix it.

It gathers facts first; then pure functions judge them, one for each finding.
"""

import asyncio
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from moorage.chains.local.devchain import INSTALL_COMMAND, find_anvil
from moorage.errors import (
    ConfigurationInvalid,
    DatabaseUnavailable,
    LocalChainFailed,
    SchemaUnknown,
)
from moorage.gateway import engine_choice
from moorage.gateway.data_directory import closing_command, open_to_others
from moorage.operate.check.configuration import Finding
from moorage.process import find_program
from moorage.routing.haproxy import port_in_use_by
from moorage.settings import Settings
from moorage.storage.migrate import is_earlier

if TYPE_CHECKING:
    from moorage.storage.postgres import Server
from collections.abc import Iterator, Sequence

from moorage.errors import ClusterUnavailable

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def gateway_holds(port: int, data_dir: Path, *, proc: Path = Path("/proc")) -> bool:
    """Returns whether a process that has files of this data directory open listens on a port.

    Of processes that this user may not look into it is not known, and False.
    """
    inodes = set(_listening(port, proc))
    return bool(inodes) and any(
        not inodes.isdisjoint(match[1] for match in map(_SOCKET.fullmatch, links) if match)
        and any(link.startswith(f"{data_dir}/") for link in links)
        for links in map(_links, proc.glob("[0-9]*"))
    )


def _listening(port: int, proc: Path) -> Iterator[str]:
    """Yields the inodes of the sockets that listen on a port."""
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, _, state, *rest = line.split()
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                yield rest[5]


def _links(process: Path) -> list[str]:
    """Returns what a process has open; [] for one that has ended, or is another user's."""
    try:
        descriptors = os.listdir(process / "fd")  # noqa: PTH208 (there are thousands)
    except OSError:
        return []
    return [link for each in descriptors if (link := _link(f"{process}/fd/{each}"))]


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 (as above)
    except OSError:  # it has just been closed
        return ""


_ENGINE, _CLUSTER, _BUILDER = "docker", "kubernetes", "builder"
_ELSEWHERE = (
    "the gateway does not hold it: see there that builds are bounded, and reach nothing private"
    " (docs/run/kubernetes.md, Builds)"
)


async def check_docker(settings: Settings) -> list[Finding]:
    """Returns what is found out without changing anything; nothing where no daemon is used."""
    used = {kind.name for kind in engine_choice.kinds(settings)}
    if _CLUSTER in used:
        return await _check_builder(settings)
    if _ENGINE not in used:
        return []
    # aiodocker is imported only where Docker is used.
    from moorage.engines.dockerd import daemon as daemons  # noqa: PLC0415

    try:
        daemon = await daemons.connect(settings.docker_host)
    except daemons.DaemonFailed as error:
        remedy = "systemctl start docker, or set docker_host right"
        return [Finding("docker", ok=False, detail=str(error), remedy=remedy)]
    except ConfigurationInvalid as error:
        detail = str(error).removeprefix("docker_host: ")
        return [Finding("docker", ok=False, detail=detail, remedy="set docker_host right")]
    try:
        lacking = [each.partition(": ") for each in daemons.lacking(daemon.info, daemon.pid)]
    finally:
        await daemon.close()
    found = [Finding("docker", ok=False, detail=what, remedy=how) for what, _, how in lacking]
    version = daemon.info.get("ServerVersion", "")
    return found or [Finding("docker", ok=True, detail=f"Docker {version}")]


async def _check_builder(settings: Settings) -> list[Finding]:
    """Returns the findings about what builds a cluster's images."""
    # As above.
    from moorage.engines.dockerd.opening import BuilderPlace, missing_for_builds  # noqa: PLC0415

    place = BuilderPlace(
        address=settings.kubernetes_builder, certificates=settings.kubernetes_credentials, subnet=""
    )
    remedy = "set kubernetes_builder and kubernetes_credentials right"
    try:
        with tempfile.TemporaryDirectory() as scratch:
            missing = await missing_for_builds(place, Path(scratch) / "buildx")
    except ConfigurationInvalid as error:
        return [Finding(_BUILDER, ok=False, detail=str(error), remedy=remedy)]
    if missing:
        parts = [each.partition(": ") for each in missing]
        return [
            Finding(_BUILDER, ok=False, detail=what, remedy=how or remedy, blocks=False)
            for what, _, how in parts
        ]
    detail = place.address if place.is_here else f"{place.address}; {_ELSEWHERE}"
    return [Finding(_BUILDER, ok=True, detail=detail)]


OLDEST_KUBERNETES = (1, 31)
_CLUSTER_ENGINE = "kubernetes"
_OWN_IMAGE = "kubernetes_own_image"
_GRANT = "kubectl apply --filename ops/kubernetes/base/permissions.yaml"
_VERSION = re.compile(r"v(\d+)\.(\d+)")


async def check_cluster(settings: Settings) -> list[Finding]:
    """Returns what is found out without changing anything; nothing if apps run elsewhere."""
    if all(kind.name != _CLUSTER_ENGINE for kind in engine_choice.kinds(settings)):
        return []
    # lightkube and what it needs are imported only where a cluster is used.
    from moorage.engines.kubernetes.cluster.client import (  # noqa: PLC0415
        NODES,
        Cluster,
        Refused,
        read_configuration,
    )
    from moorage.engines.kubernetes.opening import missing_permissions  # noqa: PLC0415
    from moorage.engines.kubernetes.running.usage import allocatable  # noqa: PLC0415

    try:
        cluster = Cluster(read_configuration(settings.kubernetes_config))
        try:
            found = judge_cluster(await cluster.version(), await missing_permissions(cluster))
            if all(it.ok for it in found):
                nodes = (await cluster.list(NODES)).items
                found.append(_judge_nodes(int(allocatable(nodes, "memory")), len(nodes)))
        finally:
            await cluster.close()
        return [*found, *await _check_images(settings)]
    except (ClusterUnavailable, ConfigurationInvalid, Refused) as error:
        remedy = "set kubernetes_config right, or run it as a pod"
        return [Finding("cluster", ok=False, detail=str(error), remedy=remedy)]


def _judge_nodes(memory_bytes: int, count: int) -> Finding:
    if memory_bytes:
        detail = f"{count}, with {memory_bytes // 1024**2:,} MiB for pods"
        return Finding("nodes", ok=True, detail=detail)
    return Finding("nodes", ok=False, detail="no node takes pods", remedy="add one", blocks=False)


async def _check_images(settings: Settings) -> list[Finding]:
    """Returns whether images can be put into the registry, and Moorage's own is in its own."""
    # aiohttp's client is imported only where a registry is used.
    from moorage.engines.images.image import parse_reference, parse_repository  # noqa: PLC0415
    from moorage.engines.images.registry import (  # noqa: PLC0415
        Registry,
        RegistryFailed,
        read_credentials,
    )

    async def asked(setting: str, file: str, name: str) -> Finding:
        remedy = (
            f"set {setting} right, and {file} in kubernetes_credentials; name an authority of your "
            "own in SSL_CERT_FILE"
        )
        try:
            given = settings.kubernetes_credential(file)
            registry = Registry(read_credentials(Path(given) if given else None))
            try:
                if setting == _OWN_IMAGE:
                    await registry.manifest(parse_reference(settings.kubernetes_own_image))
                else:
                    place = parse_repository(settings.kubernetes_registry)
                    await registry.require_writable(place.below("check"))
            finally:
                await registry.close()
        except (ConfigurationInvalid, RegistryFailed) as error:
            is_set_wrong = isinstance(error, ConfigurationInvalid)
            return Finding(name, ok=False, detail=str(error), remedy=remedy, blocks=is_set_wrong)
        return Finding(name, ok=True, detail=getattr(settings, setting))

    return [
        await asked("kubernetes_registry", "registry.json", "registry"),
        await asked(_OWN_IMAGE, "pull.json", "own image"),
    ]


def judge_cluster(version: str, missing: Sequence[str]) -> list[Finding]:
    """Returns the findings about a cluster of this version and its missing permissions."""
    found = _VERSION.match(version)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    known = Finding("cluster", ok=True, detail=f"Kubernetes {version}")
    if numbers < OLDEST_KUBERNETES:
        oldest = ".".join(map(str, OLDEST_KUBERNETES))
        remedy = f"upgrade the cluster to Kubernetes {oldest} or later"
        known = Finding("cluster", ok=False, detail=f"Kubernetes {version}", remedy=remedy)
    lacking = [Finding("permission", ok=False, detail=it, remedy=_GRANT) for it in missing]
    granted = Finding("permissions", ok=True, detail="the gateway may do what it must")
    return [known, *(lacking or [granted])]


OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 13)
OLDEST_POSTGRESQL = 15

OLDEST_PROXY = (3, 0)

BUNDLED_PROGRAMS = ("caddy", "uv")
"""Programs that come with the Python packages."""

APP_PROGRAMS = {"node": "nodejs", "npm": "npm"}
"""The programs that build and run Node apps, and their Debian packages."""

_OF_PROXY = "haproxy"
_OF_NODE_APPS = "programs for Node apps"


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port that a setting names, and whether the gateway could listen on it now."""

    setting: str
    number: int
    free: bool
    ours: bool = False  # a gateway of this data directory, which runs, has it


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The facts that findings are made of."""

    system: str  # from platform.system()
    python: tuple[int, int]
    root: bool
    missing_bundled: tuple[str, ...]
    proxy: tuple[int, ...] | None  # HAProxy's version; None where there is none
    missing_app_programs: tuple[str, ...] | None  # None: apps run in images with their own
    isolation: tuple[str, ...]  # the sandbox's sentences, `what: command`
    forwarding: bool  # IP forwarding is on, or not needed
    anvil: str | None  # None: local chains are not needed
    ports: tuple[Port, ...]
    data_dir: str  # absolute
    data_dir_problem: str  # that it is open to other users; "" if it is not
    free_mib: int = 0  # of the disk that data_dir is on
    needed_mib: int = 0  # for one app more, and the reserve
    database: "Server | str | None" = None  # the server, or why it can't be used; None: a file
    schema_problem: str = ""  # why this version cannot use what the database holds
    upgraded_at_start: bool = False  # it holds what an earlier version wrote


async def check_machine(settings: Settings) -> list[Finding]:
    """Checks what a gateway needs of its machine; without chains, what `moorage dev` needs.

    Reads /proc, looks programs up and tries ports; changes nothing.
    """
    return judge(await asyncio.to_thread(inspect_machine, settings))


def judge(machine: Machine) -> list[Finding]:
    """Returns all findings, in the order in which to fix them."""
    found = [
        Finding(
            "linux",
            machine.system == "Linux",
            f"this is {machine.system}",
            "use Debian 13, Ubuntu 25.04 or later, in a virtual machine if need be",
        )
    ]
    if not found[0].ok:
        return found  # the rest needs Linux
    found += [check(machine) for check in _CHECKS]
    found += _isolation(machine)
    found += [_port(port) for port in machine.ports]
    return [
        msgspec.structs.replace(each, remedy="") if each.ok and not each.warns else each
        for each in found
    ]


def inspect_machine(settings: Settings) -> Machine:
    """Gathers the facts; blocks for a few milliseconds."""
    linux = platform.system() == "Linux"
    return Machine(
        system=platform.system(),
        python=sys.version_info[:2],
        root=os.geteuid() == 0,
        missing_bundled=tuple(
            name for name in BUNDLED_PROGRAMS if not (find_program(name) is not None)
        ),
        proxy=_proxy_version(),
        missing_app_programs=_missing_app_programs(settings),
        isolation=engine_choice.missing(settings) if linux else (),
        forwarding=not any(kind.forwards_packets for kind in engine_choice.kinds(settings))
        or _forwarding(),
        anvil=None if settings.chains else _anvil_problem(),
        ports=tuple(_ports(settings)),
        data_dir=settings.data_dir,
        data_dir_problem=open_to_others(Path(settings.data_dir)),
        free_mib=_free_mib(Path(settings.data_dir)),
        needed_mib=settings.disk_reserve_mib + settings.app_disk_mib,
        database=_server_facts(settings.database_url),
        **_schema(settings),
    )


# Judging


def _python(machine: Machine) -> Finding:
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
    return Finding(
        "python",
        OLDEST_PYTHON <= machine.python <= NEWEST_PYTHON,
        f"this is Python {machine.python[0]}.{machine.python[1]}; {oldest} to {newest} will do",
        f"rm -r .venv && make setup PYTHON=python{newest}",
    )


def _bundled(machine: Machine) -> Finding:
    return _listed("bundled programs", BUNDLED_PROGRAMS, machine.missing_bundled, "make setup")


def _proxy(machine: Machine) -> Finding:
    found, oldest = machine.proxy, ".".join(map(str, OLDEST_PROXY))
    if found is None:
        detail, is_new = "haproxy is missing", False
    else:
        is_new = found >= OLDEST_PROXY
        detail = f"HAProxy {'.'.join(map(str, found))}" + ("" if is_new else ", which is too old")
    remedy = f"{install_command(['haproxy'], root=machine.root)} (version {oldest} or newer)"
    return Finding(_OF_PROXY, ok=is_new, detail=detail, remedy="" if is_new else remedy)


def _app_programs(machine: Machine) -> Finding:
    if machine.missing_app_programs is None:
        return Finding(_OF_NODE_APPS, ok=True, detail="not needed: apps run in images")
    packages = [APP_PROGRAMS[name] for name in machine.missing_app_programs]
    return _listed(
        _OF_NODE_APPS,
        tuple(APP_PROGRAMS),
        machine.missing_app_programs,
        install_command(packages, root=machine.root),
    )


def _anvil(machine: Machine) -> Finding:
    if machine.anvil is None:
        return Finding("local chains", ok=True, detail="not needed: chains are configured")
    ok = bool(machine.anvil)
    detail = machine.anvil if ok else "anvil, the local chains' node, is not installed"
    return Finding("local chains", ok, detail, INSTALL_COMMAND)


def _forwards(machine: Machine) -> Finding:
    return Finding(
        "packet forwarding",
        machine.forwarding or machine.root,
        "on, or not needed" if machine.forwarding else "off; the gateway turns it on",
        "sysctl -w net.ipv4.ip_forward=1",
    )


def _data_directory(machine: Machine) -> Finding:
    return Finding(
        "data directory",
        not machine.data_dir_problem,
        machine.data_dir_problem or f"{machine.data_dir} is, or will be, its owner's alone",
        closing_command(Path(machine.data_dir)),
    )


def _disk(machine: Machine) -> Finding:
    return Finding(
        "disk",
        machine.free_mib >= machine.needed_mib,
        f"{machine.free_mib} MiB are free; one app and the reserve need {machine.needed_mib}",
        "enlarge the disk, or lower disk_reserve_mib or app_disk_mib",
        blocks=False,
    )


def _database(machine: Machine) -> Finding:
    server = machine.database
    if machine.schema_problem:
        return Finding("database", ok=False, detail=machine.schema_problem, remedy=_WAY_BACK)
    if machine.upgraded_at_start:
        detail = "an earlier version's: the start upgrades it, and that version reads it no longer"
        remedy = "have a backup that the earlier version made: moorage operator backup FILE"
        return Finding("database", ok=True, detail=detail, remedy=remedy, warns=True)
    if server is None:
        return Finding("database", ok=True, detail="a file in the data directory")
    if isinstance(server, str):
        return Finding("database", ok=False, detail=server, remedy="set database_url right")
    problem, remedy = _problem(server)
    pooled = ", behind a pooler of transactions" if server.pooled else ""
    detail = problem or f"PostgreSQL {server.version}{pooled}"
    return Finding("database", not problem, detail, remedy)


_WAY_BACK = "run the version that wrote it, or restore a backup of before: docs/run/upgrade.md"


def _problem(server: "Server") -> tuple[str, str]:
    """Returns what is wrong with a server, and what fixes it; "" and "" for nothing."""
    if server.version < OLDEST_POSTGRESQL:
        return (
            f"this is PostgreSQL {server.version}",
            f"use a server of version {OLDEST_POSTGRESQL} or later",
        )
    if server.encoding != "UTF8":
        return f"its encoding is {server.encoding}", "createdb --encoding=UTF8 --template=template0"
    if server.standby:
        return "the server is a standby, which can only be read", "name the primary in database_url"
    if not server.may_create:
        return (
            "this user may make no tables there",
            "make it the database's owner: ALTER DATABASE … OWNER TO …",
        )
    if server.closing_sql:
        return (
            "every role of the server may connect to this database, and hold the gateway's locks",
            f"as its owner: {server.closing_sql}",
        )
    return "", ""


def _isolation(machine: Machine) -> list[Finding]:
    """Returns what the engine lacks, in its own sentences."""
    findings = []
    for sentence in machine.isolation:
        detail, _, remedy = sentence.partition(": ")
        if remedy.startswith("apt-get "):
            remedy = install_command(remedy.split()[2:], root=machine.root)
        findings.append(Finding("isolation", ok=False, detail=detail, remedy=remedy))
    return findings or [Finding("isolation", ok=True, detail="everything it needs is here")]


def _port(port: Port) -> Finding:
    if port.ours:
        return Finding(f"{port.setting} {port.number}", ok=True, detail="this gateway's own")
    detail = "free" if port.free else "taken, or not to be bound by this user"
    remedy = f"ss -ltnp 'sport = :{port.number}' shows who has it; or set another {port.setting}"
    return Finding(f"{port.setting} {port.number}", port.free, detail, remedy)


def _listed(name: str, wanted: tuple[str, ...], missing: tuple[str, ...], remedy: str) -> Finding:
    detail = f"not found: {', '.join(missing)}" if missing else ", ".join(wanted)
    return Finding(name, not missing, detail, remedy)


def install_command(packages: list[str], *, root: bool) -> str:
    """Returns the command that installs Debian packages."""
    return f"{'' if root else 'sudo '}apt-get install -y {' '.join(sorted(set(packages)))}"


_CHECKS: tuple[Callable[[Machine], Finding], ...] = (
    _python,
    _bundled,
    _proxy,
    _app_programs,
    _anvil,
    _forwards,
    _data_directory,
    _disk,
    _database,
)


# Looking


def _proxy_version() -> tuple[int, ...] | None:
    """Returns the version of the HAProxy that is there; None if there is none."""
    program = find_program("haproxy")
    if program is None:
        return None
    printed = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"version (\d+)\.(\d+)", printed.stdout)
    return None if found is None else (int(found[1]), int(found[2]))


def _missing_app_programs(settings: Settings) -> tuple[str, ...] | None:
    """Returns those that are missing; None where apps don't use this machine's."""
    if all(kind.has_images for kind in engine_choice.kinds(settings)):
        return None
    return tuple(name for name in APP_PROGRAMS if shutil.which(name) is None)


def _server_facts(url: str) -> "Server | str | None":
    if not url:
        return None
    from moorage.storage.postgres import server_facts  # noqa: PLC0415  (its driver)

    try:
        return server_facts(url)
    except (ConfigurationInvalid, DatabaseUnavailable) as error:
        return str(error).removeprefix("database_url: ")


def _schema(settings: Settings) -> dict[str, Any]:
    """Returns the facts of `Machine` about what the database holds."""
    try:
        return {"upgraded_at_start": is_earlier(settings.database)}
    except SchemaUnknown as error:
        return {"schema_problem": str(error)}
    except (ConfigurationInvalid, DatabaseUnavailable) as error:
        # A server that is not there has a row of its own.
        return {"schema_problem": "" if settings.database_url else str(error)}


def _anvil_problem() -> str:
    """Returns its path; "" when it is missing."""
    try:
        return str(find_anvil([Path("node_modules").absolute()]))
    except LocalChainFailed:
        return ""


def _free_mib(data_dir: Path) -> int:
    """Returns what is free of the disk of a directory, which may be yet to be made."""
    there = next(each for each in (data_dir, *data_dir.parents) if each.exists())
    return shutil.disk_usage(there).free // (1024 * 1024)


def _forwarding() -> bool:
    try:
        return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"
    except OSError:
        return False


def _ports(settings: Settings) -> list[Port]:
    """Tries the ports; those of a proxy that an earlier gateway left running count as free."""
    data_dir = Path(settings.data_dir).absolute()
    proxy_ports = (80, 443) if settings.tls else (settings.proxy_port,)
    adopted = port_in_use_by(data_dir / "proxy") in proxy_ports
    wanted = [
        ("listen", settings.host, settings.port, False),
        ("operator_listen", settings.operator_host, settings.operator_port, False),
        *(("proxy_listen", settings.proxy_host, number, adopted) for number in proxy_ports),
    ]
    return [
        _tried_port(setting, host, number, data_dir, adopted=ours)
        for setting, host, number, ours in wanted
        if number != 0
    ]


def _tried_port(setting: str, host: str, number: int, data_dir: Path, *, adopted: bool) -> Port:
    free = adopted or _is_free(host, number)
    return Port(
        setting=setting,
        number=number,
        free=free,
        ours=adopted or (not free and gateway_holds(number, data_dir)),
    )


def _is_free(host: str, number: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, number))
            trial.listen(1)
        except OSError:
            return False
        return True
