"""The upload of a deploy: decoded while it arrives, checked, and kept until it is written out.

`read_upload` reads the body of `POST /agent/deploy` from the request stream. File contents are
decoded piece by piece and never held whole. The rest of the JSON is small, and is parsed in another
process. The result is a `ReceivedBody`, whose `upload` planners can read and the worker can write
to a directory.
"""

from moorage.uploads.limits import UploadLimits
from moorage.uploads.reader import ReceivedBody, read_upload
from moorage.uploads.room import RoomLimits, SpoolRoom
from moorage.uploads.spool import sweep_spool
from moorage.uploads.stored import STORED_LIMITS, StoredUploads
from moorage.uploads.tree import Upload

__all__ = [
    "STORED_LIMITS",
    "ReceivedBody",
    "RoomLimits",
    "SpoolRoom",
    "StoredUploads",
    "Upload",
    "UploadLimits",
    "read_upload",
    "sweep_spool",
]
