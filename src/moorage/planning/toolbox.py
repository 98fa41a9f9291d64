"""Which versions of which programs a plan may use: a value, so that planning stays pure.

Whoever plans builds it: `moorage.toolchains` from what the machine has and what its registry lists.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from moorage.planning import semver
from moorage.planning.semver import Version


class Allows(Protocol):
    """A set of versions."""

    def allows(self, version: Version) -> bool:
        """Whether the release is in it."""
        ...


class Tool(NamedTuple):
    """One version of a program, and whether it is on every app's PATH already."""

    program: str
    version: Version
    is_hosts: bool

    def __str__(self) -> str:
        return f"{self.program} {self.version}"


class Toolbox(msgspec.Struct, frozen=True):
    """Versions by program; `node`, `npm`, `pnpm`, `yarn`, `bun`, `deno`, `python`, `go`, …"""

    host: dict[str, tuple[str, ...]] = {}  # on the machine, for every app; found by their names
    store: dict[str, tuple[str, ...]] = {}  # put first on the PATH of an app whose plan names them

    def has(self, program: str) -> bool:
        """Whether any version can be had."""
        return bool(self.host.get(program) or self.store.get(program))

    def tools(self, program: str) -> list[Tool]:
        """Every release that can be had, the machine's own last among equals, oldest first."""
        own = semver.releases(self.host.get(program, ()))
        others = set(semver.releases(self.store.get(program, ()))) - set(own)
        found = [Tool(program, v, True) for v in own] + [Tool(program, v, False) for v in others]
        return sorted(found, key=lambda tool: tool.version)

    def own(self, program: str) -> list[Tool]:
        """The newest that is on every app's PATH, if there is one."""
        return [tool for tool in self.tools(program) if tool.is_hosts][-1:]

    def choose(
        self, program: str, wanted: Allows, *, preferred: Callable[[Version], bool] | None = None
    ) -> Tool | None:
        """The machine's newest that is wanted, else the newest preferred, else the newest.

        The machine's own first: it costs no download and is what the operator keeps up to date.
        """
        found = [tool for tool in self.tools(program) if wanted.allows(tool.version)]
        own = [tool for tool in found if tool.is_hosts]
        favoured = [tool for tool in found if preferred is not None and preferred(tool.version)]
        return next((group[-1] for group in (own, favoured, found) if group), None)

    def offer(self, program: str) -> str:
        """The major or, for Python, minor versions that can be had, for a sentence."""
        parts = 2 if program in ("python", "go", "rust") else 1
        lines = sorted({tool.version[:parts] for tool in self.tools(program)})
        return ", ".join(".".join(map(str, line)) for line in lines) or "none"
