"""Writes what one build needs into a directory in memory: Dockerfile, ignore file, secrets."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import msgspec

from moorage.engines.dockerd import dockerfile
from moorage.engines.dockerd.dockerfile import TRUST, VARIABLES, Written
from moorage.engines.engine import BuildSpec
from moorage.engines.images.recipe import Materials, step_environment
from moorage.engines.isolation.bubblewrap import CERTIFICATES
from moorage.errors import DeployFailed, FailureCause
from moorage.planning.plan import Stack

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
class Laid:
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


def lay(
    spec: BuildSpec,
    materials: Materials,
    build_env: Mapping[str, str],
    into: Path,
    *,
    registries: Collection[str],
    hidden: Collection[str] = (),
) -> Laid:
    """Writes the files of a build into an empty directory; blocks.

    A deployer's Dockerfile may name images of `registries` only, and no `hidden` ones.

    Raises DeployFailed for variables that the builder can't take, OSError.
    """
    is_own = spec.plan.stack is Stack.DOCKERFILE
    if is_own:
        context = spec.source / spec.plan.directory
        text = (context / _FILE).read_text(errors="replace")
        written = dockerfile.own(text, spec.plan.start)
        secrets = {name: value.encode() for name, value in spec.variables.items()}
        arguments = _arguments(text, spec.variables)
        ignored = context / f"{_FILE}.dockerignore"
        if ignored.is_file():
            written = written._replace(ignored=ignored.read_text(errors="replace"))
    else:
        context, arguments = spec.source, {}
        inputs = [name for name in spec.plan.install_inputs if (spec.source / name).is_file()]
        written = dockerfile.generated(spec.plan, materials, inputs)
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
    return Laid(
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
