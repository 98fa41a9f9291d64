"""Makes the Dockerfile of a planned app, and an upload's own fit to be built for a stranger.

Pure: equal arguments give equal text. No value of a variable is in it.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import msgspec

from moorage.engines.engine import BuildSpec
from moorage.engines.images.recipe import (
    SHELL,
    TOOLCHAINS,
    TOOLS,
    UID,
    USER,
    Materials,
    recipe,
    step_environment,
)
from moorage.engines.isolation.bubblewrap import CERTIFICATES, HOME
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Plan, Stack

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

    What the install makes is a layer of its own, made again when one of these files changes.
    """
    parts = recipe(plan, materials)
    contexts = {f"tool-{name}": path.parent for name, path in parts.tools.items()}
    is_layered = plan.install is not None and bool(files) and all(map(_COPIED.match, files))
    lines = [
        f"FROM {parts.base}",
        *(f"COPY --from=tool-{name} {it.name} {TOOLS}/{name}" for name, it in parts.tools.items()),
        *(f"COPY --from={it.image} {it.place} {it.place}" for it in parts.others.values()),
        f"ENV {_assigned(parts.environment)}",
        *([_step(INSTALL, _managers(parts.managers), materials)] if parts.managers else []),
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


def _managers(packages: Mapping[str, str]) -> str:
    """Returns the command that installs package managers with the image's own npm, as root."""
    npm = "npm install --no-audit --no-fund --no-update-notifier --loglevel=error --cache /tmp/npm"
    each = [f"{npm} --global --prefix {TOOLCHAINS}/{name} {it}" for name, it in packages.items()]
    return " && ".join([*each, "rm -rf /tmp/npm"])


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


def require_files(source: Path) -> None:
    """Raises DeployFailed if anything below `source` is neither a file nor a directory."""
    below = [source]
    while below:
        with os.scandir(below.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif not entry.is_file(follow_symlinks=False):
                    name = str(Path(entry.path).relative_to(source))
                    raise DeployFailed(
                        FailureCause.UPLOAD_INVALID, f"{name!r} is not a regular file"
                    )


_FILE = "Dockerfile"
# For BuildKit (sourcepolicy.pb): it fetches what ADD names by itself, from the machine's own
# network, past the firewall of builds. Only images and what was uploaded is left, also of the
# triggers in base images.
_IMAGES = "docker-image://"
_ADDRESSES = ("http", "https", "git")
ANY = "*"  # in place of a registry
_SECRET_BYTES = 500 * 1024  # BuildKit takes no larger one
_ARGUMENT_BYTES = 100_000  # the kernel takes 131,072 in one, and some 2 MB in all
_ARGUMENTS_BYTES = 1_000_000
_OWN = ("BUILDKIT_", "MOORAGE_")  # the names of arguments to the builder itself


@dataclass(frozen=True, kw_only=True)
class BuildFiles:
    """What was written for a build."""

    file: Path
    context: Path
    written: Written
    secrets: Mapping[str, Path]
    arguments: Mapping[str, str]
    policy: Path  # of what the builder may fetch


def source_policy(registries: Collection[str], hidden: Collection[str] = ()) -> dict[str, Any]:
    """Returns what the builder may fetch: images of these registries. Of its rules the last counts.

    So no Dockerfile makes it ask whatever else this machine reaches, by `FROM host:port/name`. The
    names of `hidden` images begin so, and nobody may build on them.
    """
    refused = [f"{scheme}://*" for scheme in _ADDRESSES]
    allowed = []
    if ANY not in registries:
        refused.append(f"{_IMAGES}*")
        allowed = [f"{_IMAGES}{registry}/*" for registry in registries]
    return {
        "rules": [
            *({"action": "DENY", "selector": {"identifier": each}} for each in refused),
            *({"action": "ALLOW", "selector": {"identifier": each}} for each in allowed),
            *(
                {"action": "DENY", "selector": {"identifier": f"{_IMAGES}{each}/*"}}
                for each in hidden
            ),
        ]
    }


def write_build_files(
    spec: BuildSpec,
    materials: Materials,
    build_env: Mapping[str, str],
    into: Path,
    *,
    registries: Collection[str],
    hidden: Collection[str] = (),
) -> BuildFiles:
    """Writes the files of a build into an empty directory; blocks.

    A deployer's Dockerfile may name images of `registries` only, and no `hidden` ones.

    Raises DeployFailed for variables that the builder can't take, OSError.
    """
    is_own = spec.plan.stack is Stack.DOCKERFILE
    if is_own:
        context = spec.source / spec.plan.directory
        text = (context / _FILE).read_text(errors="replace")
        written = own(text, spec.plan.start)
        secrets = {name: value.encode() for name, value in spec.variables.items()}
        arguments = _arguments(text, spec.variables)
        ignored = context / f"{_FILE}.dockerignore"
        if ignored.is_file():
            written = written._replace(ignored=ignored.read_text(errors="replace"))
    else:
        context, arguments = spec.source, {}
        inputs = [name for name in spec.plan.install_inputs if (spec.source / name).is_file()]
        written = generated(spec.plan, materials, inputs)
        secrets = {VARIABLES: _exported(spec, build_env)}
    file = into / _FILE
    file.write_text(written.dockerfile)
    if written.ignored is not None:
        file.with_name(f"{_FILE}.dockerignore").write_text(written.ignored)
    trust = {TRUST: Path(CERTIFICATES)} if materials.has_trust else {}
    paths = {**trust, **_secret_files(secrets, into / "secrets")}
    policy = into / "policy.json"
    rules = source_policy(registries, hidden) if is_own else source_policy((ANY,))
    policy.write_bytes(msgspec.json.encode(rules))
    return BuildFiles(
        file=file,
        context=context,
        written=written,
        secrets=paths,
        arguments=arguments,
        policy=policy,
    )


def _exported(spec: BuildSpec, build_env: Mapping[str, str]) -> bytes:
    """Returns a build's variables as a shell reads them."""
    kept = step_environment(spec, build_env)
    return "".join(f"{name}={quote(value)}\n" for name, value in kept.items()).encode()


def _secret_files(secrets: Mapping[str, bytes], directory: Path) -> dict[str, Path]:
    directory.mkdir(mode=0o700)
    found = {}
    for number, (name, value) in enumerate(secrets.items()):
        if len(value) > _SECRET_BYTES:
            raise DeployFailed(
                FailureCause.BUILD_FAILED,
                f"settings.buildVars are too long: {_SECRET_BYTES:,} bytes in all are taken",
            )
        found[name] = directory / str(number)
        found[name].write_bytes(value)
    return found


def _arguments(text: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Returns the variables that an ARG of the Dockerfile names."""
    declared: set[str] = set()
    for line in re.findall(r"^[ \t]*ARG[ \t]+(.*)$", text, re.IGNORECASE | re.MULTILINE):
        declared.update(re.findall(r"[A-Za-z_]\w*", line))
    found = {n: v for n, v in variables.items() if n in declared and not n.startswith(_OWN)}
    sizes = [len(value.encode()) for value in found.values()]
    if sizes and (max(sizes) > _ARGUMENT_BYTES or sum(sizes) > _ARGUMENTS_BYTES):
        raise DeployFailed(
            FailureCause.BUILD_FAILED,
            f"settings.buildVars are too long for arguments: {_ARGUMENT_BYTES:,} bytes in one, and "
            f"{_ARGUMENTS_BYTES:,} in all are taken; use RUN --mount=type=secret,id=NAME",
        )
    return found
