"""The images that planned apps are built on: one for each language, in the plan's version."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.errors import ConfigurationInvalid
from moorage.planning.plan import Plan, Stack
from moorage.planning.toolbox import Dockerfiles, Toolbox

PLAIN = "plain"
"""The key of the image for apps without a language, such as sites."""

DEFAULTS: Mapping[str, str] = {
    "node": "node:{version}-bookworm",
    "bun": "oven/bun:{version}-debian",
    "deno": "denoland/deno:debian-{version}",
    "python": "python:{minor}-bookworm",
    "go": "golang:{minor}-bookworm",
    "rust": "rust:{minor}-bookworm",
    "ruby": "ruby:{minor}-bookworm",
    "php": "php:{minor}-cli-bookworm",
    "java": "eclipse-temurin:{major}-jdk",
    "maven": "maven:{version}-eclipse-temurin-21",
    "gradle": "gradle:{version}-jdk21",
    "composer": "composer:{version}",
    PLAIN: "debian:bookworm-slim",
}
"""By program; `{version}`, `{minor}` and `{major}` are 3.13.7, 3.13 and 3 of a version."""

# What the images of languages hold: the oldest release that a tag of `{minor}` may stand for.
_HELD: Mapping[str, tuple[str, ...]] = {
    "python": ("3.10.18", "3.11.13", "3.12.11", "3.13.7"),
    # With Node 14, 16, and from 18 on.
    "npm": ("6.14.18", "8.19.4", "10.8.2"),
    "yarn": ("1.22.22",),
    "go": ("1.24.7", "1.25.1"),
    "rust": ("1.90.0",),
    "ruby": ("3.3.9", "3.4.5"),
    "bundler": ("2.5.22",),
    "php": ("8.3.25", "8.4.12"),
    "java": ("17.0.16", "21.0.8"),
    "javac": ("17.0.16", "21.0.8"),
    "maven": ("3.9.11",),
    "gradle": ("8.14.3",),
    "composer": ("2.8.11",),
}
# Used where the gateway has no npm that could be asked.
_ALSO: Mapping[str, tuple[str, ...]] = {
    "node": ("20.19.5", "22.20.0", "24.9.0"),
    "pnpm": ("7.33.7", "8.15.9", "9.15.9", "10.18.0"),
    "yarn": ("3.8.7", "4.10.3"),
}
OF_THE_GATEWAY = ("caddy", "uv")
"""Programs that every image has from the gateway."""

_LANGUAGES = ("python", "ruby", "php", "java", "go", "rust", "deno", "bun", "node")
_FIRST = {
    Stack.NODE: "node",
    Stack.PYTHON: "python",
    Stack.DENO: "deno",
    Stack.GO: "go",
    Stack.RUST: "rust",
    Stack.JAVA: "java",
    Stack.RUBY: "ruby",
    Stack.PHP: "php",
}


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """The operator's choice of images. Raises ConfigurationInvalid for unknown programs."""

    images: Mapping[str, str] = field(default_factory=dict)  # in place of DEFAULTS

    def __post_init__(self) -> None:
        for program in self.images:
            if program not in DEFAULTS:
                raise ConfigurationInvalid(
                    f"base_images: {program!r} is none of {', '.join(DEFAULTS)}"
                )

    def image(self, program: str, version: str = "") -> str:
        """Returns the image that holds a program in this version."""
        name = {**DEFAULTS, **self.images}[program]
        numbers = version.split(".")
        for place, text in (
            ("{version}", version),
            ("{minor}", ".".join(numbers[:2])),
            ("{major}", numbers[0]),
        ):
            name = name.replace(place, text)
        return name


def main_program(plan: Plan) -> str:
    """Returns the language whose image the plan's is built on; PLAIN without one."""
    used = {**plan.host_tools, **plan.toolchains}
    order = (_FIRST.get(plan.stack, PLAIN), *_LANGUAGES)
    return next((program for program in order if program in used), PLAIN)


def toolbox_of_images(own: Toolbox, dockerfiles: Dockerfiles) -> Toolbox:
    """Returns what can be planned where apps run in images; `own` is the machine's toolbox."""
    tools = {name: own.host[name] for name in OF_THE_GATEWAY if name in own.host}
    return Toolbox(host={**_HELD, **tools}, store={**_ALSO, **own.store}, dockerfiles=dockerfiles)
