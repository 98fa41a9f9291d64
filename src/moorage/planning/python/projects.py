"""Installs a Python app's dependencies with uv, from requirements or any tool's lock file.

Poetry, PDM and Pipenv don't run: `lockpins` turns their lock files, which pin every package with
its hashes, into requirements for uv.
"""

from collections.abc import Mapping
from shlex import quote
from typing import NamedTuple

from moorage.planning.python.requirements import Requirements

# Compiled once at the install, so that starts are faster.
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
    inputs: tuple[str, ...]  # files that alone decide what it installs; empty: all do


def install_with(needed: Requirements, document: Mapping[str, object], *, python: str) -> Install:
    """Returns how to install the app's dependencies, from the file that lists them.

    `python` is the interpreter's command.
    """
    file, inputs = needed.file, () if needed.is_local else needed.files
    if file is None:
        return Install("", "", ())
    if needed.listed:
        packages = " ".join(quote(each) for each in needed.listed)
        return Install(
            f"{_PIP} {packages}", f"{file} lists what it needs: installed with uv", inputs
        )
    if file == "uv.lock":
        return _uv(document, python)
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
    """Returns a command that installs packages which the app needs and doesn't list."""
    return " ".join((_PIP, *packages))


def _uv(document: Mapping[str, object], python: str) -> Install:
    """Returns `uv sync`, which also installs the project itself if it has a build system.

    Python is named, as uv would refuse another one than .python-version's.
    """
    is_package = "build-system" in document
    return Install(
        f"uv sync -q --locked --no-dev --compile-bytecode --python {python}",
        "uv.lock fixes the versions: uv sync",
        () if is_package else ("pyproject.toml", "uv.lock"),
    )
