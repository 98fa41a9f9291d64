"""The limits of one upload, in bytes and files."""

import msgspec


class UploadLimits(msgspec.Struct, frozen=True):
    """The limits of one request body and of what it unpacks to. Every limit is inclusive."""

    body_bytes: int = 50 * 1024 * 1024
    """The raw JSON body. The contract's “50 MB” is taken as 50 MiB, the larger of two meanings."""

    files: int = 5_000
    """Files of one upload. An archive may hold four times as many entries of any kind."""

    path_length: int = 1_024
    """One path, in UTF-8 bytes."""

    path_depth: int = 64
    """Components of one path, the file's own name included."""

    component_length: int = 255
    """One component of a path, in UTF-8 bytes: the maximum of Linux file systems."""

    unpacked_bytes: int = 256 * 1024 * 1024
    """All files of an archive together, counted while they are inflated."""

    archive_ratio: int = 100
    """Unpacked bytes per packed byte, per file and in total; 1 MiB is always allowed."""

    skeleton_bytes: int = 1024 * 1024
    """The body without file contents: names, settings, punctuation."""

    nesting_depth: int = 32
    """Objects and arrays inside one another."""

    containers: int = 20_000
    """Objects and arrays in all: four times `files`, each of which is one object."""

    memory_bytes: int = 256 * 1024
    """Contents held in memory, all files together; what does not fit is spooled to disk."""
