"""What an app has written onto its disk since it was built: counts it, and takes it for a volume.

It runs as root below directories that a hostile app may change meanwhile, so it never follows a
link, looks at so many entries, so deep, and takes so much processor time at most. Blocking; call
from a thread.
"""

import os
import stat
import time
from pathlib import Path

from moorage.archive.tree import Tree, TreeRefused, write_tree
from moorage.engines.engine import WrittenFiles
from moorage.engines.failure import not_taken_along
from moorage.engines.isolation import idmap

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_ENTRIES = 20_000
_MAX_DEPTH = 16
_MAX_SECONDS = 0.25  # of this thread's processor time: a busy machine counts no less
_MAX_NAMED = 10
_MAX_NAME_CHARS = 200
_BLOCK_BYTES = 512  # of st_blocks (inode(7))
_OF_TOOLS = frozenset(
    (
        *("__pycache__", "node_modules", "tmp", ".cache", ".config", ".local", ".git", ".venv"),
        *(".npm", ".pnpm-store", ".yarn", ".bun", ".deno", ".cargo", ".gradle", ".m2", ".bundle"),
        *(".next", ".nuxt", ".output", ".svelte-kit", ".vite", ".turbo", ".nx", ".angular"),
        *(".astro", ".parcel-cache", ".docusaurus", ".pytest_cache", ".mypy_cache"),
        *(".ruff_cache", ".streamlit", ".gradio", ".dockerfile", ".image"),
    )
)
"""Directories that tools write for themselves; beside these, all hidden ones of the home."""


def written_since(app: Path, home: Path, at_ns: int) -> WrittenFiles:
    """Counts the files that changed after a time (their ctime, nanoseconds).

    `app` is what the app sees as /app, `home` as /home/app.
    """
    count = _Count(at_ns)
    inside, outside = list[str](), list[str]()
    count.look_into(str(app), None, shown="/app", into=inside)
    count.look_into(str(home), None, shown="/home/app", into=outside)
    return WrittenFiles(
        files=count.files,
        size_bytes=count.size_bytes,
        complete=count.complete,
        paths=tuple(sorted(inside)),
        outside=tuple(sorted(outside)),
    )


def read_written(app: Path, target: Path, *, since_ns: int, max_bytes: int) -> Tree:
    """Writes the files below `app` that changed after a time, and the links, to a new file.

    Raises DeployFailed for more than `max_bytes`, OSError.
    """

    def left_out(name: str, found: os.stat_result) -> bool:
        if stat.S_ISDIR(found.st_mode):
            return name.rpartition("/")[2] in _OF_TOOLS
        return found.st_ctime_ns <= since_ns

    try:
        return write_tree(app, target, max_bytes=max_bytes, owner=idmap.OWNER, left_out=left_out)
    except TreeRefused as error:
        raise not_taken_along(f"{error}") from error


class _Count:
    """What was found so far, and how much may still be looked at."""

    def __init__(self, at_ns: int) -> None:
        self.files, self.size_bytes, self.complete = 0, 0, True
        self._at_ns = at_ns
        self._entries_left = _MAX_ENTRIES
        self._deadline = time.thread_time() + _MAX_SECONDS

    def look_into(
        self, path: str, below: int | None, *, shown: str, into: list[str], depth: int = 0
    ) -> None:
        """Counts the files of a directory and of those in it; names the first of them."""
        try:
            directory = os.open(path, _DIRECTORY, dir_fd=below)
        except OSError:  # it is gone, or something else has its name
            return
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if self._is_over():
                        return
                    self._look_at(entry, directory, shown=shown, into=into, depth=depth)
        except OSError:  # the disk is being unmounted
            self.complete = False
        finally:
            os.close(directory)

    def _look_at(
        self, entry: os.DirEntry[str], directory: int, *, shown: str, into: list[str], depth: int
    ) -> None:
        inside = f"{shown}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            hidden_at_home = entry.name.startswith(".") and shown.startswith("/home")
            if hidden_at_home or entry.name in _OF_TOOLS:
                return
            if depth == _MAX_DEPTH:
                self.complete = False
                return
            self.look_into(entry.name, directory, shown=inside, into=into, depth=depth + 1)
        elif entry.is_file(follow_symlinks=False) and self._add(entry) and len(into) < _MAX_NAMED:
            into.append(_readable(inside))

    def _add(self, entry: os.DirEntry[str]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:  # it is gone
            return False
        if status.st_ctime_ns <= self._at_ns:
            return False
        self.files += 1
        self.size_bytes += min(status.st_size, status.st_blocks * _BLOCK_BYTES)
        return True

    def _is_over(self) -> bool:
        self._entries_left -= 1
        if self._entries_left >= 0 and time.thread_time() <= self._deadline:
            return False
        self.complete = False
        return True


def _readable(path: str) -> str:
    """Returns a path, which its app has named, as a line of text."""
    text = os.fsencode(path).decode(errors="replace")
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return text if len(text) <= _MAX_NAME_CHARS else f"{text[:_MAX_NAME_CHARS]}…"
