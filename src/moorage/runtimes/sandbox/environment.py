"""The environment of a build and of an app."""

from collections.abc import Mapping
from pathlib import Path

from moorage.planning.plan import Plan
from moorage.runtimes.sandbox.bubblewrap import APP_PATH, CERTIFICATES, DATA, HOME, TMP

_BASE = {"PATH": APP_PATH, "HOME": HOME, "USER": "app", "LANG": "C.UTF-8", "TMPDIR": TMP}
# The cache and the app are two mounts, so that uv can't link between them, and would say so.
_BUILD = {"CI": "1", "UV_LINK_MODE": "copy"}
_TRUST = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE")


def build_environment(
    plan: Plan, extra: Mapping[str, str], variables: Mapping[str, str]
) -> dict[str, str]:
    """What a build sees: NODE_ENV stays unset, or development dependencies would be missing."""
    trust = dict.fromkeys(_TRUST, CERTIFICATES) if Path(CERTIFICATES).exists() else {}
    return {**_BASE, **_BUILD, **trust, **extra, **plan.build_env, **variables}


def app_environment(
    plan: Plan, variables: Mapping[str, str], *, has_data: bool = False
) -> dict[str, str]:
    """What an app sees; the plan's own variables win, and the deployer's over those."""
    return {
        **_BASE,
        "PORT": str(plan.port),
        "HOST": "0.0.0.0",  # noqa: S104 (inside its own network namespace)
        "NODE_ENV": "production",
        "PYTHONUNBUFFERED": "1",
        **({"DATA_DIR": DATA} if has_data else {}),
        **plan.run_env,
        **variables,
    }
