"""Installs exact versions of programs, each in its own directory, which all apps can read.

The directory is `<store>/<program>/<version>/`; its `bin/` goes first on an app's PATH. It is made
in `.making` and renamed when complete. It belongs to the gateway's user and never changes after
that. An operator may add a link to a directory of their own; links are never removed.

The store has a size limit. Versions that no app needs are removed, the least recently used first.
If apps need all of them and the store is full, nothing more is installed.
"""

import asyncio
import contextlib
import errno
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import zipfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from moorage.clock import Clock
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.reading import semver
from moorage.threads import in_thread

BIN = (Path("/usr/local/bin"), Path("/usr/bin"))
_SECONDS = 5.0
_HEAD = 4096  # characters of a file in which its version is searched

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
    for (program, *_), output in zip(asked, answers, strict=True):
        version = _three_parts(output)
        if version is not None:
            found[program] = (*found.get(program, ()), version)
    return found


async def php_extensions(path: Sequence[Path] = BIN) -> tuple[str, ...]:
    """Returns the extensions of the machine's PHP, as Composer names them: `ext-mbstring`."""
    said = await _ask(path, ("php", "-m")) if _at(path, "php") is not None else ""
    names = (line.strip().lower().replace(" ", "-") for line in said.splitlines())
    return tuple(sorted({f"ext-{name}" for name in names if name and name[0] != "["}))


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
            output, _ = await process.communicate()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
            os.killpg(process.pid, signal.SIGKILL)  # children may hold its output open
        await process.communicate()
        return ""
    return output.decode(errors="replace")


def _three_parts(output: str) -> str | None:
    """Returns the first version in a text, with three parts; None when there is none."""
    match = _VERSION.search(output)
    return f"{match[1]}.{match[2]}.{match[3] or 0}" if match else None


def _at(path: Sequence[Path], name: str) -> Path | None:
    return next((d / name for d in path if (d / name).is_file()), None)


_MACHINE = platform.machine()
_ARCHITECTURE = {"x86_64": "x64", "aarch64": "arm64"}.get(_MACHINE, _MACHINE)


class Package(NamedTuple):
    """A package that contains the releases of a program with `min_major` <= major < `below_major`.

    `programs` are its commands, with their files.
    """

    program: str
    name: str
    min_major: int = 0
    below_major: int | None = None
    programs: tuple[tuple[str, str], ...] = ()

    def releases(self, versions: Iterable[str]) -> tuple[str, ...]:
        """Returns those of `versions` that are releases of the program, oldest first."""
        found = semver.releases(tuple(versions))
        return tuple(str(version) for version in found if self.holds(version))

    def holds(self, version: semver.Version) -> bool:
        """Returns whether this package contains the version."""
        return self.min_major <= version.major and (
            self.below_major is None or version.major < self.below_major
        )


def packages(architecture: str = _ARCHITECTURE) -> tuple[Package, ...]:
    """Returns the packages for a machine; `architecture` is x64 or arm64, as Node writes it."""
    bun = {"arm64": "aarch64"}.get(architecture, architecture)
    return (
        Package("node", f"node-linux-{architecture}", 14, None, (("node", "bin/node"),)),
        Package("npm", "npm", 6, None, (("npm", "bin/npm-cli.js"), ("npx", "bin/npx-cli.js"))),
        Package("pnpm", "pnpm", 6, 11, (("pnpm", "bin/pnpm.cjs"), ("pnpx", "bin/pnpx.cjs"))),
        Package("pnpm", "pnpm", 11, 12, (("pnpm", "bin/pnpm.mjs"), ("pnpx", "bin/pnpx.mjs"))),
        Package("pnpm", f"@pnpm/exe.linux-{architecture}", 12, None, (("pnpm", "pnpm"),)),
        Package("yarn", "yarn", 1, 2, (("yarn", "bin/yarn.js"), ("yarnpkg", "bin/yarn.js"))),
        Package(
            "yarn",
            "@yarnpkg/cli-dist",
            2,
            None,
            (("yarn", "bin/yarn.js"), ("yarnpkg", "bin/yarn.js")),
        ),
        Package(
            "bun", f"@oven/bun-linux-{bun}", 1, None, (("bun", "bin/bun"), ("bunx", "bin/bun"))
        ),
        Package("deno", f"@deno/linux-{architecture}-glibc", 2, None, (("deno", "deno"),)),
    )


def package_of(program: str, version: str) -> Package | None:
    """Returns the package with this release of the program; None when there is none."""
    release = semver.version(version)
    if release is None:
        return None
    return next((p for p in packages() if p.program == program and p.holds(release)), None)


_CACHE = "cache"
_QUIET = (
    "--loglevel=error",
    "--no-update-notifier",
    "--fetch-retries=3",
    "--fetch-retry-mintimeout=1000",
    "--fetch-retry-factor=3",
    "--no-audit",
    "--no-fund",
)


class NpmFailed(Exception):
    """npm failed or timed out; the message has its last lines."""


class Npm:
    """The machine's npm, with a working directory of our own and a new cache for each call.

    A lasting cache would grow with every version that a build asks for.
    """

    def __init__(self, program: Path, *, directory: Path, timeout_seconds: float = 60.0) -> None:
        self._program = program
        self._directory = directory
        self._timeout_seconds = timeout_seconds

    def sweep(self) -> None:
        """Removes caches that a crash left; blocks."""
        for cache in self._directory.glob(f"{_CACHE}*"):
            shutil.rmtree(cache)

    async def versions(self, package: str) -> list[str]:
        """Returns every version of a package. Raises NpmFailed."""
        output = await self._run("view", package, "versions", "--json")
        try:
            return msgspec.json.decode(output, type=list[str])
        except msgspec.MsgspecError as error:
            raise NpmFailed(f"npm lists no versions of {package}: {error}") from error

    async def pack(self, package: str, version: str, destination: Path) -> Path:
        """Downloads a package's archive into `destination`; returns its path. Raises NpmFailed.

        npm compares the archive with the integrity (SHA-512) in the registry's metadata, and fails
        if they differ.
        """
        output = await self._run(
            "pack", f"{package}@{version}", "--ignore-scripts",
            "--pack-destination", str(destination),
        )  # fmt: skip
        return destination / output.decode().split()[-1]  # it prints the archive's name

    async def _run(self, *arguments: str) -> bytes:
        self._directory.mkdir(parents=True, exist_ok=True)
        cache = tempfile.mkdtemp(prefix=_CACHE, dir=self._directory)
        try:
            return await self._ask(cache, *arguments)
        finally:
            await in_thread(shutil.rmtree, cache)

    async def _ask(self, cache: str, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            self._program,
            *arguments,
            *_QUIET,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._directory,
            env={**os.environ, "npm_config_cache": cache},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(self._timeout_seconds):
                output, complained = await process.communicate()
        except TimeoutError:
            raise NpmFailed(f"npm took longer than {self._timeout_seconds:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            await process.wait()
        if process.returncode != 0:
            raise NpmFailed(_last_lines(complained) or f"npm failed ({process.returncode})")
        return output


def _last_lines(output: bytes) -> str:
    return "\n".join(output.decode(errors="replace").strip().splitlines()[-5:])


def find_npm() -> Path | None:
    """Returns the machine's npm, the same that apps use; None when there is none."""
    return next((p for d in BIN if (p := d / "npm").is_file()), None)


UNUSED_SECONDS = 30 * 24 * 3600.0
"""A version that no app needs and nobody asked for in this time is removed in any case."""

_MAKING = ".making"
_VERSIONS = "[!.]*/[!.]*"

Version = tuple[str, str]
"""A program and its version."""


async def nothing_needed() -> set[Version]:
    """Returns no versions: the default where nobody counts what apps need."""
    return set()


@dataclass(eq=False)
class ToolchainStore:
    """The store of one gateway. Installs a version once if several ask for it at the same time."""

    directory: Path
    _: KW_ONLY
    npm: Npm | None
    clock: Clock
    max_bytes: int = 1 << 62
    reserve_bytes: int = 0  # nothing is installed while less is free on its disk
    needed: Callable[[], Awaitable[Collection[Version]]] = nothing_needed
    """Returns the versions that an app uses, or may use again."""

    def __post_init__(self) -> None:
        self._installing: dict[Version, asyncio.Task[Path]] = {}
        self._sizes: dict[Path, int] = {}  # bytes, of versions that were measured
        self._changing = asyncio.Lock()  # `ensure` must not return what is being removed

    def open(self) -> None:
        """Makes the store's directory, and removes what an interrupted install left; blocks."""
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove(self.directory / _MAKING)

    async def close(self) -> None:
        """Cancels installs under way."""
        tasks = list(self._installing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def installed(self) -> dict[str, tuple[str, ...]]:
        """Returns the installed versions, by program; blocks."""
        found: dict[str, tuple[str, ...]] = {}
        for program in sorted(self.directory.glob("[!.]*")):
            found[program.name] = tuple(sorted(v.name for v in program.iterdir() if v.is_dir()))
        return found

    async def ensure(self, program: str, version: str) -> Path:
        """Returns the directory of this version, after installing it if needed; notes its use.

        Raises DeployFailed if it can't be installed. Cancelling a caller does not stop an install.
        """
        if semver.version(version) is None:
            raise _failure(program, version, "it is not a version")
        async with self._changing:
            place = self.directory / program / version
            if place.is_dir():
                if not place.is_symlink():
                    self._note_use(place)
                return place.resolve()
        key = (program, version)
        task = self._installing.get(key)
        if task is None:
            task = asyncio.create_task(self._install(program, version))
            self._installing[key] = task
            task.add_done_callback(lambda _: self._installing.pop(key))
        return await asyncio.shield(task)

    async def collect(self) -> None:
        """Removes versions that no app needs: unused for a month, or while over the size limit."""
        async with self._changing:
            await in_thread(self._collect, frozenset(await self.needed()))

    async def discard(self, versions: Mapping[str, str]) -> None:
        """Removes these versions (by program) of a failed deployment, unless an app needs them."""
        async with self._changing:
            needed = await self.needed()
            for named in versions.items():
                place = self.directory.joinpath(*named)
                if named not in needed and place.is_dir() and not place.is_symlink():
                    await in_thread(self._discard, place)

    def _collect(self, needed: frozenset[Version]) -> None:
        oldest = self.clock.now_ms() / 1000 - UNUSED_SECONDS
        own = [each for each in self.directory.glob(_VERSIONS) if not each.is_symlink()]
        taken = sum(map(self._size, own))
        for place in sorted(own, key=lambda each: each.stat().st_mtime):
            is_needed = (place.parent.name, place.name) in needed
            if not is_needed and (taken > self.max_bytes or place.stat().st_mtime < oldest):
                taken -= self._size(place)
                self._discard(place)

    def _discard(self, place: Path) -> None:
        doomed = self.directory / _MAKING / f"{place.parent.name}-{place.name}"
        doomed.parent.mkdir(exist_ok=True)
        place.rename(doomed)
        self._sizes.pop(place, None)
        _remove(doomed)

    def _note_use(self, place: Path) -> None:
        now_seconds = self.clock.now_ms() / 1000
        os.utime(place, (now_seconds, now_seconds))

    def _size(self, place: Path) -> int:
        if place not in self._sizes:
            self._sizes[place] = sum(path.lstat().st_blocks * 512 for path in place.rglob("*"))
        return self._sizes[place]

    async def _make_room(self) -> None:
        """Removes unneeded versions; raises OSError if there is still no room for another."""
        await self.collect()
        free = shutil.disk_usage(self.directory).free
        own = (each for each in self.directory.glob(_VERSIONS) if not each.is_symlink())
        if free < self.reserve_bytes or sum(map(self._size, own)) > self.max_bytes:
            raise OSError("this gateway's store of toolchains is full; ask for a version it has")

    async def _install(self, program: str, version: str) -> Path:
        package = package_of(program, version)
        if package is None or self.npm is None:
            raise _failure(program, version, "this machine has no npm package that holds it")
        making = self.directory / _MAKING
        making.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{program}-{version}-", dir=making))
        try:
            await self._make_room()
            archive = await self.npm.pack(package.name, version, draft)
            return await in_thread(self._place, package, archive, version)
        except (NpmFailed, OSError, subprocess.CalledProcessError) as error:
            raise _failure(program, version, str(error)) from error
        finally:
            await in_thread(_remove, draft)

    def _place(self, package: Package, archive: Path, version: str) -> Path:
        """Unpacks the archive, adds `bin/`, and renames it into place; returns the directory."""
        made = archive.parent / "package"
        made.mkdir()
        subprocess.run(
            [
                *("tar", "-xzf", str(archive), "-C", str(made), "--strip-components=1"),
                *("--no-same-owner", "--no-same-permissions", "--delay-directory-restore"),
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        _link_programs(package, made)
        _make_readable(made)
        place = self.directory / package.program / version
        place.parent.mkdir(mode=0o755, exist_ok=True)
        self._note_use(made)
        made.rename(place)
        return place.resolve()


def _link_programs(package: Package, directory: Path) -> None:
    """Links `bin/<command>` for each of the package's commands, replacing what is there.

    Follows no link of the package, as it may point outside. Raises OSError.
    """
    (directory / "bin").mkdir(exist_ok=True)
    for command, file in package.programs:
        target = directory / file
        _require_own(directory, (*target.relative_to(directory).parents, Path("bin")))
        if not stat.S_ISREG(target.lstat().st_mode):
            raise OSError(errno.EINVAL, f"the package's {file} is no file")
        target.chmod(target.lstat().st_mode | 0o111)
        link = directory / "bin" / command
        if link != target:
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(target, link.parent))


def _require_own(directory: Path, within: Iterable[Path]) -> None:
    """Raises OSError unless these paths in the package are directories, not links."""
    for path in within:
        if not stat.S_ISDIR((directory / path).lstat().st_mode):
            raise OSError(errno.ENOTDIR, f"the package's {path} is no directory")


def _make_readable(directory: Path) -> None:
    """Makes files readable by all and writable by none, directories writable by the owner.

    Raises OSError if there is anything but files, directories and links: as root, tar makes
    devices too.
    """
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OSError(errno.EINVAL, f"the package's {path.name} is no file")
            runs = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(0o755 if path.is_dir() else 0o555 if runs else 0o444)


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=not directory.exists())


def _failure(program: str, version: str, problem: str) -> DeployFailed:
    return DeployFailed(
        FailureCause.INSTALL_FAILED, f"{program} {version} can't be installed: {problem}"
    )
