"""A deployment's directory, which only the gateway's user may enter."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from moorage.engines.disks.disk import APP_CACHES, CACHES
from moorage.engines.disks.trees import copy_tree, remove_all, remove_below
from moorage.engines.engine import Limits
from moorage.engines.host import deployment_directory as shared
from moorage.engines.host import tool
from moorage.engines.host.kernel.cgroup import APPS, BUILDS
from moorage.engines.host.record import Stage
from moorage.engines.isolation.bubblewrap import View
from moorage.engines.isolation.etc import write_etc
from moorage.engines.rootless.pasta import RESIDENT, Files
from moorage.engines.rootless.record import Record

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's
_ENTRY_BYTES = 4096  # the minimum that a file or directory counts
_HIDDEN_BYTES = 1 << 62
_KEEP_OWNER = -1


class Excess(StrEnum):
    """The resource of which a build or an app used too much."""

    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, kw_only=True)
class Host(shared.Host["DeploymentDirectory"]):
    """What all deployments of a gateway share."""

    hard_files: int  # the gateway's hard limit on open descriptors

    def directory(self, deployment_id: str) -> "DeploymentDirectory":
        """Returns the directory of a deployment, which need not exist."""
        return DeploymentDirectory(host=self, deployment_id=deployment_id)

    @property
    def rules(self) -> Path:
        """The file with the packet filter that every app's namespace gets."""
        return self.run_dir / "rules.nft"

    @property
    def seccomp(self) -> Path:
        """The file with the system call filter."""
        return self.run_dir / "seccomp.bpf"


@dataclass(frozen=True, kw_only=True)
class DeploymentDirectory(shared.DeploymentDirectory):
    """One deployment's directory. Its path also identifies the deployment's processes."""

    host: Host

    @property
    def app(self) -> Path:
        """The app's files, `/app` inside."""
        return self.path / "app"

    @property
    def home(self) -> Path:
        """The app's home, `/home/app` inside."""
        return self.path / "home"

    @property
    def tmp(self) -> Path:
        """A build's `/tmp`."""
        return self.path / "tmp"

    @property
    def excess_file(self) -> Path:
        """The file that says why the gateway killed the last command, if it did."""
        return self.path / "excess"

    @property
    def excess(self) -> Excess | None:
        """The content of `excess_file`; None if there is none."""
        try:
            return Excess(self.excess_file.read_text())
        except (FileNotFoundError, ValueError):
            return None

    @property
    def app_group(self) -> str:
        """The control group of the app."""
        return f"{APPS}/app-{self.deployment_id}"

    @property
    def build_group(self) -> str:
        """The control group of the build."""
        return f"{BUILDS}/build-{self.deployment_id}"

    @property
    def record(self) -> Record | None:
        """The deployment's record; None if there is none."""
        return Record.read(self.path)

    def begin(self) -> None:
        """Makes an empty directory in stage BUILDING; removes what was there."""
        self.remove()
        self.path.mkdir(parents=True, mode=0o700)
        self.logs.create()
        self.write(Record(deployment_id=self.deployment_id, stage=Stage.BUILDING))
        for name in ("app", "home", "tmp"):
            (self.path / name).mkdir(mode=0o700)

    def fill(self, source: Path) -> None:
        """Copies an upload's files into the directory. Raises NotAFile, OSError."""
        copy_tree(source, self.app, uid=_KEEP_OWNER)

    def view(self, toolchains: Mapping[str, Path], *, building: bool) -> View:
        """Returns what is mounted in the sandbox; writes the app's `/etc`."""
        etc = self.path / "etc"
        write_etc(etc, RESIDENT, self.host.servers)
        return View(
            app=self.app,
            home=self.home,
            etc=etc,
            tools=self.host.tools,
            toolchains=toolchains,
            build_tmp=self.tmp if building else None,
        )

    def files(self, *, building: bool) -> Files:
        """Returns the files that pasta's script reads and writes."""
        return Files(
            rules=self.host.rules,
            seccomp=self.host.seccomp,
            status=None if building else self.status_file,
        )

    def make_group(self, limits: Limits, *, building: bool) -> list[Path]:
        """Makes a control group; returns its directories, none without control groups."""
        if self.host.cgroups is None:
            return []
        group = self.build_group if building else self.app_group
        self.host.cgroups.create(group, limits)
        return self.host.cgroups.directories(group)

    def remove_groups(self) -> None:
        """Kills the processes in the control groups, and removes the groups."""
        if self.host.cgroups is not None:
            for group in (self.build_group, self.app_group):
                self.host.cgroups.remove(group)

    def ran_out_of_memory(self) -> bool:
        """Returns whether the gateway, or the kernel, killed the last command for its memory."""
        groups = self.host.cgroups
        both = (self.build_group, self.app_group)
        killed = groups is not None and any(groups.oom_kills(group) for group in both)
        return killed or self.excess is Excess.MEMORY

    def clear_build_leftovers(self) -> None:
        """Removes a build's `/tmp` and the package managers' caches."""
        remove_tree(self.tmp)
        for directory, caches in ((self.home, CACHES), (self.app, APP_CACHES)):
            for cache in caches:
                remove_below(directory, cache)

    def abandon(self) -> None:
        """Removes everything but the logs, and records the build as failed."""
        for name in ("app", "home", "tmp", "etc"):
            remove_tree(self.path / name)
        self.write(Record(deployment_id=self.deployment_id, stage=Stage.FAILED))

    def remove(self) -> None:
        """Removes the socket and all files."""
        self.socket.unlink(missing_ok=True)
        remove_tree(self.path)

    def used_bytes(self) -> int:
        """Returns how many bytes the deployment takes on disk, with its logs."""
        return used_bytes(self.path)


def used_bytes(directory: Path) -> int:
    """Returns how many bytes a tree takes on disk; each entry counts at least one block.

    Follows no link. A directory that cannot be read, as its mode forbids it or its path is too
    long, counts as more than any limit.
    """
    total, waiting = 0, [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += _size(entry)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # the app may be changing its files at this moment
        except OSError:
            total += _HIDDEN_BYTES
    return total


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return max(_ENTRY_BYTES, entry.stat(follow_symlinks=False).st_blocks * _BLOCK_BYTES)
    except FileNotFoundError:
        return 0


def remove_tree(directory: Path) -> None:
    """Removes a tree, if it exists, even if an app has taken permissions from its own user."""
    if directory.is_dir():
        tool.run(["chmod", "-R", "u+rwX", "--", str(directory)])
        remove_all(str(directory))
