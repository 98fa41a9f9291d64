"""What is known of a deployment on this machine, kept on disk: enough to find it after a crash."""

import errno
from enum import StrEnum
from pathlib import Path
from typing import Self

import msgspec

from moorage.engines.engine import AppExit
from moorage.engines.host.listeners import Listener
from moorage.whole_file import overwrite_file, read_file, replace_file

_FILE = "record.json"


class Stage(StrEnum):
    """How far a deployment came."""

    BUILDING = "building"  # or interrupted while it was
    FAILED = "failed"  # the build did; only its log is of use
    BUILT = "built"
    STARTED = "started"  # an app was launched; whether it runs, the machine says


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment; each way to isolate apps adds what it must find again."""

    deployment_id: str
    stage: Stage
    listener: Listener | None = None  # where the socket proxy leads, once the app listens
    exit_code: int | None = None  # of an app that was stopped
    out_of_memory: bool = False

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """The one in a deployment's directory; None when there is none, or none that is whole."""
        try:
            return msgspec.json.decode(read_file(f"{directory}/{_FILE}"), type=cls)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write(self, directory: Path) -> None:
        """Put it in place, whole; where the disk is full, over the one there is. Raises OSError."""
        path, content = directory / _FILE, msgspec.json.encode(self)
        try:
            replace_file(path, content)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not path.exists():
                raise
            overwrite_file(path, content)

    def ended(self, how: AppExit) -> Self:
        """The same once its app was stopped."""
        return msgspec.structs.replace(
            self, exit_code=how.exit_code, out_of_memory=how.out_of_memory, listener=None
        )

    @property
    def is_built(self) -> bool:
        """Whether its build came to a good end."""
        return self.stage in (Stage.BUILT, Stage.STARTED)
