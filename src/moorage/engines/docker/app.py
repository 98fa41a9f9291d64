"""Starts an app's container, finds its port, opens its socket proxy, stops it."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from moorage.engines.docker.container import (
    container,
    container_name,
    pids_beside,
    scratch,
)
from moorage.engines.docker.deployment_directory import DeploymentDirectory, Host, Record
from moorage.engines.dockerd.daemon import Daemon, NotFound, Refused, calling
from moorage.engines.engine import AppExit, InstanceSpec
from moorage.engines.failure import crashed, not_bound, out_of_memory
from moorage.engines.host import listeners
from moorage.engines.host.deployment_directory import Stage
from moorage.engines.host.listeners import Listener, choose, first_listeners, opened_table
from moorage.engines.host.processes import ask_to_end
from moorage.engines.images.image import is_name, numeric_user
from moorage.errors import DeployFailed, FailureCause
from moorage.process import is_running, process_record, wait_until_ended
from moorage.threads import in_thread, to_its_end

_OTHER_PORT_GRACE_SECONDS = 1.0  # how long to prefer the wanted port to a listener on another one
_POLL_SECONDS = 0.01
_MAX_POLL_SECONDS = 0.1
_LATE_SHARE = 20  # polling delays a start by at most a twentieth of its duration
_PROXY_UID = 1_899_999_999  # nobody's; systemd's table of user ids lists its range as unused
_DOCKERS_RESOLVER = "127.0.0.11"  # Docker's name server listens in each app's network
_NOT_ENDED = ("created", "running", "paused")  # as Docker knows of nothing else yet
NOTED_SECONDS = 20.0
"""How long Docker may take to note the end of a container's process."""

_PASSWD = "/etc/passwd"  # noqa: S105 (a path)
_PASSWD_BYTES = 1024 * 1024  # a stranger's image may have one of any size

logger = logging.getLogger(__name__)


async def launch(directory: DeploymentDirectory, image: str, spec: InstanceSpec) -> Record:
    """Makes the container and starts it; leaves none on errors. Raises DeployFailed, OSError."""
    await remove_container(directory)
    try:
        record = await _launched(directory, image, spec)
        await in_thread(directory.write, record)
    except BaseException:
        await to_its_end(_clear(directory))
        raise
    return record


async def _launched(directory: DeploymentDirectory, image: str, spec: InstanceSpec) -> Record:
    host, data = directory.host, None
    if spec.volume is not None:
        data = directory.volume_view(spec.volume)
    name = container_name(host.around.instance_id, directory.deployment_id)
    try:
        async with calling():
            found = (await host.daemon.docker.images.inspect(image))["Config"]
        body = container(spec, image, host.around, data=data, scratch=scratch(found))
        user = str(found.get("User") or "")
        await in_thread(directory.show_volume, spec, numeric_user(user, ""))
        async with calling():
            made = await host.daemon.docker.containers.create(body, name=name)
        if data is not None and is_name(user):
            # Docker mounts the view for this too, and would make a directory where there is none.
            passwd = await host.daemon.beginning(made.id, _PASSWD, max_bytes=_PASSWD_BYTES)
            uid = numeric_user(user, passwd.decode(errors="replace"))
            await in_thread(directory.show_volume, spec, uid)
        async with calling():
            await made.start()
            state = (await made.show())["State"]
    except NotFound as error:
        gone = "its image is gone: deploy it again"
        raise DeployFailed(FailureCause.INTERRUPTED, gone) from error
    except Refused as error:  # such as a program that is not in the image
        reason, tail = f"the image can't be started: {error}", directory.logs.last_words()
        raise DeployFailed(FailureCause.CRASHED, reason, log_tail=tail) from error
    return Record(
        deployment_id=directory.deployment_id,
        stage=Stage.STARTED,
        container_id=made.id,
        process=process_record(state["Pid"]) if state["Pid"] else None,
        listens=spec.listens,
        log=spec.log,
    )


async def _clear(directory: DeploymentDirectory) -> None:
    """Removes what is left of a launch that failed."""
    try:
        await remove_container(directory)
        await in_thread(directory.host.volumes.hide, directory.deployment_id)
    except OSError as error:
        logger.warning("deployment %s leaves a container: %s", directory.deployment_id, error)


def runs(record: Record | None) -> bool:
    """Returns whether the container runs; blocks for microseconds."""
    return record is not None and record.process is not None and is_running(record.process)


def namespace(record: Record) -> Path:
    """Returns the container's network namespace. Raises FileNotFoundError without a process."""
    if record.process is None:
        raise FileNotFoundError("the container has no process")
    return Path(f"/proc/{record.process.pid}/ns/net")


async def wait_listening(
    directory: DeploymentDirectory, record: Record, spec: InstanceSpec, *, timeout_seconds: float
) -> Listener:
    """Waits until the app listens. Raises DeployFailed if it ends, or does not in time."""
    clock, wanted = directory.host.clock, spec.plan.port
    begun, other_since = clock.monotonic_seconds(), float("inf")
    while True:
        found = choose(await in_thread(_listeners, record), wanted)
        if not runs(record):
            raise await _crashed(directory, record, spec)
        waited = clock.monotonic_seconds() - begun
        last = waited >= timeout_seconds
        if found is not None:
            other_since = min(other_since, waited)
            if found.port == wanted or last or waited - other_since >= _OTHER_PORT_GRACE_SECONDS:
                return found
        if last:
            tail = await in_thread(directory.logs.last_words)
            raise not_bound(spec, timeout_seconds, tail=tail)
        await asyncio.sleep(min(max(waited / _LATE_SHARE, _POLL_SECONDS), _MAX_POLL_SECONDS))


def _listeners(record: Record) -> list[Listener]:
    try:
        found = first_listeners(namespace(record))
    except FileNotFoundError:
        return []
    return [it for it in found if it.target != _DOCKERS_RESOLVER]


async def _crashed(
    directory: DeploymentDirectory, record: Record, spec: InstanceSpec
) -> DeployFailed:
    ended = await exit_of(directory.host.daemon, record)
    code = None if ended is None else ended.exit_code
    await directory.host.followers.drained(directory.deployment_id)
    tail = await in_thread(directory.logs.last_words)
    if ended is not None and ended.out_of_memory:
        return out_of_memory(spec, code=code, tail=tail)
    return crashed(spec, code=code, tail=tail)


async def exit_of(daemon: Daemon, record: Record) -> AppExit | None:
    """Returns how the app ended; None while it runs, or if it was never started."""
    if record.stage is not Stage.STARTED or runs(record):
        return None
    if record.exit_code is not None or record.container_id is None:
        return AppExit(exit_code=record.exit_code, out_of_memory=record.out_of_memory)
    try:
        async with calling():
            ended = daemon.docker.containers.container(record.container_id)
            with suppress(TimeoutError):  # the process is gone, and Docker may not have noted it
                async with asyncio.timeout(NOTED_SECONDS):
                    await ended.wait()
            state = (await ended.show())["State"]
    except NotFound:
        return AppExit(exit_code=None, out_of_memory=False)
    return how_it_ended(state)


def how_it_ended(state: dict[str, Any]) -> AppExit:
    """Returns the end that Docker tells in a container's `State`."""
    code = None if state.get("Status") in _NOT_ENDED else state.get("ExitCode")
    return AppExit(exit_code=code, out_of_memory=bool(state.get("OOMKilled")))


async def stop(host: Host, record: Record, *, grace_seconds: float) -> None:
    """Ends the app: SIGTERM, then SIGKILL after `grace_seconds`. Raises DaemonFailed."""
    if record.container_id is None or record.process is None or not runs(record):
        return
    ask_to_end(await in_thread(pids_beside, host.cgroups, record.process.pid))
    try:
        async with asyncio.timeout(grace_seconds):
            await wait_until_ended(record.process)
    except TimeoutError:
        pass
    try:
        async with calling():
            container = host.daemon.docker.containers.container(record.container_id)
            await container.stop(t=0, signal="SIGKILL")
    except NotFound:
        return


async def remove_container(directory: DeploymentDirectory) -> None:
    """Removes the deployment's container, whatever its state. Raises DaemonFailed."""
    host = directory.host
    name = container_name(host.around.instance_id, directory.deployment_id)
    try:
        async with calling():
            await host.daemon.docker.containers.container(name).delete(force=True, v=True)
    except NotFound:
        return


def open_proxy(directory: DeploymentDirectory, record: Record, listener: Listener) -> None:
    """Starts a socket proxy to `listener`, after closing an earlier one. Raises OSError."""
    close_proxy(directory)
    host = directory.host
    connections = host.configuration.traffic.app_connections
    host.cgroups.create(directory.proxy_group, listeners.limits(connections))
    listeners.open_proxy(
        directory.socket,
        groups=host.cgroups.directories(directory.proxy_group),
        netns=namespace(record),
        uid=_PROXY_UID,
        listener=listener,
        connections=connections,
    )


def close_proxy(directory: DeploymentDirectory) -> None:
    """Ends the socket proxy, if there is one."""
    directory.socket.unlink(missing_ok=True)
    directory.host.cgroups.remove(directory.proxy_group)


def is_open(directory: DeploymentDirectory, record: Record) -> bool:
    """Returns whether the app runs, and its socket proxy, and it listens, if it is to."""
    if not record.listens:
        return runs(record)
    if record.listener is None or not runs(record) or not directory.socket.is_socket():
        return False
    if not directory.host.cgroups.pids(directory.proxy_group):
        return False
    try:
        with opened_table(namespace(record)) as table:
            return record.listener in table.on_port(record.listener.port)
    except FileNotFoundError:
        return False


def connections(record: Record | None) -> int:
    """Returns the number of open connections to the target of the socket proxy."""
    if record is None or record.listener is None or not runs(record):
        return 0
    try:
        with opened_table(namespace(record)) as table:
            return table.connections_to(record.listener.port)
    except FileNotFoundError:
        return 0
