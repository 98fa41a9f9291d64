"""Prepares an isolated command; bwrap gets its options through a private descriptor."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from moorage.engines.engine import Limits
from moorage.engines.isolation import bubblewrap
from moorage.engines.isolation.bubblewrap import memory_file
from moorage.engines.rootless import pasta
from moorage.engines.rootless.deployment_directory import DeploymentDirectory
from moorage.planning.plan import Plan

# Without control groups nothing counts shared memory, and a shared mapping of /dev/zero is shared
# memory. /dev/full reads the same and can't be mapped.
_NO_MEMORY_IN_DEV = ("--dev-bind", "/dev/full", "/dev/zero")


def command_argv(
    directory: DeploymentDirectory, command: str, limits: Limits, *, building: bool
) -> list[str]:
    """Returns the arguments that run `command` isolated, with bwrap's options from stdin.

    Makes the control group for it, if there are any. Raises OSError.
    """
    host = directory.host
    return pasta.command_argv(
        marker=directory.path,
        files=directory.files(building=building),
        groups=directory.make_group(limits, building=building),
        rlimits=pasta.rlimits(limits, hard_files=host.hard_files, memory=host.cgroups is None),
        command=command,
    )


@contextmanager
def options(
    directory: DeploymentDirectory,
    plan: Plan,
    environment: Mapping[str, str],
    toolchains: Mapping[str, Path],
    *,
    building: bool,
    more: Sequence[str] = (),
) -> Iterator[int]:
    """Opens a descriptor with bwrap's options, `more` last; closes it afterwards."""
    arguments = bubblewrap.options(
        view=directory.view(toolchains, building=building),
        environment=environment,
        directory=plan.directory,
        seccomp_fd=pasta.SECCOMP_FD,
        status_fd=None if building else pasta.STATUS_FD,
    )
    uid = str(pasta.RESIDENT.app_uid)
    counted = () if directory.host.cgroups else _NO_MEMORY_IN_DEV
    arguments += ["--uid", uid, "--gid", uid, *counted, *more]
    descriptor = memory_file("options", bubblewrap.encode_options(arguments))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
