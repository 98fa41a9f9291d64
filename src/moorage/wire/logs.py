"""Logs: a page of lines, and what a stream's events hold."""

from typing import Annotated

from msgspec import Meta

from moorage.records.deployment import LogKind, LogStream
from moorage.wire.shape import Absent, Body, CamelBody, Time

Kept = Annotated[
    bool, Meta(description="false: it is kept no longer, so whatever was written is gone")
]


Place = Annotated[str, Meta(description="a place in the log; `after` takes it")]


class LogItem(Body, frozen=True, kw_only=True):
    """One line. Its text may hold any character but a line feed, terminal escapes too."""

    time: Annotated[Time | None, Meta(description="null where a crash of the machine took it")]
    stream: LogStream
    text: str


class LogBody(CamelBody, frozen=True, kw_only=True):
    """Lines of a log, oldest first. `ended`: nothing more can come behind `next`."""

    project_id: Annotated[str, Absent("")]
    deployment_id: Annotated[str, Absent("")]
    kind: Annotated[LogKind, Absent("")]
    lines: list[LogItem]
    next: Place
    ended: Annotated[bool, Absent(False)]
    kept: Annotated[Kept, Absent(True)]


class ProjectLogItem(CamelBody, frozen=True, kw_only=True):
    """One line, and whose it is."""

    deployment_id: str
    time: Time | None
    stream: LogStream
    text: str


class ProjectLogBody(CamelBody, frozen=True, kw_only=True):
    """Lines of a project's deployments, oldest first."""

    project_id: str
    kind: LogKind
    lines: list[ProjectLogItem]
    next: Place
    ended: bool = False


class LogEnd(Body, frozen=True, kw_only=True):
    """What the last event of a stream holds."""

    next: Place
    kept: Kept
