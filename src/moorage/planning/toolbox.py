"""The versions of programs that a plan may use, as a value, so that planning stays pure.

`moorage.toolchains` makes it from the machine's programs and the lists of registries.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from moorage.planning.reading import semver
from moorage.planning.reading.semver import Version


class Allows(Protocol):
    """A set of versions."""

    def allows(self, version: Version) -> bool:
        """Whether the release is in it."""
        ...


class All(NamedTuple):
    """The versions that are in each of these sets."""

    sets: tuple[Allows, ...]

    def allows(self, version: Version) -> bool:
        """Whether the release is in all of them."""
        return all(it.allows(version) for it in self.sets)


class Tool(NamedTuple):
    """One version of a program, and whether it is on every app's PATH already."""

    program: str
    version: Version
    is_hosts: bool

    def __str__(self) -> str:
        return f"{self.program} {self.version}"


class Dockerfiles(StrEnum):
    """What becomes of an upload's own Dockerfile."""

    STEPS = "steps"  # its commands are run in a sandbox, where they can be
    BUILT = "built"  # any is built
    ROOTLESS = "rootless"  # any is built, and its app is never root


class Toolbox(msgspec.Struct, frozen=True):
    """Versions by program; `node`, `npm`, `pnpm`, `yarn`, `bun`, `deno`, `python`, `go`, …"""

    host: dict[str, tuple[str, ...]] = {}  # the machine's, on every app's PATH
    store: dict[str, tuple[str, ...]] = {}  # put first on the PATH of apps whose plan names them
    dockerfiles: Dockerfiles = Dockerfiles.STEPS
    # The machine's, of those that system packages bring; and PHP's extensions, as `ext-mbstring`.
    programs: tuple[str, ...] = ()
    disk_mib: int = 0  # of an app; 0 where that is not known

    @property
    def otherwise(self) -> str:
        """The step that lets an app of any language be built, as a sentence."""
        if self.dockerfiles is not Dockerfiles.STEPS:
            return "Add a Dockerfile, and set settings.hasDockerfile: true."
        return "A gateway with Docker takes it with a Dockerfile."

    def has(self, program: str) -> bool:
        """Whether any version is available."""
        return bool(self.host.get(program) or self.store.get(program))

    def tools(self, program: str) -> tuple[Tool, ...]:
        """Returns every available release, oldest first; of equal ones the machine's own last."""
        return _tools(program, self.host.get(program, ()), self.store.get(program, ()))

    def own(self, program: str) -> list[Tool]:
        """Returns the newest that is on every app's PATH, if there is one."""
        return [tool for tool in self.tools(program) if tool.is_hosts][-1:]

    def choose(
        self, program: str, wanted: Allows, *, preferred: Callable[[Version], bool] | None = None
    ) -> Tool | None:
        """Returns the machine's newest that is wanted, else the newest preferred, else the newest.

        The machine's own need no download, and the operator keeps them up to date.
        """
        found = [tool for tool in self.tools(program) if wanted.allows(tool.version)]
        own = [tool for tool in found if tool.is_hosts]
        favoured = [tool for tool in found if preferred is not None and preferred(tool.version)]
        return next((group[-1] for group in (own, favoured, found) if group), None)

    def offer(self, program: str, *, near: Version | None = None) -> str:
        """Lists the available major (for Python minor) versions, for a sentence.

        Of the line of `near` it lists the newest versions in full.
        """
        parts = 2 if program in ("python", "go", "rust") else 1
        lines: dict[tuple[int, ...], list[str]] = {}
        for tool in self.tools(program):
            lines.setdefault(tool.version[:parts], []).append(str(tool.version))
        said = (
            ", ".join(full[-3:])
            if near is not None and line == near[:parts]
            else ".".join(map(str, line))
            for line, full in lines.items()
        )
        return ", ".join(said) or "none"


@lru_cache(maxsize=256)  # a gateway's programs: every plan asks
def _tools(program: str, host: tuple[str, ...], store: tuple[str, ...]) -> tuple[Tool, ...]:
    own = semver.releases(host)
    others = set(semver.releases(store)) - set(own)
    found = [Tool(program, v, True) for v in own] + [Tool(program, v, False) for v in others]
    return tuple(sorted(found, key=lambda tool: tool.version))
