"""The variables of an app that runs in a container."""

from collections.abc import Mapping

from moorage.engines.engine import InstanceSpec

DATA = "/data"
"""Where an app finds its volume."""


def environment(spec: InstanceSpec) -> Mapping[str, str]:
    """Returns an app's variables; the plan's override ours, the deployer's both."""
    return {
        "PORT": str(spec.plan.port),
        "HOST": "0.0.0.0",  # noqa: S104 (inside its own network namespace)
        "NODE_ENV": "production",
        "PYTHONUNBUFFERED": "1",
        **({} if spec.volume is None else {"DATA_DIR": DATA}),
        **spec.plan.run_env,
        **spec.variables,
    }
