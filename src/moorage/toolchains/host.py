"""Finds the programs that the machine itself has for apps, and their versions.

Searches only where apps see it: below /usr, on their PATH. Reads the versions of programs that
start slowly from files beside them; runs the others to ask.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import zipfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

BIN = (Path("/usr/local/bin"), Path("/usr/bin"))
_SECONDS = 5.0
_HEAD = 4096  # characters of a file in which its version is looked for

# The command that prints each program's version.
_QUESTIONS = {
    "node": ("node", "--version"),
    "bun": ("bun", "--version"),
    "deno": ("deno", "--version"),
    "go": ("go", "version"),
    "rust": ("cargo", "--version"),
    "php": ("php", "--version"),
    "composer": ("composer", "--version"),
    "ruby": ("ruby", "--version"),
    "bundler": ("bundle", "--version"),
    "gradle": ("gradle", "--version"),
}
# Programs that the gateway's own packages contain.
_BUNDLED = {"caddy": ("caddy", "version"), "uv": ("uv", "--version")}
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_PACKAGE_VERSION = re.compile(r'"version"\s*:\s*"(\d+\.\d+\.\d+)"')
_JAVA_VERSION = re.compile(r'^JAVA_VERSION="(\d+(?:\.\d+){0,2})', re.MULTILINE)
_MAVEN_PROPERTIES = "META-INF/maven/org.apache.maven/maven-core/pom.properties"
_PYTHON = re.compile(r"python3\.\d{1,2}\Z")


async def host_versions(
    path: Sequence[Path] = BIN, *, bundled: Path = Path(sys.executable).parent
) -> dict[str, tuple[str, ...]]:
    """Returns the versions of each program on the machine, by program; every Python 3 counts.

    Looks for programs of the gateway's own packages in `bundled` first.
    """
    found = await asyncio.to_thread(_written, path)
    questions = list(_QUESTIONS.items())
    pythons = sorted({p.name for d in path for p in d.glob("python3.*") if _PYTHON.match(p.name)})
    questions += [("python", (name, "--version")) for name in pythons]
    everywhere = (bundled, *path)
    asked = [(program, words, path) for program, words in questions]
    asked += [(program, words, everywhere) for program, words in _BUNDLED.items()]
    asked = [one for one in asked if _at(one[2], one[1][0])]
    answers = await asyncio.gather(*(_ask(where, words) for _, words, where in asked))
    for (program, *_), said in zip(asked, answers, strict=True):
        version = _three_parts(said)
        if version is not None:
            found[program] = (*found.get(program, ()), version)
    return found


def present(names: Iterable[str], path: Sequence[Path] = BIN) -> tuple[str, ...]:
    """Returns those of the programs that apps find on the machine."""
    return tuple(name for name in names if _at(path, name) is not None)


def _written(path: Sequence[Path]) -> dict[str, tuple[str, ...]]:
    """Returns the versions that can be read from files."""
    readers: dict[str, tuple[str, Callable[[Path], str]]] = {
        **{name: (name, _of_package) for name in ("npm", "pnpm", "yarn")},
        "java": ("java", _of_java),
        "javac": ("javac", _of_java),
        "maven": ("mvn", _of_maven),
    }
    found: dict[str, tuple[str, ...]] = {}
    for program, (command, read) in readers.items():
        place = _at(path, command)
        version = _three_parts(read(place.resolve())) if place is not None else None
        if version is not None:
            found[program] = (version,)
    return found


def _of_package(program: Path) -> str:
    """Returns the version of the npm package that contains this program; "" if none is found."""
    for directory in program.parents[:3]:
        match = _PACKAGE_VERSION.search(_text(directory / "package.json"))
        if match is not None:
            return match[1]
    return ""


def _of_java(program: Path) -> str:
    match = _JAVA_VERSION.search(_text(program.parents[1] / "release"))
    return f"{match[1]}.0" if match and "." not in match[1] else match[1] if match else ""


def _of_maven(program: Path) -> str:
    for jar in sorted((program.parents[1] / "lib").glob("maven-core-*.jar")):
        with contextlib.suppress(OSError, KeyError, zipfile.BadZipFile), zipfile.ZipFile(jar) as it:
            return it.read(_MAVEN_PROPERTIES).decode().partition("version=")[2]
    return ""


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")[:_HEAD]
    except OSError:
        return ""


async def _ask(path: Sequence[Path], words: tuple[str, ...]) -> str:
    """Returns what a program prints; "" when it takes too long."""
    process = await asyncio.create_subprocess_exec(
        str(_at(path, words[0])),
        *words[1:],
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        env={"PATH": ":".join(map(str, (*path, "/bin"))), "HOME": "/nonexistent", "LC_ALL": "C"},
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)  # children may hold its output open
        await process.communicate()
        return ""
    return said.decode(errors="replace")


def _three_parts(said: str) -> str | None:
    """Returns the first version in a text, with three parts; None when there is none."""
    match = _VERSION.search(said)
    return f"{match[1]}.{match[2]}.{match[3] or 0}" if match else None


def _at(path: Sequence[Path], name: str) -> Path | None:
    return next((d / name for d in path if (d / name).is_file()), None)
