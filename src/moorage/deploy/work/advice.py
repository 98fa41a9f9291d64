"""Advice after a failed deployment: the line of its log that says why, and what to do next."""

import re

from moorage.failure import FailureCause

_MAX_LINE = 300  # characters
_ERROR = re.compile(
    r"\b(error|exception|fatal|panic|traceback|cannot|can't|could not|failed|not found|denied"
    r"|killed|refused|missing|undefined|unable)\b|\w(Error|Exception)\b",
    re.IGNORECASE,
)
_NO_CAUSE = re.compile(
    r"npm err(or|!) (a complete log|lifecycle|code|path|workspace|location|command|errno)"
    r"|at |node\.js v|make(\[\d+\])?: \*\*\*|error command failed|.{0,8}elifecycle",
    re.IGNORECASE,
)
"""Lines that tell of an error, but not of which."""

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_AGAIN = (
    "Mend it and POST /agent/deploy with the same uniqueName: a redeploy is free while there are "
    "credits. What failed burns nothing, but for build time beyond the allowance."
)
_WAIT = "Poll the deployment that took its place."
_MENDS: dict[str, str] = {
    FailureCause.PORT_NOT_BOUND: "Let the app listen on 0.0.0.0 and the port in the variable PORT.",
    FailureCause.UNHEALTHY: "Let GET settings.healthPath (/ unless set) answer with less than 500.",
    FailureCause.OUT_OF_MEMORY: "Let it use less memory; a quote's `buys` says how much it has.",
    FailureCause.OUT_OF_DISK: "Let it take less of the disk; leave node_modules, caches and data "
    "out of the upload.",
    FailureCause.BUILD_TIMEOUT: "Shorten the build, or build elsewhere and upload what it makes.",
    FailureCause.OUT_OF_CREDITS: "Top up with POST /agent/credits.",
}
_KNOWN: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"Cannot find (?:module|package) '([^'./][^']{0,100})'"),
        "Add {0} to the dependencies in package.json.",
    ),
    (
        re.compile(r"No module named '?([A-Za-z0-9_.]{1,100})'?"),
        "Add what brings {0} to requirements.txt or pyproject.toml.",
    ),
    (
        re.compile(
            r"(?:KeyError: '|Missing required environment variable:? )([A-Z][A-Z0-9_]{1,60})"
        ),
        "Set {0} in settings.runEnvs, if it is a variable.",
    ),
    (re.compile(r"(EADDRINUSE)"), "Listen once, on the port in the variable PORT."),
    (re.compile(r"(?:sh: (?:\d+: )?)?([\w.-]{1,60}): (?:command )?not found"), "Install {0}."),
)


def last_error(log_tail: str) -> str:
    """Returns the last line of a log that tells of an error, or its last line; "" without any."""
    lines = [_ESCAPES.sub("", line).strip()[:_MAX_LINE] for line in log_tail.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if _ERROR.search(line) and not _NO_CAUSE.match(line)]
    return next(iter([*errors[-1:], *lines[-1:]]), "")


def with_last_error(reason: str, log_tail: str) -> str:
    """Returns the reason of a failure, ending with what its log says last of an error."""
    line = last_error(log_tail)
    return f"{reason.rstrip('. ')}. Its log: {line}" if line and line not in reason else reason


def next_actions(cause: str | None, log_tail: str) -> list[str]:
    """Returns what may mend it, as far as that is known, and how to deploy again."""
    if cause == FailureCause.SUPERSEDED:
        return [_WAIT]
    known = [
        advice.format(found[1]) for pattern, advice in _KNOWN if (found := pattern.search(log_tail))
    ]
    mends = [_MENDS[cause]] if cause in _MENDS else []
    return [*known[:1], *mends, _AGAIN]
