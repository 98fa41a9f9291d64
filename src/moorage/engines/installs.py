"""Installs that later builds of a wallet need not repeat, for every engine that keeps them itself.

What one leaves goes by a key that covers everything it may depend on, with the files that the plan
says it reads. A plan that names no files has none to keep.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from moorage.engines.engine import BuildSpec

UNCHANGED = "dependencies unchanged: install skipped"
"""The line in the log of a build whose install is not run."""

_FORMAT = 1  # a change makes all that is kept unused


def may_be_kept(spec: BuildSpec) -> bool:
    """Returns whether a build's install can be distinguished from others by what it reads."""
    plan = spec.plan
    return bool(spec.owner) and plan.install is not None and bool(plan.install_inputs)


def install_key(spec: BuildSpec, build_env: Mapping[str, str], made_on: Sequence[str]) -> str:
    """Returns the SHA-256, in hex, of everything that may change the install's result.

    `made_on` is what identifies the programs that there are for it. Reads the files; blocks.
    """
    plan = spec.plan
    digest = hashlib.sha256(
        msgspec.json.encode(
            (
                *(_FORMAT, tuple(made_on), spec.owner, spec.limits.disk_bytes),
                *(plan.install, plan.directory, plan.toolchains),
                *(dict(build_env), plan.build_env, dict(spec.variables)),
            ),
            order="deterministic",
        )
    )
    for name in sorted(plan.install_inputs):
        path = spec.source / name
        content = path.read_bytes() if path.is_file() else None
        digest.update(msgspec.json.encode((name, content)))
    return digest.hexdigest()
