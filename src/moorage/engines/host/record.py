"""A deployment's record on disk, with which the engine finds the deployment after a crash."""

import errno
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from moorage.engines.engine import AppExit, WrittenFiles
from moorage.engines.host.network.listeners import Listener
from moorage.whole_file import overwrite_file, read_file, replace_file

_FILE = "record.json"


class Stage(StrEnum):
    """How far a deployment has come."""

    BUILDING = "building"  # or was interrupted during the build
    FAILED = "failed"  # the build failed; only its log is kept
    BUILT = "built"
    STARTED = "started"  # an app was launched; it may have ended


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment; each engine adds its own fields."""

    deployment_id: str
    stage: Stage
    listener: Listener | None = None  # the target of the socket proxy, once the app listens
    exit_code: int | None = None  # of an app that was stopped
    out_of_memory: bool = False
    written: WrittenFiles | None = None  # by the app, when it was stopped; None: not known

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Reads the record in a deployment's directory; None if it is missing or damaged."""
        try:
            return msgspec.json.decode(read_file(f"{directory}/{_FILE}"), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, directory: Path) -> None:
        """Writes the file atomically, or in place if the disk is full. Raises OSError."""
        path, content = directory / _FILE, msgspec.json.encode(self)
        try:
            replace_file(path, content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
                raise
            overwrite_file(path, content)

    def ended(self, how: AppExit, written: WrittenFiles | None = None) -> Self:
        """Returns the record after its app has ended."""
        return msgspec.structs.replace(
            self,
            exit_code=how.exit_code,
            out_of_memory=how.out_of_memory,
            listener=None,
            written=written or self.written,
        )

    @property
    def is_built(self) -> bool:
        """Whether its build succeeded."""
        return self.stage in (Stage.BUILT, Stage.STARTED)
