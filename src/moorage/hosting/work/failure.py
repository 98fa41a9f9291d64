"""Failure of a deployment: its reason, stored and sent to its wallet with advice from the logs."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET

from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan, Risk, Stack, Stops, quoted
from moorage.records.deployment import Advice, Deployment, DeploymentStatus
from moorage.records.event import EventKind
from moorage.records.project import ProjectStatus
from moorage.storage import events
from moorage.storage.apps import deployments, projects
from moorage.storage.database import Transaction

_MAX_LINE = 300  # characters
_MAX_READ = 4_000  # of a line, which may be one in JSON
_MAX_TEXT = 8_192  # of a log: its end
_NEAR_LINES = 40  # before the last error of an app that ended: what it told earlier, it survived
_ERROR = re.compile(
    r"\b(error|exception|fatal|panic|cannot|can't|could not|failed|not found|denied"
    r"|killed|refused|missing|undefined|unable)\b|\w(Error|Exception)\b",
    re.IGNORECASE,
)
_NO_CAUSE = re.compile(
    r"npm err(or|!)\s*(\Z|a complete log|lifecycle|code |path |workspace|location|command|errno)"
    r"|at |- |\{\"level\":\"(info|debug)\"|node\.js v|emitted 'error' event"
    r"|make(\[\d+\])?: \*\*\*|error command failed"
    r"|.{0,8}elifecycle|the above exception was|during handling of the above exception"
    r"|\[[^\]]{1,40}\] \[\d+\] \[error\] (exception in worker|worker \(pid|shutting down|reason:)",
    re.IGNORECASE,
)
"""Lines that tell of an error, but not of which."""

_NPM = re.compile(r"npm err(or|!)", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last):"
_FRAMING = " \t×╰├│─▶"  # around uv's errors
_SAID = ("msg", "message", "error", "err")  # keys of a log line in JSON, such as Caddy's
_OUR_COMMAND = "$ "  # before a command that the gateway, or a package manager, runs
_OUR_END = "CANCELLED: "  # as the gateway ends the log of a build that it has ended

_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FRAME = re.compile(
    r'File "/app/(?P<python>[^"]{1,300})", line (?P<row>\d+)'
    r"|(?:\(|\s|\A)(?:file://)?/app/(?P<node>[^\s():]{1,300}):(?P<at>\d+)"
)
_OF_A_STACK = ("at ", "Require stack:", "- /", "This file is being treated")  # Node's
_NOT_THEIRS = re.compile(
    r"(?:\A|/)(?:node_modules|\.venv|site-packages|\.next|\.nuxt|\.output|\.svelte-kit)/"
)

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
_OF_THE_BUILD = frozenset(
    {FailureCause.INSTALL_FAILED, FailureCause.BUILD_FAILED, FailureCause.BUILD_TIMEOUT}
)
_OF_THE_APP = _OF_THE_BUILD | {
    FailureCause.RELEASE_FAILED,
    *(FailureCause.CRASHED, FailureCause.UNHEALTHY, FailureCause.PORT_NOT_BOUND),
    *(FailureCause.OUT_OF_MEMORY, FailureCause.OUT_OF_DISK),
}
"""The causes that the log may explain."""

_SENDABLE = re.compile(r"[\w.@/+-]{1,200}")  # of a log: what a setting may be made of


class KnownFailure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of `failures.toml`."""

    name: str
    pattern: str
    cause: str
    action: str
    settings: dict[str, Any] = {}
    first: bool = False
    vague: bool = False


@cache
def known_failures() -> tuple[KnownFailure, ...]:
    """Returns the failures that are known by what they print. Read once a deployment has failed."""
    text = Path(__file__).with_name("failures.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text)["failure"], tuple[KnownFailure, ...])


@cache
def _patterns() -> tuple[tuple[KnownFailure, re.Pattern[str]], ...]:
    return tuple((each, re.compile(each.pattern, re.MULTILINE)) for each in known_failures())


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a deployment failed, and what to do next."""

    reason: str
    advice: Advice
    name: str = ""  # of the known failure
    cause: str = ""  # a sentence, if the failure is known


def explain(
    code: str | None, reason: str, log_tail: str, risks: Iterable[Risk] = ()
) -> Explanation:
    """Explains the failure with this `reason_code`, by the end of its log.

    What the plan warned of, its `risks`, comes first where the log does not tell.

    Takes milliseconds if the log may explain it: run it in a thread, once.
    """
    lines = _lines(log_tail)
    at = _error_at(lines)
    near = lines[max(0, (at or 0) - _NEAR_LINES) if code == FailureCause.CRASHED else 0 :]
    found = _known(near) if code is None or code in _OF_THE_APP else None
    if found is None:
        line = "" if at is None else _raised(lines, at, _text(lines[at].strip())[:_MAX_LINE])
        warned = [it.message for it in risks if it.stops is not Stops.REQUESTS]
        actions = [*(warned[:1] if code in _OF_THE_APP else ()), *_actions(code)]
        return Explanation(reason=_with_line(reason, line), advice=Advice(actions))
    from moorage.planning.python.requirements import package_of  # noqa: PLC0415 (10 ms)

    known, match = found
    words = {name: value or "" for name, value in match.groupdict().items()}
    module = words.get("module", "")
    words["bringing"] = next(iter(package_of(module)), f"what brings {module}")
    words["variables"] = "buildVars" if code in _OF_THE_BUILD else "runEnvs"
    settings = _filled(known.settings, words)
    action = " ".join([known.action.format_map(words), *_sent(settings)])
    cause = known.cause.format_map(words)
    return Explanation(
        name=known.name,
        cause=cause,
        reason=_with_line(f"{reason.rstrip('. ')}. {cause}", _quoted(near, match)),
        advice=Advice([action, *_actions(code)], settings),
    )


def second_try(plan: Plan, failed: DeployFailed, *, inputs_sha256: str) -> Plan | None:
    """Returns the plan with another install, if that alone may help after this failure.

    None for an install that the deployer gave, and for a second try. `inputs_sha256` is of what the
    install has read. Takes as long as `explain`.
    """
    again = _another_install(plan, failed)
    return again and msgspec.structs.replace(again, instead_of_inputs=inputs_sha256)


def _another_install(plan: Plan, failed: DeployFailed) -> Plan | None:
    if failed.cause is not FailureCause.INSTALL_FAILED or plan.instead_of is not UNSET:
        return None
    explained = explain(failed.cause, failed.reason, failed.log_tail)
    settings = explained.advice.next_settings
    command = settings.get("installCommand")
    if command is not None and plan.stack is Stack.NODE and plan.install_inputs:
        from moorage.planning.node.app import installed_by  # noqa: PLC0415 (30 ms)

        install = installed_by(command, plan.install or "")
        return _once_more(plan, explained, install=install, how=f"by `{command}`")
    if "runtime" in settings and plan.older_python is not UNSET:
        return _on_older_python(plan, explained, plan.older_python)
    return None


def learned(plan: Plan, earlier: Plan, *, inputs_sha256: str) -> Plan | None:
    """Returns the plan with the install that worked for an earlier one, where the planned failed.

    None unless `earlier` was such a second try, in place of the very install that is planned now,
    and that reads the same files (`inputs_sha256`).
    """
    if earlier.instead_of is UNSET or earlier.instead_of != plan.install:
        return None
    if not plan.install_inputs or earlier.instead_of_inputs != inputs_sha256:
        return None
    because = (*plan.because, f"{_LEARNED} {quoted(earlier.install or '')}")
    again = msgspec.structs.replace(
        plan,
        install=earlier.install,
        instead_of=plan.install,
        instead_of_inputs=inputs_sha256,
        because=because,
    )
    if plan.older_python is not UNSET and plan.older_python == earlier.host_tools.get("python"):
        return _with_python(again, plan.older_python)
    return again if plan.stack is Stack.NODE and plan.install_inputs else None


_LEARNED = "The planned install failed for an earlier deployment, and this one worked:"


def _on_older_python(plan: Plan, explained: Explanation, older: str) -> Plan:
    chosen = plan.host_tools.get("python") or plan.toolchains.get("python") or ""
    before, after = (f"python{'.'.join(each.split('.')[:2])}" for each in (chosen, older))
    again = _once_more(
        plan,
        explained,
        install=re.sub(rf"--python {re.escape(before)}\b", f"--python {after}", plan.install or ""),
        how=f"on Python {older}",
    )
    return _with_python(again, older)


def _with_python(plan: Plan, version: str) -> Plan:
    return msgspec.structs.replace(
        plan,
        toolchains={name: it for name, it in plan.toolchains.items() if name != "python"},
        host_tools=plan.host_tools | {"python": version},
        older_python=UNSET,
    )


def _once_more(plan: Plan, explained: Explanation, *, install: str, how: str) -> Plan:
    return msgspec.structs.replace(
        plan,
        install=install,
        instead_of=plan.install or "",
        because=(*plan.because, f"The install failed: {explained.cause} It is tried again {how}"),
    )


def _error_at(lines: list[str]) -> int | None:
    """Returns which line tells of the error that came last, else the last one; None without any.

    What is indented belongs to the line above it: frames of a stack, an error's own fields.
    """
    errors = [at for at, line in enumerate(lines) if _tells(line)]
    outer = [at for at in errors if not lines[at][0].isspace()]
    outer = sorted({*outer, *_ends_of_tracebacks(lines)})
    at = next(iter([*outer[-1:], *errors[-1:], *range(len(lines))[-1:]]), None)
    if at is not None and _NPM.match(lines[at]):  # it tells the error first, then what may help
        return next((other for other in outer if _NPM.match(lines[other])), at)
    return at


def _lines(log_tail: str) -> list[str]:
    """Returns what the last command printed: not the command, nor what the gateway said before."""
    lines = [
        _ESCAPES.sub("", line).rstrip()[:_MAX_READ] for line in log_tail[-_MAX_TEXT:].splitlines()
    ]
    begun = [at for at, line in enumerate(lines) if line.startswith(_OUR_COMMAND)]
    printed = lines[begun[-1] + 1 if begun else 0 :]
    return [line for line in printed if line.strip() and not line.startswith(_OUR_END)]


def _known(lines: list[str]) -> tuple[KnownFailure, re.Match[str]] | None:
    """Returns the known failure that ends latest; a vague one only if there is no other."""
    text = "\n".join(lines)
    best: tuple[tuple[bool, int], KnownFailure, re.Match[str]] | None = None
    for known, pattern in _patterns():
        match = None
        for match in pattern.finditer(text):  # noqa: B007 - the last one
            if known.first:
                break
        if match is None:
            continue
        rank = (not known.vague, text.count("\n", 0, match.end()))
        if best is None or rank > best[0]:
            best = rank, known, match
    return None if best is None else best[1:]


def _quoted(lines: list[str], match: re.Match[str]) -> str:
    """Returns the lines in which it was found, or the part named `line`, in one line."""
    group = "line" if match.groupdict().get("line") is not None else 0
    text, begin, end = match.string, match.start(group), match.end(group)
    begin, end = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
    whole = text[begin : end if end >= 0 else None]
    said = " ".join(_text(whole.strip(_FRAMING).removeprefix("cause: ")).split())[:_MAX_LINE]
    return _raised(lines, text.count("\n", 0, match.end(group)), said)


def _raised(lines: list[str], at: int, said: str) -> str:
    """Returns what the line at `at` says, with where in the app it was raised, if that is known."""
    place = next(_frames(lines, at), None)
    if place is None or place[0] in said:
        return said
    return f"{said} (in {place[0]}, line {place[1]})"


def _frames(lines: list[str], at: int) -> Iterator[tuple[str, str]]:
    """Returns the app's own files and lines of the stack that belongs to a line, innermost first.

    Python's stands above it, and Node's below it, or as one line above it.
    """
    above = range(at - 1, -1, -1)
    for index in above:
        if not lines[index][0].isspace() or lines[index] == _TRACEBACK:
            break
        yield from _own(lines[index])
    for line in lines[at + 1 :]:
        if not line.lstrip().startswith(_OF_A_STACK):
            break
        yield from _own(line)
    for index in above[:6]:
        if re.fullmatch(r"(?:file://)?/app/\S{1,300}:\d+", lines[index]):
            yield from _own(lines[index])


def _own(line: str) -> Iterator[tuple[str, str]]:
    match = _FRAME.search(line)
    if match is not None:
        file = match["python"] or match["node"]
        if not _NOT_THEIRS.search(file):
            yield file, match["row"] or match["at"]


def _filled(settings: Mapping[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    """Returns settings with what was remembered; none if that may not be part of a setting."""
    if any(f"{{{name}}}" in str(settings) and not _SENDABLE.fullmatch(words[name])
           for name in words):  # fmt: skip
        return {}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: fill(item) for key, item in value.items()}
        return value.format_map(words) if isinstance(value, str) else value

    return {key: fill(value) for key, value in settings.items()}


def _sent(settings: Mapping[str, Any]) -> Iterator[str]:
    """Returns a sentence that says what to send, for whom reads no `next_settings`."""
    said = []
    for key, value in settings.items():
        for name, item in value.items() if isinstance(value, dict) else [("", value)]:
            dot = f".{name}" if name else ""
            said.append(f"settings.{key}{dot}: {msgspec.json.encode(item).decode()}")
    if said:
        yield f"Send {' and '.join(said)}."


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


def _with_line(reason: str, line: str) -> str:
    """Returns the reason of a failure, ending with what its log says last of an error."""
    return f"{reason.rstrip('. ')}. Its log: {line}" if line and line not in reason else reason


def _actions(code: str | None) -> list[str]:
    """Returns what may help, as far as the cause alone tells, and how to deploy again."""
    if code == FailureCause.SUPERSEDED:
        return [_WAIT]
    return [*([_MENDS[code]] if code in _MENDS else []), _AGAIN]


async def fail(
    tx: Transaction,
    deployment: Deployment,
    failure: DeployFailed,
    *,
    wallet: str,
    now_ms: int,
    explained: Explanation | None = None,
) -> None:
    """Records the failure, unless the deployment has ended already.

    `explained` is needed for a cause that a log may explain.
    """
    explained = explained or Explanation(
        reason=failure.reason, advice=Advice(_actions(failure.cause))
    )
    failed = await deployments.move(
        tx,
        deployment.id,
        DeploymentStatus.FAILED,
        reason=explained.reason,
        reason_code=failure.cause,
        advice=msgspec.json.encode(explained.advice).decode(),
        log_tail=failure.log_tail,
        at_ms=now_ms,
    )
    if failed:
        data = {
            "project_id": deployment.project_id,
            "deployment_id": deployment.id,
            "reason": explained.reason,
            "reason_code": failure.cause.value,
        } | deployment.acting
        await events.record(
            tx, wallet=wallet, kind=EventKind.DEPLOYMENT_FAILED, data=data, now_ms=now_ms
        )


async def fail_project(tx: Transaction, project_id: str) -> None:
    """Records that a project has failed, unless a version of it serves."""
    project = await projects.by_id(tx, project_id)
    if project is not None and project.serving_deployment_id is None:
        await projects.set_status(tx, project_id, ProjectStatus.FAILED)
