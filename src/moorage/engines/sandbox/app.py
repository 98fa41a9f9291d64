"""Launches an app detached from the gateway, finds its port, opens its address, stops it."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.engine import AppExit, InstanceSpec, Limits
from moorage.engines.failure import crashed, not_bound, out_of_memory
from moorage.engines.host import listeners, processes
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.environment import app_environment
from moorage.engines.host.listeners import (
    Listener,
    ListenerTable,
    choose,
    first_listeners,
    opened_table,
)
from moorage.engines.host.processes import ask_to_end
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.bubblewrap import View, memory_file, parse_child_pid, parse_exit_code
from moorage.engines.isolation.network import Forwarding, load
from moorage.engines.isolation.slots import Slot
from moorage.engines.sandbox.deployment_directory import DeploymentDirectory, Record
from moorage.errors import DeployFailed
from moorage.planning.plan import Plan
from moorage.threads import in_thread
from moorage.whole_file import read_file


@dataclass(frozen=True, kw_only=True)
class Launch:
    """An argument list, and the descriptors that the process must get."""

    argv: list[str]
    pass_fds: tuple[int, ...]


@contextmanager
def prepared(
    directory: DeploymentDirectory,
    slot: Slot,
    *,
    script: str,
    group: str,
    environment: Mapping[str, str],
    plan: Plan,
    command: str,
    status: Path | None,
    data: Path | None = None,
    downloads: Path | None = None,
) -> Iterator[Launch]:
    """Opens everything needed to run `command` in the deployment's sandbox; closes it afterwards.

    `status` is an app's status file; None for a build.
    """
    host, disk = directory.host, directory.disk
    view = View(
        app=disk.app,
        home=disk.home,
        etc=disk.etc,
        tools=host.tools,
        build_tmp=disk.tmp if status is None else None,
        data=data,
        downloads=downloads,
        toolchains={
            name: host.toolchains.path(name, version) for name, version in plan.toolchains.items()
        },
    )
    opened: list[int] = []
    try:
        opened.append(seccomp_fd := memory_file("seccomp", host.seccomp))
        status_fd = None
        if status is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            opened.append(status_fd := os.open(status, flags, 0o600))
        options = bubblewrap.options(
            view=view,
            environment=environment,
            directory=plan.directory,
            seccomp_fd=seccomp_fd,
            status_fd=status_fd,
            leaves_children=script is bubblewrap.DETACHED,
        )
        opened.append(args_fd := memory_file("args", bubblewrap.encode_options(options)))
        identity = bubblewrap.identity_argv(netns=directory.network(slot).path, uid=slot.app_uid)
        argv = bubblewrap.launch_argv(
            script,
            host.cgroups.directories(group),
            [
                str(host.oom_score),
                *identity,
                *bubblewrap.bwrap_argv(args_fd=args_fd, command=command),
            ],
        )
        yield Launch(argv=argv, pass_fds=tuple(opened))
    finally:
        for descriptor in opened:
            os.close(descriptor)


OTHER_PORT_GRACE_SECONDS = 1.0  # how long to prefer the wanted port to a listener on another one
START_CPU_MILLIS = 1000  # a starting app may use a whole core, even if its limit is lower
_POLL_SECONDS = 0.002
_MAX_POLL_SECONDS = 0.05
_LATE_SHARE = 50  # polling delays a start by at most a fiftieth of its duration
_POLL_SHARE = 10  # polling takes at most about a tenth of the time, even if a poll is slow
_OTHERS_EVERY_SECONDS = 0.1
_STATUS_SECONDS = 1.0  # how long to wait for the exit code after the end of the last process


def is_running(directory: DeploymentDirectory) -> bool:
    """Returns whether the app has a process."""
    return bool(directory.host.cgroups.pids(directory.app_group))


def has_ended(directory: DeploymentDirectory) -> bool:
    """Returns whether the app's command has ended; other processes may still be ending."""
    return not is_running(directory) or parse_exit_code(_status(directory)) is not None


def launch(directory: DeploymentDirectory, slot: Slot, spec: InstanceSpec) -> None:
    """Starts the app, detached; blocks for a few milliseconds. Raises OSError."""
    cgroups, traffic = directory.host.cgroups, directory.host.configuration.traffic
    cgroups.create(directory.proxy_group, listeners.limits(traffic.app_connections))
    cgroups.create(directory.app_group, _starting(spec.limits))
    data = directory.show_volume(spec, slot.app_uid)
    with (
        directory.logs.open_pipes(spec.log) as pipes,
        prepared(
            directory,
            slot,
            script=bubblewrap.DETACHED if spec.listens else bubblewrap.COMMAND,
            group=directory.app_group,
            environment=app_environment(spec.plan, spec.variables, has_data=data is not None),
            plan=spec.plan,
            command=spec.line,
            status=directory.status_file,
            data=data,
        ) as prepared_launch,
    ):
        processes.detach(
            prepared_launch.argv,
            stdin=subprocess.DEVNULL,
            stdout=pipes.out,
            stderr=pipes.err,
            pass_fds=prepared_launch.pass_fds,
        )


def _starting(limits: Limits) -> Limits:
    return Limits(
        memory_bytes=limits.memory_bytes,
        cpu_millis=max(limits.cpu_millis, START_CPU_MILLIS),
        pids=limits.pids,
        disk_bytes=limits.disk_bytes,
    )


async def wait_begun(directory: DeploymentDirectory) -> None:
    """Waits until the command runs, or has ended."""
    while not (has_ended(directory) or _separate_monitor(directory)):  # noqa: ASYNC110 (no event)
        await asyncio.sleep(_POLL_SECONDS)


async def wait_listening(
    directory: DeploymentDirectory, slot: Slot, spec: InstanceSpec, *, timeout_seconds: float
) -> Listener:
    """Waits until the app listens; returns its listener.

    Raises DeployFailed if it exits, or does not listen in time.
    """
    with opened_table(directory.network(slot).path) as table:
        return await _wait(directory, spec, table, timeout_seconds)


async def _wait(
    directory: DeploymentDirectory, spec: InstanceSpec, table: ListenerTable, timeout_seconds: float
) -> Listener:
    clock, wanted = directory.host.clock, spec.plan.port
    begun, others = clock.monotonic_seconds(), _Others()
    monitored = False
    while True:
        if not is_running(directory):
            raise await _crashed(directory, spec)
        monitored = monitored or _separate_monitor(directory)
        asked = clock.monotonic_seconds()
        waited = asked - begun
        listener = choose(table.on_port(wanted), wanted)
        if listener is None:
            listener = await others.patient(directory, waited, last=waited >= timeout_seconds)
        if listener is not None and monitored:
            return listener
        if waited >= timeout_seconds:
            tail = await in_thread(directory.logs.last_words)
            raise not_bound(spec, timeout_seconds, tail=tail)
        await asyncio.sleep(poll_pause(waited, took_seconds=clock.monotonic_seconds() - asked))


def poll_pause(waited: float, *, took_seconds: float) -> float:
    """Returns the seconds until the next poll of a starting app.

    `waited` is the time since its start, `took_seconds` the duration of the last poll. The pause
    grows, as polling takes processor time from the app.
    """
    pause = min(max(waited / _LATE_SHARE, _POLL_SECONDS), _MAX_POLL_SECONDS)
    return max(pause, _POLL_SHARE * took_seconds)


class _Others:
    """Finds listeners on ports other than the wanted one; accepts them after a grace period."""

    def __init__(self) -> None:
        self._next_look = 0.0
        self._since: float | None = None

    async def patient(
        self, directory: DeploymentDirectory, waited: float, *, last: bool
    ) -> Listener | None:
        """Returns one of them if any has listened for the grace period, or at the `last` poll."""
        if waited < self._next_look and not last:
            return None
        self._next_look = waited + _OTHERS_EVERY_SECONDS
        found = choose(await in_thread(listeners_of, directory), 0)
        if found is None:
            return None
        self._since = waited if self._since is None else self._since
        return found if last or waited - self._since >= OTHER_PORT_GRACE_SECONDS else None


def listeners_of(directory: DeploymentDirectory) -> list[Listener]:
    """Returns the first listeners in the app's network; none if it has no network."""
    record = directory.record
    slot = None if record is None else directory.slot(record)
    try:
        return [] if slot is None else first_listeners(directory.network(slot).path)
    except FileNotFoundError:
        return []


def _pid_namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None


def _separate_monitor(directory: DeploymentDirectory) -> bool:
    """Moves the process that will report the exit code out of the app's control group.

    In that group, the kernel might kill it together with the app. Returns False until it has
    started the app's first process, which must stay in the group.
    """
    if parse_child_pid(_status(directory)) is None:
        return False
    ours = _pid_namespace(os.getpid())
    cgroups = directory.host.cgroups
    for pid in cgroups.pids(directory.app_group):
        if _pid_namespace(pid) == ours:
            cgroups.join(directory.proxy_group, pid)
    return True


def _status(directory: DeploymentDirectory) -> str:
    try:
        return directory.status_file.read_text()
    except FileNotFoundError:
        return ""


async def exit_of(directory: DeploymentDirectory, record: Record) -> AppExit | None:
    """Returns how the app ended; None while it runs, or if it was never started."""
    if record.stage is not Stage.STARTED or is_running(directory):
        return None
    await _wait_for_status(directory)
    code = parse_exit_code(_status(directory))
    killed = directory.host.cgroups.oom_kills(directory.app_group) > 0
    return AppExit(
        exit_code=record.exit_code if code is None else code,
        out_of_memory=killed or record.out_of_memory,
        ended_at_ms=None if code is None else _written_at_ms(directory.status_file),
    )


def _written_at_ms(file: Path) -> int:
    return file.stat().st_mtime_ns // 1_000_000


async def _crashed(directory: DeploymentDirectory, spec: InstanceSpec) -> DeployFailed:
    await _wait_for_status(directory)
    code = parse_exit_code(_status(directory))
    tail = await in_thread(directory.logs.last_words)
    if directory.host.cgroups.oom_kills(directory.app_group):
        return out_of_memory(spec, code=code, tail=tail)
    return crashed(spec, code=code, tail=tail)


async def _wait_for_status(directory: DeploymentDirectory) -> None:
    """Waits until the monitor has reported the exit code, for _STATUS_SECONDS at most."""
    cgroups, now = directory.host.cgroups, directory.host.clock.monotonic_seconds
    deadline = now() + _STATUS_SECONDS
    while parse_exit_code(_status(directory)) is None:
        if not cgroups.pids(directory.proxy_group) or now() > deadline:
            return  # the monitor is in that group
        await asyncio.sleep(_POLL_SECONDS)


def open_address(directory: DeploymentDirectory, slot: Slot, record: Record) -> None:
    """Forwards the port in `record` to its listener; with none, starts a socket proxy there."""
    close_proxy(directory)
    if record.listener is None:
        return
    connections = directory.host.configuration.traffic.app_connections
    if record.port is None:
        _open_proxy(directory, slot, record.listener, connections)
        return
    forwarding = Forwarding(port=record.port, listener=record.listener, connections=connections)
    load(forwarding, netns=directory.network(slot).path)


def _open_proxy(
    directory: DeploymentDirectory, slot: Slot, listener: Listener, connections: int
) -> None:
    cgroups = directory.host.cgroups
    listeners.open_proxy(
        directory.socket,
        groups=cgroups.directories(directory.proxy_group),
        netns=directory.network(slot).path,
        uid=slot.proxy_uid,
        listener=listener,
        connections=connections,
    )


def close_proxy(directory: DeploymentDirectory) -> None:
    """Ends the socket proxy's processes, but not the app's monitor in the same group."""
    record = directory.record
    for pid in [] if record is None else proxy_pids(directory, record):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    directory.socket.unlink(missing_ok=True)


def proxy_pids(directory: DeploymentDirectory, record: Record) -> Iterator[int]:
    """Returns the proxy's processes, newest first: those in its group without the app's uid.

    The app's monitor is in the group too, is older, and has the app's uid.
    """
    slot = directory.slot(record)
    for pid in reversed(directory.host.cgroups.pids(directory.proxy_group)):
        if slot is None or _uid_of(pid) not in (None, slot.app_uid):
            yield pid


def is_up(directory: DeploymentDirectory, record: Record) -> bool:
    """Returns whether the app runs, and listens where its address leads if it is to listen."""
    if not record.listens:
        return record.stage is Stage.STARTED and not has_ended(directory)
    if record.listener is None:
        return False
    return is_open(directory, record) and listens(directory, record)


def is_open(directory: DeploymentDirectory, record: Record) -> bool:
    """Returns whether the app runs, with a network or a socket proxy that lead to it."""
    if not is_running(directory):
        return False
    if record.port is not None:
        slot = directory.slot(record)
        return slot is not None and directory.network(slot).exists
    return next(proxy_pids(directory, record), None) is not None and directory.socket.is_socket()


def listens(directory: DeploymentDirectory, record: Record) -> bool:
    """Returns whether the app listens where its address leads."""
    slot, listener = directory.slot(record), record.listener
    if slot is None or listener is None:
        return False
    try:
        with opened_table(directory.network(slot).path) as table:
            return listener in table.on_port(listener.port)
    except FileNotFoundError:
        return False


def connections(directory: DeploymentDirectory) -> int:
    """Returns the number of open connections to where the app's address leads."""
    record = directory.record
    slot = None if record is None else directory.slot(record)
    if record is None or slot is None or record.listener is None:
        return 0
    try:
        with opened_table(directory.network(slot).path) as table:
            return table.connections_to(record.listener.port)
    except FileNotFoundError:
        return 0


def _uid_of(pid: int) -> int | None:
    try:
        status = read_file(f"/proc/{pid}/status")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(status.partition(b"\nUid:")[2].split(maxsplit=1)[0])


async def stop(directory: DeploymentDirectory, *, grace_seconds: float) -> None:
    """Ends the app: SIGTERM, then SIGKILL after `grace_seconds`."""
    if not is_running(directory):
        return
    cgroups, clock = directory.host.cgroups, directory.host.clock
    ask_to_end(cgroups.pids(directory.app_group))
    deadline = clock.monotonic_seconds() + grace_seconds
    while is_running(directory) and clock.monotonic_seconds() < deadline:  # noqa: ASYNC110 (no event)
        await asyncio.sleep(_POLL_SECONDS)
    await asyncio.to_thread(cgroups.kill, directory.app_group)
    await _wait_for_status(directory)
