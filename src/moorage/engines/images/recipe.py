"""What the image of a planned app consists of, for every engine with images. Pure.

The language's own image, with the gateway's programs, those of other languages' images, and package
managers from npm; then the app's files in `/app`, which belong to the user that runs them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moorage.engines.engine import BuildSpec, InstanceSpec
from moorage.engines.host.environment import build_environment
from moorage.engines.images.base_images import DEFAULTS, BaseImages, main_program
from moorage.engines.isolation.bubblewrap import HOME, TMP, search_path
from moorage.planning.plan import Plan

DATA = "/data"
"""Where an app finds its volume."""


def environment(spec: InstanceSpec) -> Mapping[str, str]:
    """Returns an app's variables; the plan's override ours, the deployer's both."""
    return {
        "PORT": str(spec.plan.port),
        "HOST": "0.0.0.0",  # noqa: S104 (inside its own network namespace)
        "NODE_ENV": "production",
        "PYTHONUNBUFFERED": "1",
        **({} if spec.volume is None else {"DATA_DIR": DATA}),
        **spec.plan.run_env,
        **spec.variables,
    }


UID = 1000
USER = f"{UID}:{UID}"
APP = "/app"
TOOLS = "/opt/moorage/bin"
TOOLCHAINS = "/opt/moorage/toolchains"
SHELL = ("/bin/sh", "-c")
IMAGES_PATH = (
    *("/usr/local/go/bin", "/usr/local/cargo/bin", "/opt/java/openjdk/bin"),
    *("/usr/share/maven/bin", "/opt/gradle/bin"),
)
"""Where images of languages have their programs, besides the usual directories."""

# Where images keep a program, if not below /usr/local; see DEFAULTS for the images.
_PLACES = {
    "java": "/opt/java",
    "maven": "/usr/share/maven",
    "gradle": "/opt/gradle",
    "composer": "/usr/bin/composer",
    "deno": "/usr/bin/deno",
}
_OF_THE_IMAGE = ("PATH", "HOME", "USER", "LANG")


class Program(NamedTuple):
    """A program of another image than the base."""

    image: str
    place: str  # a directory, or the file itself


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What the image of a planned app is made of besides its files."""

    bases: BaseImages
    tools: Mapping[str, Path]  # the gateway's own caddy and uv
    has_trust: bool = False  # whether a build is given the machine's certificates


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The parts of one image."""

    base: str
    tools: Mapping[str, Path]  # to be copied into TOOLS
    others: Mapping[str, Program]
    managers: Mapping[str, str]  # packages of npm, by the directory in TOOLCHAINS they go into
    directory: str  # where commands run
    environment: Mapping[str, str]  # of builds and the app
    app_environment: Mapping[str, str]  # of the app alone


def images_of(plan: Plan, bases: BaseImages) -> dict[str, str]:
    """Returns the images that a plan is built on, by program.

    The first one is the base, from the others their programs alone are copied.
    """
    main, used = main_program(plan), {**plan.host_tools, **plan.toolchains}
    others = {
        name: bases.image(name, version)
        for name, version in used.items()
        if name in DEFAULTS and name != main
    }
    return {main: bases.image(main, used.get(main, "")), **others}


def _package(program: str, version: str) -> str:
    """Returns what npm installs this version of a package manager by."""
    is_berry = program == "yarn" and not version.startswith("1.")
    return f"{'@yarnpkg/cli-dist' if is_berry else program}@{version}"


def recipe(plan: Plan, materials: Materials) -> Recipe:
    """Returns the parts of a planned app's image."""
    (_, base), *others = images_of(plan, materials.bases).items()
    managers = {
        name: _package(name, version)
        for name, version in plan.toolchains.items()
        if name not in DEFAULTS
    }
    return Recipe(
        base=base,
        tools={name: path for name, path in materials.tools.items() if name in plan.host_tools},
        others={name: Program(image, _PLACES.get(name, "/usr/local")) for name, image in others},
        managers=managers,
        directory=f"{APP}/{plan.directory}".rstrip("/"),
        environment={
            "HOME": HOME,
            "USER": "app",
            "LANG": "C.UTF-8",
            "TMPDIR": TMP,
            "PATH": ":".join((search_path(list(managers)), *IMAGES_PATH)),
        },
        app_environment={
            "NODE_ENV": "production",
            "PYTHONUNBUFFERED": "1",
            "PORT": str(plan.port),
            "HOST": "0.0.0.0",  # noqa: S104 (inside its own network namespace)
            "FORWARDED_ALLOW_IPS": "*",  # gunicorn and uvicorn: only our proxy gets to it
        },
    )


def step_environment(spec: BuildSpec, build_env: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables of install and build, beside the image's own."""
    found = build_environment(spec.plan, build_env, spec.variables)
    return {n: v for n, v in found.items() if n not in _OF_THE_IMAGE or n in spec.variables}
