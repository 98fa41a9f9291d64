"""Divides src/moorage between the wheels: what a client imports, and the rest, a gateway's.

No file is in both, so pip installs and removes the two in any order.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path(__file__).parent / "src"
CLIENT = (
    "__init__.py",
    "py.typed",
    *("address.py", "clock.py", "errors.py", "imports.py", "money.py", "signing.py", "trust.py"),
    *("archive/*.py", "cli/*.py", "sdk/*.py", "wire/*.py"),
    *(
        f"chains/{name}.py"
        for name in ("__init__", "chain", "eip3009", "receipt", "rpc", "signing")
    ),
    *(f"mcp/{name}.py" for name in ("__init__", "local", "server", "tools")),
    *(f"planning/{name}.py" for name in ("__init__", "plan", "toolbox", "reading/__init__")),
    *(f"planning/reading/{name}.py" for name in ("folder", "formats", "semver")),
    *(f"records/{name}.py" for name in ("__init__", "access", "deployment", "domain", "event")),
    *(f"records/{name}.py" for name in ("payments", "project", "run", "size")),
)
"""What the wheel `moorage-client` holds, below src/moorage."""


class Files(BuildHookInterface[Any]):
    """Gives a wheel its files, and the gateway's wheel the client of its own version."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds. An editable wheel only names src/."""
        if version == "editable":
            return
        files = {found for pattern in CLIENT for found in (SOURCE / "moorage").glob(pattern)}
        if self.metadata.name == "moorage":
            files = {each for each in SOURCE.rglob("*") if each.is_file()} - files
            build_data["dependencies"].append(f"moorage-client=={self.metadata.version}")
        build_data["force_include"] = {
            str(each): str(each.relative_to(SOURCE))
            for each in sorted(files)
            if each.suffix != ".pyc"
        }
