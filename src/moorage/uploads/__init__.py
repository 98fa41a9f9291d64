"""The upload of a deploy: decoded while it arrives, checked, kept until it becomes a directory.

`read_upload` takes the body of `POST /agent/deploy` off the request stream. File contents are
decoded as they pass and never held whole; what is left of the JSON is small, and parsed elsewhere.
The result is a `ReceivedBody`, whose `upload` planners can read and the worker can write to a
directory.
"""

from moorage.uploads.limits import UploadLimits
from moorage.uploads.reader import ReceivedBody, read_upload
from moorage.uploads.room import RoomLimits, SpoolRoom
from moorage.uploads.spool import sweep_spool
from moorage.uploads.tree import Upload

__all__ = [
    "ReceivedBody",
    "RoomLimits",
    "SpoolRoom",
    "Upload",
    "UploadLimits",
    "read_upload",
    "sweep_spool",
]
