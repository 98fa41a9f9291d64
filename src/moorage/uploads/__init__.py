"""The upload of a deploy: decoded while it arrives, checked, and kept until it is written out.

`reader.read_upload` reads the body of `POST /agent/deploy` from the request stream. File contents
are decoded piece by piece and never held whole. The rest of the JSON is small, and is parsed in
another process. The result is a `ReceivedBody`, whose `upload` planners can read and the worker can
write to a directory.

Nothing is imported here: parser processes need a few of these modules, and asyncio none at all.
"""
