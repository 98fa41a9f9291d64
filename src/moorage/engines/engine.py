"""What every engine does: build a deployment's files, run them, say what runs.

A deployment's id names all that an engine makes for it, so each call is idempotent: after a crash
it is simply made again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeAlias

from moorage.address import Address
from moorage.planning.plan import Plan
from moorage.records.log import LogKind, LogStream

Cursor: TypeAlias = int
"""A place in a log, as its engine says: handed back, never computed with. 0 is before all lines."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line, decoded leniently: it may hold any character but a line feed."""

    at_ms: int  # when it was read from the app, Unix time; 0 when a crash took it away
    stream: LogStream
    text: str
    cursor: Cursor  # behind this line


@dataclass(frozen=True, kw_only=True)
class LogPage:
    """Some of a log's lines, in order; `next` is behind them, and behind what was passed over."""

    lines: tuple[LogLine, ...]
    next: Cursor


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one build or one app may use."""

    memory_bytes: int
    cpu_millis: int  # thousandths of a core
    pids: int
    disk_bytes: int
    volume_bytes: int = 0  # of a volume that is made for it


@dataclass(frozen=True, kw_only=True)
class BuildSpec:
    """One build: `source` holds the upload's files and is only read."""

    deployment_id: str
    source: Path
    plan: Plan
    limits: Limits
    timeout_seconds: int
    owner: str = ""  # whose caches it may use, a wallet; "" for none
    variables: Mapping[str, str] = field(default_factory=dict)  # the deployer's, for the build


@dataclass(frozen=True, kw_only=True)
class InstanceSpec:
    """One running app, from a deployment that was built."""

    deployment_id: str
    plan: Plan
    limits: Limits
    variables: Mapping[str, str] = field(default_factory=dict)  # the deployer's, for the app
    volume: str | None = None  # the id of the volume that is its /data


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A running app, and where it answers HTTP."""

    deployment_id: str
    address: Address
    port: int  # where the app listens inside


@dataclass(frozen=True, kw_only=True)
class AppExit:
    """How an app ended."""

    exit_code: int | None  # None when it can't be known
    out_of_memory: bool


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a running app has used."""

    cpu_ms: int  # processor time since it was started
    memory_bytes: int  # now, without cached files that the kernel would give up first


class IncidentKind(StrEnum):
    """What happens to an app that is not its own doing alone."""

    NO_SPACE = "no_space"  # stopped, or its build ended, as the machine's disk is nearly full
    VOLUME_MENDED = "volume_mended"  # its volume had errors, and was checked when it was started


@dataclass(frozen=True)
class Incident:
    """Something that an app's owner is to be told."""

    deployment_id: str
    kind: IncidentKind


@dataclass(frozen=True, kw_only=True)
class Disks:
    """What is free where apps' disks are, and what they may still take of it.

    Empty mappings where disks are only watched.
    """

    free_bytes: int
    growth: Mapping[str, int] = field(default_factory=dict)  # by deployment, of those with a disk
    volume_growth: Mapping[str, int] = field(default_factory=dict)  # by volume
    held: frozenset[str] = frozenset()  # deployments that were ended and do not fit yet


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do that not every one can."""

    volumes: bool  # apps may have a directory that outlives their versions
    caches: bool  # builds keep what later ones of their wallet can use


class Engine(Protocol):
    """Builds and runs apps. Raises DeployFailed for what the app or its files caused."""

    @property
    def capabilities(self) -> Capabilities:
        """What this one can do."""
        ...

    async def open(self) -> str:
        """Probe the machine and set up what all apps share; says which mode this runs in.

        Raises IsolationMissing rather than isolate less.
        """
        ...

    async def check(self) -> None:
        """Return when apps can be run, and are held, as `open` found. Raises IsolationMissing."""
        ...

    async def close(self, *, stop_apps: bool) -> None:
        """Let go of the machine. With `stop_apps`, no process, mount or namespace is left."""
        ...

    def memory_bytes(self) -> int:
        """What all apps together may use of the machine's memory."""
        ...

    async def confine(self, service: str, pid: int, *, memory_bytes: int) -> bool:
        """Have a program that serves all apps, such as the proxy, use no more memory than this.

        It may run already, and goes on when the engine is closed without `stop_apps`; asked again
        for it, or for its successor, the new bound holds. False where nothing can bound it. Raises
        OSError.
        """
        ...

    async def build(self, spec: BuildSpec) -> None:
        """Copy the files in, then run install and build. What an earlier try left is removed."""
        ...

    async def copy(self, origin_id: str, deployment_id: str) -> None:
        """Make a deployment of another's files and build log, as built; that one may be running.

        What an earlier try left is removed. Raises DeployFailed when the origin was never built.
        """
        ...

    async def start(self, spec: InstanceSpec, *, timeout_seconds: float) -> Instance:
        """Start the app, unless it runs, and wait until it listens; finds the port it took."""
        ...

    async def stop(self, deployment_id: str) -> None:
        """Stop the app (SIGTERM, then SIGKILL), keep its files and logs."""
        ...

    async def discard(self, deployment_id: str) -> None:
        """Stop the app and remove all that was made for it but the logs; nothing can start it."""
        ...

    async def remove(self, deployment_id: str) -> None:
        """Stop the app and remove all that was made for it, logs too."""
        ...

    async def volumes(self) -> set[str]:
        """Every volume id that anything on this machine is left of."""
        ...

    async def clear_volume(self, volume_id: str) -> None:
        """Remove what is in a volume, unless an app has it."""
        ...

    async def remove_volume(self, volume_id: str) -> None:
        """Remove a volume with all that is in it; the apps that have it must be stopped."""
        ...

    async def running(self) -> dict[str, Instance]:
        """What really runs and listens now, by deployment id."""
        ...

    async def instance(self, deployment_id: str) -> Instance | None:
        """One app, if it runs and listens at this moment.

        Of one that runs and does not listen, the end is waited for, a second at most.
        """
        ...

    async def next_exit(self) -> str:
        """Wait until an app has ended that is neither being started nor stopped; its deployment.

        By then nobody is let in any more. That an end is told is likely, not certain.
        """
        ...

    async def next_incident(self) -> Incident:
        """Wait until something has happened that an app's owner is to be told. Likely told once."""
        ...

    async def connections(self, deployment_id: str) -> int:
        """How many connections the app has open; 0 when it does not run."""
        ...

    async def usage(self) -> dict[str, Usage]:
        """What each app that runs has used, by deployment id."""
        ...

    async def disks(self) -> Disks:
        """What is free for disks, and promised to those there are."""
        ...

    async def free_networks(self) -> int | None:
        """How many more apps can be given a network; None: any number."""
        ...

    async def known(self) -> set[str]:
        """Every deployment id that anything on this machine is left of, running or not."""
        ...

    async def exit_reason(self, deployment_id: str) -> AppExit | None:
        """How the app ended; None while it runs."""
        ...

    async def log_tail(self, deployment_id: str, kind: LogKind, *, max_bytes: int = 65_536) -> str:
        """The last part of a log, decoded leniently; empty when there is none."""
        ...

    async def read_log(
        self,
        deployment_id: str,
        kind: LogKind,
        *,
        after: Cursor = 0,
        since_ms: int = 0,
        tail: int | None = None,
        limit: int = 10_000,
    ) -> LogPage:
        """Lines of a log, oldest first, at most `limit` of them, and no more than a mebibyte.

        They begin behind `after`, at the time `since_ms`, or where the last `tail` lines do,
        whichever comes last. What is no longer kept is passed over; a cursor that was never given
        begins anew. Empty when there is no log.
        """
        ...

    async def note(self, deployment_id: str, text: str) -> None:
        """Write a line of the gateway's own into the app's log; none when the app is gone."""
        ...
