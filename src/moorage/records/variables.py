"""A deployer's variables: those of builds, and those of the running app.

They may be secrets: they are stored sealed, and no answer, log or error text shows a value.
"""

from collections.abc import Mapping

import msgspec

from moorage.errors import InvalidField

MAX_ENTRIES = 200
MAX_VALUE_BYTES = 32_768
MAX_BYTES = 524_288
"""The sum of names and values of one kind, in UTF-8. That fits into a deploy's body, and into the
2 MiB that Linux allows for a program's arguments and environment (execve(2))."""

Changes = Mapping[str, str | None]
"""Values by name; None removes the variable."""


class Variables(msgspec.Struct, frozen=True):
    """The variables of a project or of a deployment."""

    build: dict[str, str] = {}
    run: dict[str, str] = {}

    def __repr__(self) -> str:
        """The names, without values, which may be secrets."""
        return f"Variables(build={sorted(self.build)}, run={sorted(self.run)})"

    def changed(self, *, build: Changes, run: Changes, field: str = "") -> "Variables":
        """Returns these variables with the changes. Raises InvalidField when they are too many.

        `field` is put before `buildVars` and `runEnvs` in the field's name.
        """
        return Variables(
            build=_merged(f"{field}buildVars", self.build, build),
            run=_merged(f"{field}runEnvs", self.run, run),
        )


def _merged(field: str, present: Mapping[str, str], changes: Changes) -> dict[str, str]:
    merged = {**present, **changes}
    left = {name: value for name, value in merged.items() if value is not None and name != "PORT"}
    if len(left) > MAX_ENTRIES:
        raise InvalidField(field, f"must have at most {MAX_ENTRIES} entries, with those there are")
    if sum(len(name) + len(value.encode()) for name, value in left.items()) > MAX_BYTES:
        problem = f"must take at most {MAX_BYTES:,} bytes together, with those there are"
        raise InvalidField(field, problem)
    return left
