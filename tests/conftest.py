"""Fixtures that several kinds of tests share, one module a subject."""

import os

from hypothesis import HealthCheck, settings

# However long examples take, as the machine may be busy; in CI the same ones in each run, as what
# fails by chance there shows nothing.
settings.register_profile(
    "unhurried",
    derandomize="CI" in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("unhurried")

pytest_plugins = [
    "chain_fixture",
    "rootless_fixture",
    "sandbox_fixture",
    "small_apps",
    "gateway_fixture",
    "records_fixture",
    "desk_fixture",
]
