"""A trial run: a deployment that does nothing, built with all that isolates one."""

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from moorage.engines.engine import BuildSpec, Limits
from moorage.engines.host import probe
from moorage.engines.host.deployment_directory import Machine, Place
from moorage.errors import DeployFailed, IsolationMissing
from moorage.planning.plan import Plan, Stack
from moorage.threads import in_thread

EMPTY = "empty"  # what is built, in the run directory
_PLAN = Plan(
    stack=Stack.CUSTOM, directory="", install=None, build="/bin/true", start="/bin/true",
    port=1, build_env={}, run_env={}, because=(),
)  # fmt: skip

P = TypeVar("P", bound=Place)


async def trial(
    machine: Machine[P], make: Callable[[P, BuildSpec], Awaitable[None]], limits: Limits
) -> None:
    """Have `make` build it, and take it away again. Raises IsolationMissing."""
    place = machine.place(f"trial-{uuid.uuid4().hex[:8]}")
    spec = BuildSpec(
        deployment_id=place.deployment_id, source=machine.run_dir / EMPTY, plan=_PLAN,
        limits=limits, timeout_seconds=20,
    )  # fmt: skip
    try:
        await make(place, spec)
    except OSError as error:
        raise IsolationMissing((f"a trial run failed: {error}",)) from error
    except DeployFailed as failed:
        said = failed.log_tail.strip() or failed.reason
        problem = f"a trial run failed: {said}"
        raise IsolationMissing((problem, *probe.likely_causes())) from failed
    finally:
        await in_thread(place.remove)
