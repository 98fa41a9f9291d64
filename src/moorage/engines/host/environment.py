"""What builds and apps find: their variables, and the toolchains of their languages."""

import errno
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from moorage.engines.host import mounts as kernel
from moorage.engines.isolation.bubblewrap import (
    CERTIFICATES,
    DATA,
    DOWNLOADS,
    HOME,
    TMP,
    search_path,
)
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan
from moorage.threads import in_thread


class Store(Protocol):
    """The store that installs toolchains."""

    async def ensure(self, program: str, version: str) -> Path:
        """Returns the directory of this version, after installing it if needed.

        Raises DeployFailed.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Toolchains:
    """Mounts the toolchains that builds and apps need in a directory.

    The users of builds and apps may not reach the store itself, such as below /root.
    """

    store: Store | None
    directory: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def path(self, program: str, version: str) -> Path:
        """Returns where a version is mounted."""
        return self.directory / f"{program}-{version}"

    async def show(self, wanted: Mapping[str, str]) -> None:
        """Mounts these versions, by program, at their paths. Raises DeployFailed, OSError."""
        for program, version in wanted.items():
            if self.store is None:
                problem = f"{program} {version} is not on this machine"
                raise DeployFailed(FailureCause.INSTALL_FAILED, problem)
            found = await self.store.ensure(program, version)
            await in_thread(self._mount, found, self.path(program, version))

    def hide(self) -> None:
        """Unmounts all of them; no app may need one."""
        for path in self.directory.iterdir():
            _unmount(path)
            path.rmdir()

    def _mount(self, source: Path, target: Path) -> None:
        with self._lock:
            target.mkdir(exist_ok=True)
            if not target.samefile(source):
                _unmount(target)  # the version was reinstalled after it was mounted
                kernel.mount(source, target, None, kernel.MS_BIND)


def _unmount(path: Path) -> None:
    try:
        kernel.unmount(path, detach=True)
    except OSError as error:
        if error.errno != errno.EINVAL:  # nothing is mounted there
            raise


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
