"""The machine as an ordinary user's gateway finds it: what it lacks, what all apps share."""

import logging
import resource
import signal
import uuid
from dataclasses import dataclass
from pathlib import Path

from moorage.clock import Clock
from moorage.errors import DeployFailed, IsolationMissing
from moorage.planning.plan import Plan, Stack
from moorage.runtimes.logs.collecting import Collecting
from moorage.runtimes.rootless import app, build, pasta, probe
from moorage.runtimes.rootless.place import Machine
from moorage.runtimes.rootless.processes import (
    command_line,
    descendants,
    everything,
    send,
    wait_until_dead,
)
from moorage.runtimes.rootless.rules import Policy, own_addresses, ruleset
from moorage.runtimes.rootless.watch import Watch
from moorage.runtimes.runtime import BuildSpec, Limits
from moorage.runtimes.sandbox import firewall, resolver, seccomp, shims, tool
from moorage.runtimes.sandbox.cgroup import Cgroups, Hierarchy
from moorage.runtimes.sandbox.record import Stage
from moorage.runtimes.sandbox.toolchains import Store
from moorage.runtimes.traffic import Traffic
from moorage.threads import in_thread
from moorage.whole_file import replace_file

logger = logging.getLogger(__name__)

_MIB = 1024 * 1024
_EMPTY = "empty"  # what a trial run builds
_TRIAL_LIMITS = Limits(memory_bytes=128 * _MIB, cpu_millis=1000, pids=16, disk_bytes=8 * _MIB)
_TRIAL_PLAN = Plan(
    stack=Stack.CUSTOM, directory="", install=None, build="/bin/true", start="/bin/true",
    port=1, build_env={}, run_env={}, because=(),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What the gateway asks for, before the machine was looked at."""

    state_dir: Path
    run_dir: Path
    instance_id: str
    tools: dict[str, Path]
    build_env: dict[str, str]
    deny: tuple[str, ...]
    allow: tuple[str, ...]
    toolchains: Store | None
    traffic: Traffic
    accept_soft_limits: bool
    hierarchy: Hierarchy | None
    clock: Clock


def open_machine(configuration: Configuration) -> Machine:
    """Set up what all apps share and sweep up; blocks. Raises IsolationMissing."""
    servers, hierarchy = resolver.find_servers(), configuration.hierarchy
    missing = probe.missing()
    if not servers:
        missing.append(probe.MISSING_RESOLVER)
    if not configuration.accept_soft_limits:
        missing.append(probe.soft_limits(with_groups=hierarchy is not None))
    if missing:
        raise IsolationMissing(tuple(missing))
    deployments = configuration.state_dir / "deployments"
    for directory in (deployments, configuration.run_dir):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
    for name in (_EMPTY, "bin"):
        (configuration.run_dir / name).mkdir(exist_ok=True)
    collecting = Collecting(
        deployments=deployments, state_dir=configuration.state_dir, run_dir=configuration.run_dir
    )
    groups = None
    if hierarchy is not None:
        groups = Cgroups(hierarchy, f"moorage-{configuration.instance_id}")
        groups.open()
    machine = Machine(
        state_dir=configuration.state_dir,
        run_dir=configuration.run_dir,
        servers=servers,
        tools={**configuration.tools, **shims.write(configuration.run_dir / "bin")},
        build_env=configuration.build_env,
        toolchains=configuration.toolchains,
        cgroups=groups,
        hard_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        traffic=configuration.traffic,
        clock=configuration.clock,
        collecting=collecting,
    )
    replace_file(machine.seccomp, seccomp.filter_bytes())
    replace_file(machine.rules, ruleset(_policy(configuration, machine)).encode())
    collecting.ensure()
    sweep(machine)
    return machine


def close_machine(machine: Machine) -> None:
    """Take away what all apps shared; they must be stopped."""
    machine.collecting.end()
    if machine.cgroups is not None:
        machine.cgroups.close()
    for path in (machine.seccomp, machine.rules):
        path.unlink(missing_ok=True)
    for name in shims.SHIMS:
        (machine.run_dir / "bin" / name).unlink()
    for directory in ("bin", _EMPTY, "."):
        (machine.run_dir / directory).resolve().rmdir()


def sweep(machine: Machine) -> None:
    """End processes and remove places that no finished build accounts for."""
    known = {}
    for place in machine.places():
        record = place.record
        if record is None:
            place.remove()
            continue
        known[str(place.directory)] = record
        if record.stage is Stage.BUILDING:
            place.abandon()
    ended = []
    for process in everything().values():
        marker = pasta.marker(command_line(process.id.pid))
        if marker is None or Path(marker).parent != machine.deployments:
            continue
        if marker not in known or known[marker].pasta != process.id:
            logger.warning("a process of %s is nobody's: it is ended", Path(marker).name)
            ended += [process.id, *(it.id for it in descendants(process.id, everything()))]
            send(process.id, signal.SIGKILL)
    wait_until_dead(ended)
    for place in machine.places():
        record = place.record
        for stranger in [] if record is None else app.strangers(record):
            send(stranger, signal.SIGKILL)
    for door in app.doors_to_nowhere():
        send(door, signal.SIGKILL)


def keep_rules(machine: Machine, configuration: Configuration) -> None:
    """Load the filter anew into what runs when the machine has other addresses. Raises OSError."""
    rules = ruleset(_policy(configuration, machine)).encode()
    if machine.rules.read_bytes() == rules:
        return
    replace_file(machine.rules, rules)
    for place in machine.places():
        record = place.record
        if record is not None and record.holder is not None and app.is_running(record):
            tool.run(pasta.enter_argv(record.holder.pid, ("nft", "-f", str(machine.rules))))


async def trial(machine: Machine) -> None:
    """Build a deployment that does nothing, with all that isolates one. Raises IsolationMissing."""
    place = machine.place(f"trial-{uuid.uuid4().hex[:8]}")
    spec = BuildSpec(
        deployment_id=place.deployment_id, source=machine.run_dir / _EMPTY, plan=_TRIAL_PLAN,
        limits=_TRIAL_LIMITS, timeout_seconds=20,
    )  # fmt: skip
    try:
        await in_thread(place.begin)
        await build.run_steps(place, spec, Watch())
    except OSError as error:
        raise IsolationMissing((f"a trial run failed: {error}",)) from error
    except DeployFailed as failed:
        said = failed.log_tail.strip() or failed.reason
        problem = f"a trial run failed: {said}"
        raise IsolationMissing((problem, *probe.likely_causes())) from failed
    finally:
        await in_thread(place.remove)


def _policy(configuration: Configuration, machine: Machine) -> Policy:
    addresses = tool.run(["ip", "-json", "-4", "address"])
    return Policy(
        deny=(
            *own_addresses(addresses),
            *firewall.connected_networks(addresses),
            *configuration.deny,
        ),
        allow=configuration.allow,
        resolvers=machine.servers,
        traffic=configuration.traffic,
    )
