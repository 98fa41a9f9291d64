"""Prepares a sandboxed command: its arguments, and the descriptors that bwrap reads."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.bubblewrap import View, memory_file
from moorage.engines.isolation.slots import Slot
from moorage.engines.sandbox.deployment_directory import DeploymentDirectory
from moorage.planning.plan import Plan


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
