"""Wheels of what is installed here: what an image is built from without fetching anything."""

import hashlib
import re
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

_REQUIREMENT = re.compile(r"^[A-Za-z0-9][^#\\]*", re.MULTILINE)
_MADE_BY_PIP = {"INSTALLER", "REQUESTED", "direct_url.json"}


def repack(requirements: Path, wheels: Path) -> str:
    """Puts a wheel of each requirement into `wheels`; returns the requirements with their hashes.

    The files are those of the wheel that was installed, but the archive is another one.
    """
    lines = []
    for found in _REQUIREMENT.findall(requirements.read_text()):
        requirement = Requirement(found)
        if requirement.marker is None or requirement.marker.evaluate():
            installed = distribution(requirement.name)
            assert installed.version in requirement.specifier, f"`make develop` first: {found}"
            digest = _pack(installed, wheels)
            lines.append(f"{requirement.name}=={installed.version} --hash=sha256:{digest}\n")
    return "".join(lines)


def _pack(installed: Distribution, wheels: Path) -> str:
    """Makes the wheel; returns its SHA-256."""
    name = re.sub(r"[-_.]+", "_", installed.name)
    tag = re.findall(r"^Tag: (\S+)", installed.read_text("WHEEL") or "", re.MULTILINE)[-1]
    path = wheels / f"{name}-{installed.version}-{tag}.whl"
    scripts = {entry.name for entry in installed.entry_points}
    with zipfile.ZipFile(path, "w") as archive:
        for file in installed.files or ():
            if file.suffix == ".pyc" or file.name in _MADE_BY_PIP or file.name in scripts:
                continue
            inside = str(file)
            if inside.startswith("../"):  # a program that is no entry point
                inside = f"{name}-{installed.version}.data/scripts/{file.name}"
            archive.write(str(file.locate()), inside)
    return hashlib.sha256(path.read_bytes()).hexdigest()
