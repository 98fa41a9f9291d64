"""Makes the Dockerfile of a planned app, and an upload's own fit to be built for a stranger.

Pure: equal arguments give equal text. No value of a variable is in it.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import msgspec

from moorage.engines.images.base_images import BaseImages, main_program
from moorage.engines.isolation.bubblewrap import CERTIFICATES, HOME, TMP, search_path
from moorage.planning.plan import Plan

USER = "1000:1000"
VARIABLES, TRUST = "variables", "certificates"  # the secrets of a build, by their ids
_PLACE = "/run/moorage"  # of the variables, in a file that is named after the step
INSTALL, BUILD = "install", "build"
_TOOLS = "/opt/moorage/bin"
_TOOLCHAINS = "/opt/moorage/toolchains"
_PARTS = ("npm", "bundler", "javac")  # come with the image of their language
# Where images keep a program, if not below /usr/local; see DEFAULTS for the images.
_PLACES = {
    "java": "/opt/java",
    "maven": "/usr/share/maven",
    "gradle": "/opt/gradle",
    "composer": "/usr/bin/composer",
}
_IMAGES_PATH = (
    *("/usr/local/go/bin", "/usr/local/cargo/bin", "/opt/java/openjdk/bin"),
    *("/usr/share/maven/bin", "/opt/gradle/bin"),
)
_SHELL = ("/bin/sh", "-c")
_SOURCED = 'set -a && . {} && set +a && exec /bin/sh -c "$0"'
_COPIED = re.compile(r"[\w./@+-]+\Z")  # no pattern, no variable
_DIRECTIVE = re.compile(r"#[ \t]*\w+[ \t]*=")
_ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=", re.IGNORECASE)


class Written(NamedTuple):
    """What is given to the builder: a Dockerfile, its ignore file, and other contexts by name."""

    dockerfile: str
    ignored: str | None = None  # None: the upload's own .dockerignore counts
    contexts: Mapping[str, Path] = {}  # directories of this machine


@dataclass(frozen=True, kw_only=True)
class Materials:
    """What the image of a planned app is made of besides its files."""

    bases: BaseImages
    tools: Mapping[str, Path]  # the gateway's own caddy and uv
    toolchains: Mapping[str, Path] = field(default_factory=dict)  # directories, by program
    has_trust: bool = False  # whether there is a secret TRUST


def generated(plan: Plan, materials: Materials, files: Collection[str]) -> Written:
    """Returns the Dockerfile of a plan; `files` are those of `install_inputs` that there are.

    What the install makes is a layer of its own, made anew when one of these files changes.
    """
    main = main_program(plan)
    tools = {name: path for name, path in materials.tools.items() if name in plan.host_tools}
    contexts = {f"tool-{name}": path.parent for name, path in tools.items()}
    copied = {p: d for p, d in materials.toolchains.items() if p != main}
    contexts |= {_context(program): place for program, place in copied.items()}
    is_layered = plan.install is not None and bool(files) and all(map(_COPIED.match, files))
    home = f"/app/{plan.directory}".rstrip("/")
    places = " ".join(map(quote, dict.fromkeys(("/app", home, HOME))))
    version = {**plan.host_tools, **plan.toolchains}.get(main, "")
    lines = [
        f"FROM {materials.bases.image(main, version)}",
        *(f"COPY --from=tool-{name} {path.name} {_TOOLS}/{name}" for name, path in tools.items()),
        *_other_images(plan, materials, main),
        *(f"COPY --from={_context(name)} . {_TOOLCHAINS}/{name}" for name in copied),
        f"ENV HOME={HOME} USER=app LANG=C.UTF-8 TMPDIR={TMP} PATH={_path(list(copied))}",
        _run(f"mkdir -p {places} && chown {USER} {places}"),
        f"USER {USER}",
        _words("WORKDIR", home),
        *([_put(name) for name in sorted(files)] if is_layered else [_put(".")]),
        *([_step(INSTALL, plan.install, materials)] if plan.install else []),
        *([_put(".")] if is_layered else []),
        *([_step(BUILD, plan.build, materials)] if plan.build else []),
        f"ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT={plan.port} HOST=0.0.0.0",
        "ENTRYPOINT []",
        f"CMD {_json(*_SHELL, plan.start)}",
    ]
    return Written("\n".join(lines) + "\n", _ignored(plan, is_layered=is_layered), contexts)


def own(text: str, start: str) -> Written:
    """Returns an upload's own Dockerfile, without directives that choose another builder.

    Of the comments that it begins with, only the escape character is kept, as the builder takes
    more for a directive than it documents. `start` replaces what it starts, unless it is "".
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    first = next(filter(_ESCAPE.match, takewhile(_DIRECTIVE.match, lines)), "#")
    begun = sum(1 for _ in takewhile(_is_comment, lines))
    lines[:begun] = [first, *["#"] * (begun - 1)]
    if start:
        lines += ["", "ENTRYPOINT []", f"CMD {_json(*_SHELL, start)}"]
    return Written("\n".join(lines) + "\n")


def _is_comment(line: str) -> bool:
    return line.strip()[:1] in ("", "#")


def step_named(progress: str) -> str:
    """Returns which step of `generated` the builder speaks of: INSTALL, BUILD, or ""."""
    found = re.search(rf"target={_PLACE}/({INSTALL}|{BUILD})[ ,]", progress)
    return found[1] if found else ""


def _other_images(plan: Plan, materials: Materials, main: str) -> Iterator[str]:
    """Yields the lines that bring programs of other images than the base."""
    for program, version in plan.host_tools.items():
        if program in materials.tools or program == main or program in _PARTS:
            continue
        place = _PLACES.get(program, "/usr/local")
        yield f"COPY --from={materials.bases.image(program, version)} {place} {place}"


def _context(program: str) -> str:
    return f"toolchain-{program}"


def _path(toolchains: list[str]) -> str:
    return ":".join((search_path(toolchains), *_IMAGES_PATH))


def _step(name: str, command: str, materials: Materials) -> str:
    uid = USER.partition(":")[0]
    file = f"{_PLACE}/{name}"
    mounts = f"--mount=type=secret,id={VARIABLES},uid={uid},target={file}"
    if materials.has_trust:
        mounts += f" --mount=type=secret,id={TRUST},mode=0444,target={CERTIFICATES}"
    return f"RUN {mounts} {_json(*_SHELL, _SOURCED.format(file), command)}"


def _run(command: str) -> str:
    return f"RUN {_json(*_SHELL, command)}"


def _put(name: str) -> str:
    """Copies a file of the upload to its place, or all of them."""
    return f"COPY --chown={USER} {_json(name, '/app/' if name == '.' else f'/app/{name}')}"


def _words(instruction: str, path: str) -> str:
    """Returns an instruction with a path in which nothing is a variable."""
    escaped = re.sub(r"([\\$\"])", r"\\\1", path)
    return f'{instruction} "{escaped}"'


def _json(*words: str) -> str:
    return msgspec.json.encode(words).decode()


def _ignored(plan: Plan, *, is_layered: bool) -> str:
    """Returns the ignore file: what would stand in place of what the install has made."""
    below = f"{plan.directory}/".removeprefix("/")
    names = [f"/{below}{name}" for name in ("node_modules", ".venv")] if is_layered else []
    return "\n".join(["# made by the gateway", *names]) + "\n"
