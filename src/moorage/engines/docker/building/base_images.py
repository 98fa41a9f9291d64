"""The images that planned apps are built on: one for each language, in the plan's version."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moorage.planning.plan import Plan, Stack

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
    """The operator's choice of images."""

    registry: str = ""  # put before the names, such as `registry.example/hub`
    images: Mapping[str, str] = field(default_factory=dict)  # in place of DEFAULTS

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
        return f"{self.registry.rstrip('/')}/{name}" if self.registry else name


def main_program(plan: Plan) -> str:
    """Returns the language whose image the plan's is built on; PLAIN without one."""
    used = {**plan.host_tools, **plan.toolchains}
    order = (_FIRST.get(plan.stack, PLAIN), *_LANGUAGES)
    return next((program for program in order if program in used), PLAIN)
