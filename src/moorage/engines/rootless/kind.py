"""The rootless engine's entry in the table of engines."""

import os
from pathlib import Path

from moorage.engines.engine import Engine
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.kind import EngineKind, EngineOptions
from moorage.engines.rootless import probe
from moorage.engines.rootless.rootless import Rootless


def _run_directory(data_dir: Path) -> Path:
    """Returns a directory for this user's sockets."""
    own = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}"
    return (Path(own) if Path(own).is_dir() else data_dir / "run") / "moorage"


def _make(configuration: HostConfiguration, options: EngineOptions) -> Engine:
    return Rootless(
        configuration,
        accept_soft_limits=options.accept_soft_limits,
        hierarchy=probe.delegated_hierarchy(),
    )


KIND = EngineKind(
    name="rootless",
    suits=lambda: True,
    capabilities=Rootless.capabilities,
    run_directory=_run_directory,
    missing=lambda _run_dir: probe.missing(),
    forwards_packets=False,
    make=_make,
    exports=None,
)
