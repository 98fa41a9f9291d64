"""Moorage's own image: built by its Containerfile of what is on this machine.

Nothing is fetched: the base is made of the Python of the tests, and so are the packages.
"""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest

from support.engines.docker_fixture import Dockerd, libraries_of
from support.engines.repacked_wheels import repack

REPOSITORY = Path(__file__).parents[3]
IMAGE = "moorage-tests-own"
_BASE = "moorage-tests-python"
_PROGRAMS = (
    "sh",
    "cat",
    "chmod",
    "chown",
    "env",
    "false",
    "id",
    "ls",
    "mkdir",
    "sleep",
    "haproxy",
    "docker",
)
_COPIED = (
    *("LICENSE", "README.md", "pyproject.toml", "hatch_build.py", "client", "src"),
    *("Containerfile", ".dockerignore"),
)
_AS_HERE = (  # where Debian's pip has its wheels, whom it trusts, what Docker builds with
    Path("/usr/share/python-wheels"),
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/usr/libexec/docker/cli-plugins/docker-buildx"),
)


def _left_out(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    parts = Path(entry.name).parts
    return None if {"__pycache__", "test", "site-packages", "dist-packages"} & set(parts) else entry


def _make_base(dockerd: Dockerd) -> None:
    """An image with a shell and the Python of the tests, which finds its library beside itself."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    programs = [
        found for name in _PROGRAMS if (found := shutil.which(name, path="/usr/bin:/bin:/usr/sbin"))
    ]
    libraries = libraries_of(*programs, str(python), *map(str, library.glob("lib-dynload/*.so")))
    archive = dockerd.directory / "python.tar"
    with tarfile.open(archive, "w", dereference=True) as image:
        for path in programs:
            image.add(path, f"/usr/bin/{Path(path).name}")
        for path in libraries:
            linker = Path(path).name.startswith("ld-linux")
            image.add(path, path if linker else f"/usr/lib/{Path(path).name}")
        image.add(python, f"/usr/local/bin/{version}")
        image.add(library, f"/usr/local/lib/{version}", filter=_left_out)
        for own in _AS_HERE:
            if own.exists():
                image.add(own)
        for name, target in (("usr/local/bin/python3", version), ("bin", "usr/bin")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            image.addfile(link)
        for name, mode in (("etc", 0o755), ("tmp", 0o1777), ("var", 0o755)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            image.addfile(directory)
    path = "ENV PATH=/usr/local/bin:/usr/bin LD_LIBRARY_PATH=/usr/lib"
    dockerd.run("import", "--change", path, str(archive), _BASE)
    archive.unlink()


@dataclass(frozen=True)
class OwnImage:
    """The image, and the daemon that has it."""

    dockerd: Dockerd

    def run(self, *words: str, options: tuple[str, ...] = ()) -> str:
        """What a container prints that runs these words."""
        return self.dockerd.run("run", "--rm", *options, IMAGE, *words).strip()

    def said(self, name: str) -> str:
        """All that a container has printed."""
        words = ["docker", "--host", self.dockerd.host, "logs", name]
        return subprocess.run(words, stdout=PIPE, stderr=STDOUT, check=True, text=True).stdout

    def python(self, code: str) -> str:
        """What this code prints in a container."""
        return self.run("-c", code, options=("--entrypoint", "python3"))


@pytest.fixture(scope="module")
def image(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnImage]:
    """The image, built for a module."""
    _make_base(dockerd)
    context, wheels = (tmp_path_factory.mktemp(name) for name in ("context", "wheels"))
    (context / "requirements").mkdir()
    for name in ("runtime.txt", "build.txt"):
        text = repack(REPOSITORY / "requirements" / name, wheels)
        (context / "requirements" / name).write_text(text)
    for name in _COPIED:
        found = REPOSITORY / name
        if found.is_dir():
            shutil.copytree(found, context / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(found, context / name)
    (context / "secrets.key").write_text("not for an image")
    dockerd.run(
        *("buildx", "build", "--builder", "default", "--provenance", "false", "--network", "none"),
        *("--build-arg", f"BASE={_BASE}", "--build-arg", "PIP_NO_INDEX=1"),
        *("--build-context", f"wheels={wheels}", "--file", str(context / "Containerfile")),
        *("--tag", IMAGE, str(context)),
    )
    shutil.rmtree(wheels)
    yield OwnImage(dockerd)
    dockerd.run("image", "rm", "--force", IMAGE, _BASE)
