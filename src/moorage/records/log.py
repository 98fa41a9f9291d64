"""The two logs of a deployment, and who wrote a line."""

from enum import StrEnum


class LogKind(StrEnum):
    """Which of a deployment's two logs."""

    BUILD = "build"
    RUNTIME = "runtime"


class LogStream(StrEnum):
    """Who wrote a line of a log."""

    OUT = "out"  # the build or the app, on standard output
    ERR = "err"  # the build or the app, on standard error
    GATEWAY = "gateway"
