"""Makes the environment variables of builds and apps."""

from collections.abc import Mapping
from pathlib import Path

from moorage.engines.isolation.bubblewrap import (
    CERTIFICATES,
    DATA,
    DOWNLOADS,
    HOME,
    TMP,
    search_path,
)
from moorage.planning.plan import Plan

_BASE = {"HOME": HOME, "USER": "app", "LANG": "C.UTF-8", "TMPDIR": TMP}
# uv can't link between the cache and the app, which are two mounts: without `copy` it would warn.
# Go's caches are many times larger than the program, which does not need them: they go to /tmp.
_BUILD = {
    "CI": "1",
    "UV_LINK_MODE": "copy",
    "GOCACHE": f"{TMP}/go/build",
    "GOMODCACHE": f"{TMP}/go/modules",
    # A registry that fails for a moment is asked again: sooner and oftener than npm and uv do by
    # themselves, after 1, 3, 9, 27 and 60 seconds.
    "npm_config_fetch_retries": "5",
    "npm_config_fetch_retry_mintimeout": "1000",
    "npm_config_fetch_retry_factor": "3",
    "UV_HTTP_RETRIES": "5",
    # Cypress tests pages in a browser, which it would download at its install.
    "CYPRESS_INSTALL_BINARY": "0",
}
# Caches of package managers. Those of Deno and Yarn Berry are missing, as a running app needs what
# is in them.
_DOWNLOADS = {
    "npm_config_cache": "npm",
    "BUN_INSTALL_CACHE_DIR": "bun",
    "UV_CACHE_DIR": "uv",
    "PIP_CACHE_DIR": "pip",
    "PDM_CACHE_DIR": "pdm",
    "PIPENV_CACHE_DIR": "pipenv",
    "CARGO_HOME": "cargo",
    "GOCACHE": "go/build",
    "GOMODCACHE": "go/modules",
    "GRADLE_USER_HOME": "gradle",
    "COMPOSER_CACHE_DIR": "composer",
}
_TRUST = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE")


def build_environment(
    plan: Plan,
    extra: Mapping[str, str],
    variables: Mapping[str, str],
    *,
    has_downloads: bool = False,
) -> dict[str, str]:
    """Returns a build's environment, without NODE_ENV: it needs development dependencies."""
    trust = dict.fromkeys(_TRUST, CERTIFICATES) if Path(CERTIFICATES).exists() else {}
    return {
        **_base(plan),
        **_BUILD,
        **(_downloads(plan) if has_downloads else {}),
        **trust,
        **_node_headers(plan),
        **extra,
        **plan.build_env,
        **variables,
    }


def app_environment(
    plan: Plan, variables: Mapping[str, str], *, has_data: bool = False
) -> dict[str, str]:
    """Returns an app's environment; the plan's variables override ours, the deployer's both."""
    return {
        **_base(plan),
        "PORT": str(plan.port),
        "HOST": "0.0.0.0",  # noqa: S104 (inside its own network namespace)
        "NODE_ENV": "production",
        "PYTHONUNBUFFERED": "1",
        **({"DATA_DIR": DATA} if has_data else {}),
        **plan.run_env,
        **variables,
    }


def _base(plan: Plan) -> dict[str, str]:
    return {"PATH": search_path(plan.toolchains), **_BASE}


def _node_headers(plan: Plan) -> dict[str, str]:
    """Returns where node-gyp finds the headers of the machine's Node, else it downloads them."""
    if "node" not in plan.host_tools:
        return {}
    places = (Path("/usr/local"), Path("/usr"))
    place = next((p for p in places if (p / "bin/node").exists()), None)
    if place is None or not (place / "include/node/node.h").exists():
        return {}
    return {"npm_config_nodedir": str(place)}


def _downloads(plan: Plan) -> dict[str, str]:
    found = {name: f"{DOWNLOADS}/{directory}" for name, directory in _DOWNLOADS.items()}
    found["MAVEN_ARGS"] = f"-Dmaven.repo.local={DOWNLOADS}/maven"
    yarn = plan.toolchains.get("yarn") or plan.host_tools.get("yarn") or ""
    if yarn.startswith("1."):  # see above
        found["YARN_CACHE_FOLDER"] = f"{DOWNLOADS}/yarn"
    return found
