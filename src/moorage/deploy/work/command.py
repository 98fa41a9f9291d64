"""A command that is run to its end, in a sandbox of a built deployment."""

import asyncio
from contextlib import suppress

from moorage.clock import Clock
from moorage.engines.engine import AppExit, InstanceSpec, Runs
from moorage.errors import ClusterUnavailable
from moorage.threads import to_its_end

_FIRST_PAUSE_SECONDS = 0.02
_MAX_PAUSE_SECONDS = 1.0
_LATE_SHARE = 20  # its end is known a twentieth of its duration later at most, or in a second


async def run_to_end(
    runtime: Runs, spec: InstanceSpec, *, timeout_seconds: float, clock: Clock
) -> AppExit | None:
    """Runs what does not listen, and returns how it ended; None if it was stopped at the timeout.

    Nothing runs afterwards, whatever is raised. Raises DeployFailed, ClusterUnavailable.
    """
    begun = clock.monotonic_seconds()
    try:
        await runtime.start(spec, timeout_seconds=timeout_seconds)
        while (waited := clock.monotonic_seconds() - begun) < timeout_seconds:
            with suppress(ClusterUnavailable):  # it runs on meanwhile
                ended = (await runtime.inspect(spec.deployment_id)).exit
                if ended is not None:
                    return ended
            pause = max(waited / _LATE_SHARE, _FIRST_PAUSE_SECONDS)
            await asyncio.sleep(min(pause, _MAX_PAUSE_SECONDS))
        return None
    finally:
        await to_its_end(runtime.stop(spec.deployment_id))
