"""A deployment's logs: there are two, and each line has a writer."""

from enum import StrEnum


class LogKind(StrEnum):
    """Which of a deployment's two logs."""

    BUILD = "build"
    RUNTIME = "runtime"


class LogStream(StrEnum):
    """Who wrote a line of a log."""

    OUT = "out"  # the build or the app, to its standard output
    ERR = "err"  # the same, to its standard error
    GATEWAY = "gateway"
