"""Runs the npm program. Its own configuration says which registry it uses."""

import asyncio
import contextlib
import os
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import msgspec

from moorage.threads import in_thread
from moorage.toolchains.host import BIN

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
        said = await self._run("view", package, "versions", "--json")
        try:
            return msgspec.json.decode(said, type=list[str])
        except msgspec.MsgspecError as error:
            raise NpmFailed(f"npm lists no versions of {package}: {error}") from error

    async def pack(self, package: str, version: str, destination: Path) -> Path:
        """Downloads a package's archive into `destination`; returns its path. Raises NpmFailed.

        npm compares the archive with the integrity (SHA-512) in the registry's metadata, and fails
        if they differ.
        """
        said = await self._run(
            "pack", f"{package}@{version}", "--ignore-scripts",
            "--pack-destination", str(destination),
        )  # fmt: skip
        return destination / said.decode().split()[-1]  # it prints the archive's name

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
                said, complained = await process.communicate()
        except TimeoutError:
            raise NpmFailed(f"npm took longer than {self._timeout_seconds:.0f} s") from None
        finally:
            await _end(process)
        if process.returncode != 0:
            raise NpmFailed(_last_lines(complained) or f"npm failed ({process.returncode})")
        return said


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    await process.wait()


def _last_lines(said: bytes) -> str:
    return "\n".join(said.decode(errors="replace").strip().splitlines()[-5:])


def find_npm() -> Path | None:
    """Returns the machine's npm, the same that apps use; None when there is none."""
    return next((p for d in BIN if (p := d / "npm").is_file()), None)
