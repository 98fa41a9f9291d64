"""Explains to the deployer why a build or an app failed; the same for all engines."""

from moorage.engines.engine import BuildSpec, InstanceSpec
from moorage.errors import DeployFailed, FailureCause
from moorage.planning import static

_SCRIPT_CHARS = 500  # of a command that is shown by its first line alone
_QUOTED_CHARS = 80  # of a command that a reason quotes


def shell_code(returncode: int) -> int:
    """Returns the exit code as a shell does: 128 plus the signal's number for a killed process."""
    return 128 - returncode if returncode < 0 else returncode


def abbreviated(command: str) -> str:
    """Returns a command for a person: of a long script the first line, which says what it is."""
    first, newline, _ = command.partition("\n")
    return f"{first} …" if newline and len(command) > _SCRIPT_CHARS else command


def failed_with(command: str, code: int, *, is_install: bool) -> str:
    """Returns that a step failed; a long line, which a planner wrote, stands in the log alone."""
    return f"{_named(command, is_install=is_install)} failed with exit code {code}"


def _named(command: str, *, is_install: bool) -> str:
    is_long = len(command) > _QUOTED_CHARS or "\n" in command
    return ("the install" if is_install else "the build") if is_long else f"`{command}`"


def not_built(to: str) -> DeployFailed:
    """Returns the failure of a deployment without a build; `to` says for what, as a verb."""
    return DeployFailed(FailureCause.INTERRUPTED, f"there is no finished build to {to}")


def not_apart() -> DeployFailed:
    """Returns the failure of an export from an image that was built as a whole."""
    return DeployFailed(
        FailureCause.INTERRUPTED,
        "The app's files are not kept apart from its image: deploy it again.",
    )


def not_carried(why: str) -> DeployFailed:
    """Returns the failure of a volume that can't go to another engine as it is."""
    return DeployFailed(FailureCause.OUT_OF_DISK, f"The app's volume can't be moved: {why}.")


def not_taken_along(why: str) -> DeployFailed:
    """Returns the failure of a volume that can't begin with what an app has written."""
    return DeployFailed(
        FailureCause.OUT_OF_DISK,
        f"What the running version has written can't be taken along into the volume: {why}. It "
        "runs on with its files. To deploy without them, send discard_written: true.",
    )


def volume_lost() -> DeployFailed:
    """Returns the failure of an app whose volume is gone, and would be replaced by an empty one."""
    return DeployFailed(
        FailureCause.INTERRUPTED,
        "The app's volume is gone from the gateway's storage, and it is not started without it.",
    )


def timed_out(spec: BuildSpec, command: str, *, tail: str) -> DeployFailed:
    """Returns the failure of a build step that was still running at the timeout."""
    return DeployFailed(
        FailureCause.BUILD_TIMEOUT,
        f"the build took longer than {spec.timeout_seconds} s; "
        f"{_named(command, is_install=command == spec.plan.install)} was still running",
        log_tail=tail,
    )


def crashed(spec: InstanceSpec, *, code: int | None, tail: str) -> DeployFailed:
    """Returns the failure of an app that ended before it listened."""
    return DeployFailed(
        FailureCause.CRASHED,
        f"{started(spec)} ended with {with_code(code)} before it listened on a port",
        log_tail=tail,
    )


def out_of_memory(spec: InstanceSpec, *, code: int | None, tail: str) -> DeployFailed:
    """Returns the failure of an app that needed more memory than it has before it listened."""
    limit = spec.limits.memory_bytes // (1024 * 1024)
    return DeployFailed(
        FailureCause.OUT_OF_MEMORY,
        f"the app ran out of its {limit} MiB of memory while starting ({with_code(code)})",
        log_tail=tail,
    )


def started(spec: InstanceSpec) -> str:
    """Returns what was started, for a sentence; of a site nothing of our own configuration."""
    if static.is_site(spec.line):
        return "the server of the site's files"
    return f"`{abbreviated(spec.line)}`" if spec.line else "what the image starts"


def with_code(code: int | None) -> str:
    """Returns the text for an exit code, known or not."""
    return "an unknown exit code" if code is None else f"exit code {code}"


def not_bound(spec: InstanceSpec, timeout_seconds: float, *, tail: str) -> DeployFailed:
    """Returns the failure of an app that did not listen in time."""
    return DeployFailed(
        FailureCause.PORT_NOT_BOUND,
        f"{started(spec)} runs, but did not listen on a TCP port within"
        f" {timeout_seconds:g} s; let it listen on $PORT ({spec.plan.port})",
        log_tail=tail,
    )
