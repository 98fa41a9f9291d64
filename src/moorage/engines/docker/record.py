"""A deployment's record on disk."""

from typing import Self

import msgspec

from moorage.engines.engine import AppExit
from moorage.engines.host import record
from moorage.process import ProcessRecord


class Record(record.Record, frozen=True, kw_only=True):
    """One deployment, and its container once that was started."""

    container_id: str | None = None
    process: ProcessRecord | None = None  # the container's first process, outside

    def without_container(self, ended: AppExit) -> Self:
        """Returns the record after its app has ended and its container is removed."""
        return msgspec.structs.replace(self.ended(ended), container_id=None, process=None)
