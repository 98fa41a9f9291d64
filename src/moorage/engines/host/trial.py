"""Runs a trial: builds a deployment that does nothing, with full isolation."""

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.host.deployment_directory import DeploymentDirectory, Host
from moorage.engines.host.network import probe
from moorage.errors import DeployFailed, IsolationMissing
from moorage.planning.plan import Plan, Stack
from moorage.threads import in_thread

EMPTY = "empty"  # the directory that is built, in the run directory
_PLAN = Plan(
    stack=Stack.CUSTOM, directory="", install=None, build="/bin/true", start="/bin/true",
    port=1, build_env={}, run_env={}, because=(),
)  # fmt: skip

D = TypeVar("D", bound=DeploymentDirectory)


async def trial(
    host: Host[D], make: Callable[[D, BuildSpec], Awaitable[None]], limits: Limits
) -> None:
    """Builds the trial deployment with `make`, and removes it. Raises IsolationMissing."""
    directory = host.directory(f"trial-{uuid.uuid4().hex[:8]}")
    spec = BuildSpec(
        deployment_id=directory.deployment_id, source=host.run_dir / EMPTY, plan=_PLAN,
        limits=limits, timeout_seconds=20,
    )  # fmt: skip
    try:
        await make(directory, spec)
    except OSError as error:
        raise IsolationMissing((f"a trial run failed: {error}",)) from error
    except DeployFailed as failed:
        said = failed.log_tail.strip() or failed.reason
        problem = f"a trial run failed: {said}"
        raise IsolationMissing((problem, *probe.likely_causes())) from failed
    finally:
        await in_thread(directory.remove)
