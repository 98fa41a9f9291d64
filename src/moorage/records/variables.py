"""A deployer's variables: those that builds see, and those that the running app sees.

They may be secrets: they are stored sealed, never told to anybody, and no text shows a value.
"""

from collections.abc import Mapping

import msgspec

from moorage.errors import InvalidField

MOST_ENTRIES = 200
MOST_VALUE_BYTES = 32_768
MOST_BYTES = 524_288
"""Names and values of one kind together, in UTF-8. They fit into a deploy's body, and Linux starts
programs with 2 MiB of arguments and environment at most (execve(2))."""

Changes = Mapping[str, str | None]
"""Values by name; None takes the variable away."""


class Variables(msgspec.Struct, frozen=True):
    """The variables of a project or of a deployment."""

    build: dict[str, str] = {}
    run: dict[str, str] = {}

    def __repr__(self) -> str:
        """The names alone."""
        return f"Variables(build={sorted(self.build)}, run={sorted(self.run)})"

    def changed(self, *, build: Changes, run: Changes, field: str = "") -> "Variables":
        """These with the changes made. Raises InvalidField when that are too many.

        `field` is what goes before `buildVars` and `runEnvs` in its name.
        """
        return Variables(
            build=_merged(f"{field}buildVars", self.build, build),
            run=_merged(f"{field}runEnvs", self.run, run),
        )


def _merged(field: str, present: Mapping[str, str], changes: Changes) -> dict[str, str]:
    merged = {**present, **changes}
    left = {name: value for name, value in merged.items() if value is not None and name != "PORT"}
    if len(left) > MOST_ENTRIES:
        raise InvalidField(field, f"must have at most {MOST_ENTRIES} entries, with those there are")
    if sum(len(name) + len(value.encode()) for name, value in left.items()) > MOST_BYTES:
        problem = f"must take at most {MOST_BYTES:,} bytes together, with those there are"
        raise InvalidField(field, problem)
    return left
