"""The sandbox's entry in the table of engines."""

import os
from pathlib import Path

from moorage.engines.engine import Engine
from moorage.engines.host.configuration import HostConfiguration
from moorage.engines.host.network import probe
from moorage.engines.kind import EngineKind, EngineOptions
from moorage.engines.sandbox.exports import SandboxExports
from moorage.engines.sandbox.sandbox import Sandbox


def _missing(run_dir: Path) -> list[str]:
    found = [*probe.missing_privileges(run_dir=run_dir), *probe.missing_programs()]
    if os.geteuid() == 0:  # the check needs root
        found += probe.missing_diagnosis()
    if probe.hierarchy() is None:
        found.append(probe.missing_hierarchy())
    return found


def _make(configuration: HostConfiguration, options: EngineOptions) -> Engine:
    return Sandbox(
        configuration,
        subnet=options.subnet,
        wallet_cache_bytes=options.wallet_cache_bytes,
        total_cache_bytes=options.total_cache_bytes,
        downloads_bytes=options.downloads_bytes,
    )


KIND = EngineKind(
    name="root",
    capabilities=Sandbox.capabilities,
    run_directory=lambda _data_dir: Path("/run/moorage"),
    missing=_missing,
    forwards_packets=True,
    make=_make,
    exports=SandboxExports,
)
