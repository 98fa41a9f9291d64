"""The npm packages that contain each program."""

import platform
from collections.abc import Iterable
from typing import NamedTuple

from moorage.planning.reading import semver

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
