"""The interface of engines, which build and run deployments.

The deployment's id identifies everything that an engine makes for it. Calls are idempotent: after a
crash, the caller repeats them.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias, TypedDict, Unpack

import msgspec

from moorage.address import Address
from moorage.archive.tree import Tree
from moorage.planning.plan import Plan
from moorage.records.deployment import LogKind, LogStream

Cursor: TypeAlias = int
"""A position in a log. Only its engine may compute with it. 0 is before all lines."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, decoded with replacement; it may contain any character but a line feed."""

    at_ms: int  # when it was read from the app, Unix time; 0 if a crash has destroyed it
    stream: LogStream
    text: str
    cursor: Cursor  # after this line


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Some of a log's lines, in order; `next` is after them, and after what was skipped."""

    lines: tuple[LogLine, ...]
    next: Cursor


class Lines(TypedDict, total=False):
    """Which lines of a log to read: where they begin is what comes last."""

    after: Cursor
    since_ms: int
    tail: int | None  # the last ones, so many
    limit: int  # 10,000 by default


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one build or one app may use."""

    memory_bytes: int
    cpu_millis: int  # thousandths of a core
    pids: int
    disk_bytes: int
    volume_bytes: int = 0  # the size of a new volume for it


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """One build; `source` has the upload's files and is only read."""

    deployment_id: str
    source: Path
    plan: Plan
    limits: Limits
    timeout_seconds: int
    owner: str = ""  # the wallet whose caches it may use; "" for none
    variables: Mapping[str, str] = field(default_factory=dict)  # the deployer's, for the build

    def inputs_sha256(self) -> str:
        """Returns the SHA-256, in hex, of the files that the plan's install reads. Blocking."""
        digest = hashlib.sha256()
        for name in sorted(self.plan.install_inputs):
            path = self.source / name
            content = path.read_bytes() if path.is_file() else None
            digest.update(msgspec.json.encode((name, content)))
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """How to run the app of a built deployment."""

    deployment_id: str
    plan: Plan
    limits: Limits
    owner: str = ""  # the wallet whose app it is
    variables: Mapping[str, str] = field(default_factory=dict)  # the deployer's, for the app
    volume: str | None = None  # the id of the volume at /data
    makes_volume: bool = True  # whether the volume is made where there is none; else it is lost
    resizes: bool = False  # whether its disk and volume get the sizes of `limits`, if they differ
    command: str = ""  # a line for `sh -c`, run in place of the app; "" for the app itself
    listens: bool = True  # False: no port is looked for, and it may end by itself
    log: LogKind = LogKind.RUNTIME  # where what it prints goes

    @property
    def line(self) -> str:
        """The line that is run; "" for what an image starts by itself."""
        return self.command or self.plan.start


@dataclass(frozen=True, kw_only=True)
class NewVolume:
    """A volume that is to be made."""

    volume_id: str
    owner: str  # the wallet whose apps use it
    deployment_id: str  # whose app is to use it first; its build is on the same engine
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A running app, and the address where it answers HTTP; None for one that does not listen."""

    deployment_id: str
    address: Address | None
    port: int | None  # where the app listens inside


@dataclass(frozen=True, kw_only=True)
class AppExit:
    """How an app ended."""

    exit_code: int | None  # None if it is not known
    out_of_memory: bool
    ended_at_ms: int | None = field(default=None, compare=False)  # Unix time; None: not known


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a running app has used."""

    cpu_ms: int  # processor time since its start
    memory_bytes: int  # now, without cached files that the kernel would drop first


@dataclass(frozen=True, kw_only=True)
class WrittenFiles:
    """What an app has written to its own disk since it was built, its volume aside.

    Directories of tools, such as caches, are not counted. The paths are as the app sees them, the
    first few of each kind.
    """

    files: int
    size_bytes: int
    complete: bool  # False: there may be more; counting is bounded
    paths: tuple[str, ...] = ()  # below the app's directory
    outside: tuple[str, ...] = ()  # elsewhere; `read_volume` takes none of these


class Keep(StrEnum):
    """What stays of a deployment when its app is stopped."""

    ALL = "all"  # it can be started again
    LOGS = "logs"  # its files, or its image, are removed
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class AppState:
    """What one app does at this moment; neither if it was never started, or does not listen yet."""

    instance: Instance | None = None  # it runs, and listens if it is to
    exit: AppExit | None = None  # it has ended, and all that it wrote is in its log


class IncidentKind(StrEnum):
    """What can happen to an app that nobody has asked for."""

    ENDED = "ended"  # and its address refuses connections
    NO_SPACE = "no_space"  # it, or its build, was killed as the machine's disk is nearly full
    VOLUME_REPAIRED = "volume_repaired"  # its volume had errors, which were repaired at its start
    VOLUME_LOST = "volume_lost"  # its volume is gone; it was not started


@dataclass(frozen=True)
class Incident:
    """Something that has happened to an app."""

    deployment_id: str
    kind: IncidentKind


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What there is for apps, and by how many bytes their disks can still grow.

    The mappings are empty if the engine has no disks of fixed size.
    """

    memory_bytes: int  # that all apps together may use
    cpu_millis: int | None = None  # that apps may be promised; None if they share what there is
    free_bytes: int  # for apps' disks
    networks: int | None = None  # how many more apps can get one; None if there is no limit
    growth: Mapping[str, int] = field(default_factory=dict)  # by deployment, of those with a disk
    volume_growth: Mapping[str, int] = field(default_factory=dict)  # by volume
    held: frozenset[str] = frozenset()  # deployments that were killed and do not fit yet


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """The optional features of an engine."""

    dockerfiles: bool = False  # builds any Dockerfile; others only what is planned from it
    owners_apart: bool = False  # what an app has lies in a place of its wallet, and stays there
    written_files: bool = False  # an app can write beside its volume, and `read_volume` takes it


class LogSource(Protocol):
    """What has the logs of deployments."""

    async def read_log(self, deployment_id: str, kind: LogKind, **lines: Unpack[Lines]) -> LogPage:
        """Returns lines of a log, oldest first, and at most a mebibyte; empty if there is no log.

        Lines that were deleted are skipped. A cursor beyond the log's end starts at its beginning.
        """
        ...


class ProjectData(LogSource, Protocol):
    """What an export reads of a project: an engine, or the copies in a backup."""

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """Copies the files of a built app into the new directory `target`, to be built elsewhere.

        Links are left out, and directories with a name in `without`. The app may be running. Raises
        DeployFailed if there is no finished build, or its files are not kept apart from its image.
        """
        ...

    async def read_volume(
        self, volume_id: str, target: Path, *, max_bytes: int | None = None, written_by: str = ""
    ) -> Tree | None:
        """Writes a volume's files to the new file `target`; None for one that was never made.

        Apps may be using it; what they write meanwhile may be missing. `max_bytes` is the volume's
        own size by default. With `written_by`, takes what the app of that deployment has written
        below its directory instead, at the same paths, without directories of tools. Raises
        DeployFailed, also for more than `max_bytes`, ClusterUnavailable, OSError.
        """
        ...


class EngineView(LogSource, Protocol):
    """What every gateway may ask of an engine, also of one that another process has open."""

    @property
    def capabilities(self) -> Capabilities:
        """The optional features of this engine."""
        ...

    async def check(self) -> None:
        """Checks that apps can still run isolated, as `open` found.

        Raises IsolationMissing, or LeaderAway when the process that has it open reports nothing.
        """
        ...

    async def resources(self) -> Resources:
        """Measures what there is for apps. Raises NoCapacity if that is not known."""
        ...

    async def known(self) -> set[str]:
        """Returns the ids of all deployments of which anything is on this machine."""
        ...

    async def running(self) -> Collection[str]:
        """Returns the deployments whose apps run now, and listen if they are to."""
        ...

    async def written(self, deployment_id: str) -> WrittenFiles | None:
        """Returns what the app has written since its build; None if that is not known.

        Of a stopped app, what it had written by then. What it takes is bounded.
        """
        ...


class Builds(Protocol):
    """Makes deployments, of an upload or of another deployment.

    What an earlier attempt left of a deployment is removed first. Raises DeployFailed.
    """

    async def build(self, spec: BuildSpec) -> None:
        """Copies the files, then runs install and build."""
        ...

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """Makes a built deployment from another's files and build log; the other may be running.

        Raises DeployFailed if the origin was never built.
        """
        ...


class Runs(Protocol):
    """Runs the apps of built deployments."""

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """Starts the app unless it runs, waits until it listens, and finds its port.

        What does not listen may have ended when this returns: `inspect` tells. Raises DeployFailed.
        """
        ...

    async def stop(self, deployment_id: str, *, keep: Keep = Keep.ALL) -> None:
        """Stops the app (SIGTERM, then SIGKILL), and removes what is not kept."""
        ...

    async def running(self) -> dict[str, Instance]:
        """Returns the apps that run now, and listen if they are to, by deployment id."""
        ...

    async def inspect(self, deployment_id: str) -> AppState:
        """Returns what an app does now.

        If it runs but does not listen as it is to, waits up to a second for its end.
        """
        ...

    async def next_incident(self) -> Incident:
        """Waits for the next incident. Most are reported, and once; a crash may lose one.

        The end of an app that is being started or stopped is none.
        """
        ...

    async def connections(self, deployment_id: str) -> int | None:
        """Returns how many connections the app has open; 0 if it does not run.

        None if it runs and nothing counts them: it must be left the time to end what it does.
        """
        ...

    async def usage(self) -> dict[str, Usage]:
        """Returns what each running app has used, by deployment id."""
        ...

    async def note(self, deployment_id: str, text: str, *, log: LogKind = LogKind.RUNTIME) -> None:
        """Writes a line of the gateway's into a log; does nothing if the deployment is gone."""
        ...


class Data(ProjectData, Protocol):
    """Keeps the volumes of projects, which outlive deployments."""

    async def volumes(self) -> set[str]:
        """Returns the ids of all volumes of which anything is on this machine."""
        ...

    async def write_volume(self, volume: NewVolume, tree: Tree) -> None:
        """Makes a new volume with these files, in place of any of its id.

        It is on its disk afterwards. Raises DeployFailed if an app uses it or the files do not fit,
        OSError, ClusterUnavailable.
        """
        ...

    async def delete_volume(self, volume_id: str, *, unless_used: bool = False) -> None:
        """Removes a volume and its content; the apps that use it must be stopped.

        `unless_used`: does nothing if an app uses it.
        """
        ...


class Engine(EngineView, Builds, Runs, Data, Protocol):
    """Builds and runs apps. Raises DeployFailed for failures that the app or its files caused."""

    async def open(self) -> str:
        """Checks the machine and sets up what all apps share; returns the name of the mode.

        Raises IsolationMissing if it cannot isolate apps fully.
        """
        ...

    async def close(self, *, stop_apps: bool) -> None:
        """Ends the engine. With `stop_apps`, it leaves no process, mount or namespace."""
        ...

    async def running(self) -> dict[str, Instance]:
        """As `Engine.running`."""
        ...


_TAIL_LINES = 10_000


async def log_tail(
    source: LogSource, deployment_id: str, kind: LogKind, *, max_chars: int = 65_536
) -> str:
    """Returns the end of a log as text; empty if there is no log."""
    page = await source.read_log(deployment_id, kind, tail=_TAIL_LINES, limit=_TAIL_LINES)
    return "".join(f"{line.text}\n" for line in page.lines)[-max_chars:]
