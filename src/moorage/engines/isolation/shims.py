"""Small programs of ours that builds find on their PATH."""

from pathlib import Path

from moorage.planning.python import lockpins

# uv installs Python packages, but plans and people call `pip`.
_PIP = """\
#!/bin/sh
[ "$1" != install ] || [ -d /app/.venv ] || uv venv --quiet /app/.venv || exit
export VIRTUAL_ENV=/app/.venv
exec uv pip "$@"
"""
# Plans for other tools' lock files call it, with the app's own Python.
_LOCKPINS = Path(lockpins.__file__).read_text()
SHIMS = {"pip": _PIP, "pip3": _PIP, "lockpins": _LOCKPINS}


def write(directory: Path) -> dict[str, Path]:
    """Writes the programs into an existing directory; returns their paths by name."""
    for name, text in SHIMS.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return {name: directory / name for name in SHIMS}
