"""What a cluster can't give: an image has what was made of the files; pods alone reach volumes."""

from collections.abc import Collection
from pathlib import Path

from moorage.engines.failure import not_exported


class NoExports:
    """The part of an `Engine` that takes an app's own files out of it."""

    async def export_files(
        self, deployment_id: str, target: Path, *, without: Collection[str] = ()
    ) -> None:
        """Raises DeployFailed."""
        del deployment_id, target, without
        raise not_exported()

    async def export_volume(self, volume_id: str, target: Path) -> None:
        """Raises DeployFailed."""
        del volume_id, target
        raise not_exported()
