"""Launches an app detached from the gateway, finds its port, opens its socket proxy, stops it."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from moorage.engines.engine import AppExit, InstanceSpec, Limits
from moorage.engines.failure import crashed, last_words, not_bound
from moorage.engines.host.environment import app_environment
from moorage.engines.host.network import socket_proxy
from moorage.engines.host.network.listeners import Listener, choose
from moorage.engines.host.record import Stage
from moorage.engines.isolation.bubblewrap import parse_exit_code
from moorage.engines.rootless import launch as launching
from moorage.engines.rootless import listeners, pasta
from moorage.engines.rootless.deployment_directory import DeploymentDirectory, Excess
from moorage.engines.rootless.processes import (
    Process,
    ProcessId,
    command_line,
    descendants,
    everything,
    find,
    is_alive,
    network_of,
    send,
    spawn,
    wait_until_dead,
)
from moorage.engines.rootless.record import Record
from moorage.engines.rootless.watch import OUT_OF_MEMORY_WORDS
from moorage.errors import DeployFailed, FailureCause
from moorage.process import reap
from moorage.records.log import LogKind
from moorage.threads import in_thread

OTHER_PORT_GRACE_SECONDS = 1.0  # how long to prefer the wanted port to a listener on another one
_POLL_SECONDS = 0.01
_POLL_SHARE = 10  # polling takes at most about a tenth of the time, even if a poll is slow
_CHILD_SECONDS = 10.0
_SHELLS = frozenset({"sh", "bash", "dash", "bwrap"})
_KILLED = 137


def launch(
    directory: DeploymentDirectory, spec: InstanceSpec, toolchains: Mapping[str, Path]
) -> Record:
    """Starts the app, detached, and records its processes; blocks. Raises OSError."""
    record = Record(
        deployment_id=directory.deployment_id,
        stage=Stage.STARTED,
        memory_bytes=spec.limits.memory_bytes,
        disk_bytes=spec.limits.disk_bytes,
    )
    directory.write(record)
    directory.excess_file.unlink(missing_ok=True)
    directory.status_file.write_text("")
    argv = launching.command_argv(directory, spec.plan.start, spec.limits, building=False)
    environment = app_environment(spec.plan, spec.variables)
    with (
        directory.logs.open_pipes(LogKind.RUNTIME) as pipes,
        launching.options(directory, spec.plan, environment, toolchains, building=False) as options,
    ):
        started = spawn(argv, {0: options, 1: pipes.out, 2: pipes.err})
    record = msgspec.structs.replace(record, pasta=started, holder=_holder(started))
    directory.write(record)
    return record


def _holder(started: ProcessId) -> ProcessId | None:
    """Waits for pasta's child and returns it; None if pasta ends first."""
    deadline = time.monotonic() + _CHILD_SECONDS
    while is_alive(started) and time.monotonic() < deadline:
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            return None
        for process in filter(None, map(find, pids)):
            return process.id
        time.sleep(0.001)
    return None


def is_running(record: Record | None) -> bool:
    """Returns whether the app has a process."""
    return record is not None and is_alive(record.pasta)


def has_ended(directory: DeploymentDirectory, record: Record | None) -> bool:
    """Returns whether the app's command has ended; other processes may still be ending."""
    return not is_running(record) or parse_exit_code(_status(directory)) is not None


def _status(directory: DeploymentDirectory) -> str:
    try:
        return directory.status_file.read_text()
    except FileNotFoundError:
        return ""


async def wait_listening(
    directory: DeploymentDirectory, record: Record, spec: InstanceSpec, *, timeout_seconds: float
) -> Listener:
    """Waits until the app listens; returns its listener.

    Raises DeployFailed if it exits, or does not listen in time.
    """
    clock, wanted = directory.host.clock, spec.plan.port
    begun, other_since = clock.monotonic_seconds(), float("inf")
    while True:
        asked = clock.monotonic_seconds()
        last = asked - begun >= timeout_seconds
        found = choose(await in_thread(_listeners, record), wanted)
        if not is_running(record):
            raise await in_thread(_crashed, directory, record, spec)
        if found is not None:
            other_since = min(other_since, asked)
            patient = last or asked - other_since >= OTHER_PORT_GRACE_SECONDS
            if found.port == wanted or patient:
                return found
        if last:
            tail = await in_thread(last_words, directory)
            raise not_bound(spec, timeout_seconds, tail=tail)
        took = clock.monotonic_seconds() - asked
        await asyncio.sleep(max(_POLL_SECONDS, _POLL_SHARE * took))


def _listeners(record: Record) -> list[Listener]:
    if record.holder is None:
        return []
    return listeners.listeners(listeners.sockets_of(record.holder.pid))


def _crashed(directory: DeploymentDirectory, record: Record, spec: InstanceSpec) -> DeployFailed:
    tail = last_words(directory)
    ended = exit_of(directory, record)
    if ended is not None and ended.out_of_memory:
        size = f"{spec.limits.memory_bytes // (1024 * 1024)} MiB"
        reason = f"`{spec.plan.start}` needs more memory than the app's {size}"
        return DeployFailed(FailureCause.OUT_OF_MEMORY, reason, log_tail=tail)
    if directory.excess is Excess.DISK:
        return DeployFailed(FailureCause.OUT_OF_DISK, "the app's disk is full", log_tail=tail)
    return crashed(spec, code=None if ended is None else ended.exit_code, tail=tail)


def open_proxy(directory: DeploymentDirectory, record: Record, listener: Listener) -> Record:
    """Starts a socket proxy to `listener`, after closing an earlier one. Raises OSError."""
    close_proxy(directory, record)
    if record.holder is None:
        raise ProcessLookupError("the app is gone")
    inner = socket_proxy.proxy_argv(
        pasta.enter_argv(record.holder.pid, _WITHOUT_RIGHTS),
        listener=listener,
        connections=directory.host.configuration.traffic.app_connections,
    )
    with (
        socket_proxy.listening(directory.socket, mode=0o600) as endpoint,
        Path(os.devnull).open("r+b") as null,
    ):
        nothing = null.fileno()
        opened = spawn(inner, {3: endpoint.fileno(), 0: nothing, 1: nothing, 2: nothing})
    record = msgspec.structs.replace(record, proxy=opened, listener=listener)
    directory.write(record)
    return record


_WITHOUT_RIGHTS = (
    "setpriv", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs",
)  # fmt: skip


def close_proxy(directory: DeploymentDirectory, record: Record) -> None:
    """Ends the socket proxy, if there is one."""
    if record.proxy is not None:
        send(record.proxy, signal.SIGKILL)
        wait_until_dead([record.proxy])
        reap(record.proxy.pid)
    directory.socket.unlink(missing_ok=True)


def is_open(directory: DeploymentDirectory, record: Record) -> bool:
    """Returns whether the app and its socket proxy run."""
    return is_running(record) and is_alive(record.proxy) and directory.socket.is_socket()


def limits_of(record: Record) -> Limits:
    """Returns the limits that the gateway itself enforces."""
    return Limits(
        memory_bytes=record.memory_bytes,
        cpu_millis=0,
        pids=0,
        disk_bytes=record.disk_bytes,
    )


def listens(record: Record) -> bool:
    """Returns whether the app listens on the target of its socket proxy."""
    return record.listener in _listeners(record)


def connections(record: Record) -> int:
    """Returns the number of open connections to the target of the socket proxy."""
    if record.holder is None or record.listener is None or not is_running(record):
        return 0
    return listeners.connections(listeners.sockets_of(record.holder.pid), record.listener.port)


def exit_of(directory: DeploymentDirectory, record: Record) -> AppExit | None:
    """Returns how the app ended; None while it runs, or if it was never started."""
    if record.stage is not Stage.STARTED or is_running(record):
        return None
    if record.exit_code is not None:
        return AppExit(exit_code=record.exit_code, out_of_memory=record.out_of_memory)
    try:
        code = parse_exit_code(directory.status_file.read_text())
    except FileNotFoundError:
        return AppExit(exit_code=None, out_of_memory=False)
    out_of_memory = directory.ran_out_of_memory()
    if code is None and (out_of_memory or directory.excess is not None):
        code = _KILLED
    return AppExit(
        exit_code=code, out_of_memory=out_of_memory or _reported_out_of_memory(directory, code)
    )


def _reported_out_of_memory(directory: DeploymentDirectory, code: int | None) -> bool:
    """Returns whether an app that failed has logged that it got no memory."""
    if code in (None, 0):
        return False
    tail = last_words(directory)
    return any(word in tail for word in OUT_OF_MEMORY_WORDS)


async def stop(directory: DeploymentDirectory, record: Record, *, grace_seconds: float) -> None:
    """Ends the app: SIGTERM, then SIGKILL after `grace_seconds`. Raises TimeoutError."""
    clock = directory.host.clock
    if record.pasta is None or record.holder is None or not is_running(record):
        return
    for process in _sigterm_targets(descendants(record.holder, await in_thread(everything))):
        send(process.id, signal.SIGTERM)
    deadline = clock.monotonic_seconds() + grace_seconds
    while is_running(record) and clock.monotonic_seconds() < deadline:  # noqa: ASYNC110 (no event)
        await asyncio.sleep(_POLL_SECONDS)
    await in_thread(kill, record)


def kill(record: Record) -> None:
    """Kills the app's processes; blocks. Raises TimeoutError.

    If the first process of the app's pid namespace dies, all others in it die too, and bwrap
    reports the exit.
    """
    if record.pasta is None or record.holder is None:
        return
    left = descendants(record.holder, everything())
    firsts = [process for process in left if process.parent == record.holder.pid]
    for process in firsts:
        send(process.id, signal.SIGKILL)
    wait_until_dead([record.pasta, record.holder, *(it.id for it in left)])
    reap(record.pasta.pid)


def _sigterm_targets(processes: list[Process]) -> list[Process]:
    """Returns the processes to send SIGTERM: no shells, as the app would be killed with them."""
    return [it for it in processes if it.name not in _SHELLS] or [
        it for it in processes if it.name != "bwrap"
    ]


def stray_proxies() -> list[ProcessId]:
    """Returns proxies in networks without other processes: their apps and records are gone."""
    proxies: dict[int, list[ProcessId]] = {}
    inhabited = set()
    for process in everything().values():
        network = network_of(process.id.pid)
        if network is None:
            continue
        if command_line(process.id.pid)[:1] == [str(socket_proxy.PROXY)]:
            proxies.setdefault(network, []).append(process.id)
        else:
            inhabited.add(network)
    return [it for network, them in proxies.items() if network not in inhabited for it in them]


def strangers(record: Record) -> list[ProcessId]:
    """Returns processes in the app's network that are not in its record, such as old proxies."""
    if record.holder is None or not is_running(record):
        return []
    network, all_processes = network_of(record.holder.pid), everything()
    known = {record.pasta, record.holder, record.proxy}
    inside = {it.id for it in descendants(record.holder, all_processes)}
    return [
        process.id
        for process in all_processes.values()
        if process.id not in known | inside and network_of(process.id.pid) == network
    ]
