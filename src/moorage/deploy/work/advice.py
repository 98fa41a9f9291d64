"""Advice after a failed deployment: the line of its log that says why, and what to do next."""

import re
from collections.abc import Iterator

import msgspec

from moorage.failure import FailureCause

_MAX_LINE = 300  # characters
_MAX_READ = 4_000  # of a line, which may be one in JSON
_ERROR = re.compile(
    r"\b(error|exception|fatal|panic|cannot|can't|could not|failed|not found|denied"
    r"|killed|refused|missing|undefined|unable)\b|\w(Error|Exception)\b",
    re.IGNORECASE,
)
_NO_CAUSE = re.compile(
    r"npm err(or|!)\s*(\Z|a complete log|lifecycle|code |path |workspace|location|command|errno)"
    r"|at |- |\{\"level\":\"(info|debug)\"|node\.js v|emitted 'error' event"
    r"|make(\[\d+\])?: \*\*\*|error command failed"
    r"|.{0,8}elifecycle|the above exception was|during handling of the above exception",
    re.IGNORECASE,
)
"""Lines that tell of an error, but not of which."""

_NPM = re.compile(r"npm err(or|!)", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last):"
_SAID = ("msg", "message", "error", "err")  # keys of a log line in JSON, such as Caddy's

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

_AGAIN = (
    "Fix it and deploy again: POST /agent/deploy with the same uniqueName. It is free while there "
    "are credits. What failed burns nothing, except build time beyond the allowance."
)
_WAIT = "Poll the deployment that took its place."
_MENDS: dict[str, str] = {
    FailureCause.PORT_NOT_BOUND: "Let the app listen on 0.0.0.0 and the port in the variable PORT.",
    FailureCause.UNHEALTHY: "Let GET settings.healthPath (/ unless set) answer with less than 500.",
    FailureCause.OUT_OF_MEMORY: "Let it use less memory; a quote's `buys` says how much it has.",
    FailureCause.OUT_OF_DISK: "Let it take less of the disk; leave node_modules, caches and data "
    "out of the upload.",
    FailureCause.BUILD_TIMEOUT: "Shorten the build, or build elsewhere and upload what it makes.",
    FailureCause.OUT_OF_CREDITS: (
        "Top up with POST /agent/credits (with its manage_token, if a payment alone opened the "
        "project)."
    ),
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
    """Returns the line of a log that tells which error came last, or its last line; "" if empty.

    What is indented belongs to the line above it: frames of a stack, an error's own fields.
    """
    lines = [_ESCAPES.sub("", line).rstrip()[:_MAX_READ] for line in log_tail.splitlines()]
    lines = [line for line in lines if line.strip()]
    errors = [at for at, line in enumerate(lines) if _tells(line)]
    outer = [at for at in errors if not lines[at][0].isspace()]
    outer = sorted({*outer, *_ends_of_tracebacks(lines)})
    at = next(iter([*outer[-1:], *errors[-1:], *range(len(lines))[-1:]]), None)
    if at is None:
        return ""
    if _NPM.match(lines[at]):  # it tells the error first, then what may help
        at = next(other for other in outer if _NPM.match(lines[other]))
    return _text(lines[at].strip())[:_MAX_LINE]


def _tells(line: str) -> bool:
    return _ERROR.search(line) is not None and _NO_CAUSE.match(line.lstrip()) is None


def _ends_of_tracebacks(lines: list[str]) -> Iterator[int]:
    """Returns where the lines are that end Python's tracebacks, whatever exceptions are called."""
    is_within = False
    for at, line in enumerate(lines):
        if line == _TRACEBACK:
            is_within = True
        elif is_within and not line[0].isspace():
            is_within = False
            yield at


def _text(line: str) -> str:
    """Returns what a log line in JSON says; any other line as it is."""
    try:
        document = msgspec.json.decode(line) if line.startswith("{") else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return line
    if not isinstance(document, dict):
        return line
    said = [text for key in _SAID if isinstance(text := document.get(key), str) and text]
    return ": ".join(said) or line


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
