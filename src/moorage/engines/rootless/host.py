"""Sets up what all apps share, for a gateway that runs as an ordinary user."""

import logging
import resource
import signal
from pathlib import Path

from moorage.engines.engine import Limits
from moorage.engines.host import tool
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.kernel.cgroup import Cgroups, Hierarchy
from moorage.engines.host.kernel.memory import open_groups
from moorage.engines.host.record import Stage
from moorage.engines.host.trial import EMPTY
from moorage.engines.isolation import firewall, resolver, seccomp, shims
from moorage.engines.rootless import app, pasta, probe
from moorage.engines.rootless.deployment_directory import Host
from moorage.engines.rootless.processes import (
    command_line,
    descendants,
    everything,
    send,
    wait_until_dead,
)
from moorage.engines.rootless.rules import Policy, own_addresses, ruleset
from moorage.errors import IsolationMissing
from moorage.whole_file import replace_file

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024
TRIAL_LIMITS = Limits(memory_bytes=128 * _MIB, cpu_millis=1000, pids=16, disk_bytes=8 * _MIB)


def open_host(
    configuration: HostConfiguration, *, hierarchy: Hierarchy | None, accept_soft_limits: bool
) -> Host:
    """Sets up what all apps share, and removes leftovers; blocks. Raises IsolationMissing."""
    servers = resolver.find_servers()
    missing = probe.missing()
    if not servers:
        missing.append(probe.MISSING_RESOLVER)
    if not accept_soft_limits:
        missing.append(probe.soft_limits(with_groups=hierarchy is not None))
    if missing:
        raise IsolationMissing(tuple(missing))
    for directory in (configuration.state_dir / "deployments", configuration.run_dir):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    for name in (EMPTY, "bin"):
        (configuration.run_dir / name).mkdir(exist_ok=True)
    groups = None
    if hierarchy is not None:
        groups = Cgroups(hierarchy, f"moorage-{configuration.instance_id}")
    host = Host(
        configuration=configuration,
        servers=servers,
        tools={**configuration.tools, **shims.write(configuration.run_dir / "bin")},
        cgroups=groups,
        shares=open_groups(groups, configuration.memory),
        hard_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    )
    replace_file(host.seccomp, seccomp.filter_bytes(shared_memory=host.cgroups is not None))
    replace_file(host.rules, ruleset(_policy(host)).encode())
    host.collecting.ensure()
    sweep(host)
    return host


def close_host(host: Host) -> None:
    """Removes what all apps shared; they must be stopped."""
    host.collecting.end()
    if host.cgroups is not None:
        host.cgroups.close()
    for path in (host.seccomp, host.rules):
        path.unlink(missing_ok=True)
    for name in shims.SHIMS:
        (host.run_dir / "bin" / name).unlink()
    for directory in ("bin", EMPTY, "."):
        (host.run_dir / directory).resolve().rmdir()


def sweep(host: Host) -> None:
    """Ends processes and removes directories that belong to no finished build."""
    known = {}
    for directory in host.directories():
        record = directory.record
        if record is None:
            directory.remove()
            continue
        known[str(directory.path)] = record
        if record.stage is Stage.BUILDING:
            directory.abandon()
    ended = []
    for process in everything().values():
        marker = pasta.marker(command_line(process.id.pid))
        if marker is None or Path(marker).parent != host.deployments:
            continue
        if marker not in known or known[marker].pasta != process.id:
            logger.warning("a process of %s is nobody's: it is ended", Path(marker).name)
            ended += [process.id, *(it.id for it in descendants(process.id, everything()))]
            send(process.id, signal.SIGKILL)
    wait_until_dead(ended)
    for directory in host.directories():
        record = directory.record
        for stranger in [] if record is None else app.strangers(record):
            send(stranger, signal.SIGKILL)
    for proxy in app.stray_proxies():
        send(proxy, signal.SIGKILL)


def keep_rules(host: Host) -> None:
    """Reloads the filter of all running apps if the machine's addresses changed. Raises OSError."""
    rules = ruleset(_policy(host)).encode()
    if host.rules.read_bytes() == rules:
        return
    replace_file(host.rules, rules)
    for directory in host.directories():
        record = directory.record
        if record is not None and record.holder is not None and app.is_running(record):
            tool.run(pasta.enter_argv(record.holder.pid, ("nft", "-f", str(host.rules))))


def _policy(host: Host) -> Policy:
    configuration = host.configuration
    addresses = tool.run(["ip", "-json", "-4", "address"])
    return Policy(
        deny=(
            *own_addresses(addresses),
            *firewall.connected_networks(addresses),
            *configuration.deny,
        ),
        allow=configuration.allow,
        resolvers=host.servers,
        traffic=configuration.traffic,
    )
