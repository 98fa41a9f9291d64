"""How long the variables of an app or a build may be, which the cluster keeps in a Secret."""

from collections.abc import Mapping

from moorage.errors import DeployFailed, FailureCause

_ONE_BYTES = 100_000  # the kernel takes 131,072 in one, and some 2 MB in all
_ALL_BYTES = 500 * 1024  # a Secret takes 1 MiB in base64


def require_short(variables: Mapping[str, str], *, setting: str, cause: FailureCause) -> None:
    """Raises DeployFailed with `cause`, naming the setting, for variables that are too long."""
    sizes = [len(name) + len(value.encode()) for name, value in variables.items()]
    if max(sizes, default=0) > _ONE_BYTES or sum(sizes) > _ALL_BYTES:
        raise DeployFailed(
            cause,
            f"{setting} are too long: {_ONE_BYTES:,} bytes in one, and {_ALL_BYTES:,} in all are "
            "taken",
        )
