"""The upload of a deploy: decoded while it arrives, checked, and kept until it is written out.

Begin at `reader.read_upload`. Its result is a `ReceivedBody`, whose `upload` planners can read and
the worker can write to a directory.

Nothing is imported here: parser processes need only a few of these modules.
"""
