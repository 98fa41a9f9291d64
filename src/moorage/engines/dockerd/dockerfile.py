"""Makes the Dockerfile of a planned app, and an upload's own fit to be built for a stranger.

Pure: equal arguments give equal text. No value of a variable is in it.
"""

import re
from collections.abc import Collection, Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import msgspec

from moorage.engines.images.recipe import (
    SHELL,
    TOOLCHAINS,
    TOOLS,
    UID,
    USER,
    Materials,
    recipe,
)
from moorage.engines.isolation.bubblewrap import CERTIFICATES, HOME
from moorage.planning.plan import Plan

VARIABLES, TRUST = "variables", "certificates"  # the secrets of a build, by their ids
_PLACE = "/run/moorage"  # of the variables, in a file that is named after the step
INSTALL, BUILD = "install", "build"
_SOURCED = 'set -a && . {} && set +a && exec /bin/sh -c "$0"'
_COPIED = re.compile(r"[\w./@+-]+\Z")  # no pattern, no variable
_DIRECTIVE = re.compile(r"#[ \t]*\w+[ \t]*=")
_ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=", re.IGNORECASE)


class Written(NamedTuple):
    """What is given to the builder: a Dockerfile, its ignore file, and other contexts by name."""

    dockerfile: str
    ignored: str | None = None  # None: the upload's own .dockerignore counts
    contexts: Mapping[str, Path] = {}  # directories of this machine


def generated(plan: Plan, materials: Materials, files: Collection[str]) -> Written:
    """Returns the Dockerfile of a plan; `files` are those of `install_inputs` that there are.

    What the install makes is a layer of its own, made anew when one of these files changes.
    """
    parts = recipe(plan, materials)
    contexts = {f"tool-{name}": path.parent for name, path in parts.tools.items()}
    contexts |= {_context(program): place for program, place in parts.toolchains.items()}
    is_layered = plan.install is not None and bool(files) and all(map(_COPIED.match, files))
    lines = [
        f"FROM {parts.base}",
        *(f"COPY --from=tool-{name} {it.name} {TOOLS}/{name}" for name, it in parts.tools.items()),
        *(f"COPY --from={it.image} {it.place} {it.place}" for it in parts.others.values()),
        *(f"COPY --from={_context(name)} . {TOOLCHAINS}/{name}" for name in parts.toolchains),
        f"ENV {_assigned(parts.environment)}",
        f"USER {USER}",
        _workdir(HOME),  # makes it, as the next one does, for this user, without a command
        _workdir(parts.directory),
        *([_put(name) for name in sorted(files)] if is_layered else [_put(".")]),
        *([_step(INSTALL, plan.install, materials)] if plan.install else []),
        *([_put(".")] if is_layered else []),
        *([_step(BUILD, plan.build, materials)] if plan.build else []),
        f"ENV {_assigned(parts.app_environment)}",
        "ENTRYPOINT []",
        f"CMD {_json(*SHELL, plan.start)}",
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
        lines += ["", "ENTRYPOINT []", f"CMD {_json(*SHELL, start)}"]
    return Written("\n".join(lines) + "\n")


def _is_comment(line: str) -> bool:
    return line.strip()[:1] in ("", "#")


def step_named(progress: str) -> str:
    """Returns which step of `generated` the builder speaks of: INSTALL, BUILD, or ""."""
    found = re.search(rf"target={_PLACE}/({INSTALL}|{BUILD})[ ,]", progress)
    return found[1] if found else ""


def _context(program: str) -> str:
    return f"toolchain-{program}"


def _assigned(values: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _step(name: str, command: str, materials: Materials) -> str:
    file = f"{_PLACE}/{name}"
    mounts = f"--mount=type=secret,id={VARIABLES},uid={UID},target={file}"
    if materials.has_trust:
        mounts += f" --mount=type=secret,id={TRUST},mode=0444,target={CERTIFICATES}"
    return f"RUN {mounts} {_json(*SHELL, _SOURCED.format(file), command)}"


def _put(name: str) -> str:
    """Copies a file of the upload to its place, or all of them."""
    return f"COPY --chown={USER} {_json(name, '/app/' if name == '.' else f'/app/{name}')}"


def _workdir(path: str) -> str:
    """Makes a directory the current one; nothing in its path is a variable."""
    escaped = re.sub(r"([\\$\"])", r"\\\1", path)
    return f'WORKDIR "{escaped}"'


def _json(*words: str) -> str:
    return msgspec.json.encode(words).decode()


def _ignored(plan: Plan, *, is_layered: bool) -> str:
    """Returns the ignore file: what would stand in place of what the install has made."""
    below = f"{plan.directory}/".removeprefix("/")
    names = [f"/{below}{name}" for name in ("node_modules", ".venv")] if is_layered else []
    return "\n".join(["# made by the gateway", *names]) + "\n"
