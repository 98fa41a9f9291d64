"""What installs a Python app's needs: uv, from requirements or any tool's lock file.

Poetry, PDM and Pipenv need not run: their lock files pin every package with its hashes, which
`lockpins` turns into what uv installs.
"""

from collections.abc import Mapping
from typing import NamedTuple

from moorage.planning.python.requirements import Requirements

# Compiled once while installing, so that the app's start needn't.
_PIP = "uv pip install -q --compile-bytecode"
_PINS = '"$TMPDIR/pins.txt"'
_TOOLS = {
    "poetry.lock": "Poetry",
    "pdm.lock": "PDM",
    "Pipfile.lock": "Pipenv",
    "Pipfile": "Pipenv",
    "pyproject.toml": "Poetry",
}


class Install(NamedTuple):
    """The command that fills the virtual environment, "" for none, and why."""

    command: str
    because: str
    inputs: tuple[str, ...]  # files that alone decide what it makes; none: all do


def install_with(needed: Requirements, document: Mapping[str, object]) -> Install:
    """How the app's needs are installed, by the file that says so."""
    file, inputs = needed.file, () if needed.is_local else needed.files
    if file is None:
        return Install("", "", ())
    if file == "uv.lock":
        return _uv(document)
    if file.endswith(".lock"):
        because = f"{file} fixes the versions: {_TOOLS[file]}'s, installed with uv"
        return Install(f"lockpins {file} > {_PINS} && {_PIP} --no-deps -r {_PINS}", because, inputs)
    if file == "Pipfile" or needed.is_poetrys:
        because = (
            f"{file} is {_TOOLS[file]}'s and has no lock file: "
            "uv installs the newest versions it allows"
        )
        return Install(f"lockpins {file} > {_PINS} && {_PIP} -r {_PINS}", because, inputs)
    return Install(f"{_PIP} -r {file}", f"{file} is installed with uv", inputs)


def install_also(packages: list[str]) -> str:
    """Installs more packages, which the app needs and doesn't name."""
    return " ".join((_PIP, *packages))


def _uv(document: Mapping[str, object]) -> Install:
    """`uv sync`, which installs the project itself, too, if that says how it is built."""
    is_package = "build-system" in document
    return Install(
        "uv sync -q --locked --no-dev --compile-bytecode",
        "uv.lock fixes the versions: uv sync",
        () if is_package else ("pyproject.toml", "uv.lock"),
    )
