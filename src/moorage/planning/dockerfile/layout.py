"""Where the paths of an image are in the app's directory, while it is built and afterwards."""

import posixpath
import re
from typing import NamedTuple

APP = "/app"
WORK = f"{APP}/.dockerfile"  # of the build, removed at its end
CONTEXT = f"{WORK}/context"  # the files that COPY sees
VENV = f"{APP}/.venv"  # of all Python stages: its scripts hold its path
DATA = "/data"  # the volume
# Where a shell of an image looks for programs.
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_IMAGE = f"{APP}/.image"  # what the last stage has outside of its home
_SAFE = re.compile(r"[\w./@+:-]{1,1024}\Z")
_IN_WORD = re.compile(r"(^|[\s=:,\"'])(/(?!/)[\w.@+/*?-]*)")
_MACHINES = ("/dev", "/proc", "/sys")


class Layout(NamedTuple):
    """Prefixes of paths in an image, the longest first, and the directories they stand for."""

    prefixes: tuple[tuple[str, str], ...]

    def real(self, path: str) -> str:
        """Returns the path in the sandbox of a normalised path in the image."""
        for prefix, root in self.prefixes:
            if is_below(path, prefix):
                rest = path if prefix == "/" else path[len(prefix) :]
                return f"{root}{rest}".rstrip("/") or "/"
        return path

    def rewritten(self, text: str, known: frozenset[str] | None) -> tuple[str, list[str]]:
        """Replaces the paths in a shell's word; of other paths than the known ones, none.

        Returns the word and the paths of the image that were replaced; None means all paths.
        """
        found: list[str] = []

        def replaced(match: re.Match[str]) -> str:
            path = match[2]
            is_ours = known is None or any(is_below(path, one) for one in known)
            if not is_ours or any(is_below(path, one) for one in _MACHINES):
                return match[0]
            found.append(path)
            return f"{match[1]}{self.real(path)}" + ("/" if path.endswith("/") else "")

        return _IN_WORD.sub(replaced, text), found


def layout_of(number: int, *, home: str | None, has_volume: bool) -> Layout:
    """Returns a stage's layout; `home` is the app's directory in the last stage, None in others."""
    if home is None:
        return Layout((("/", f"{WORK}/{number}"),))
    volume = ((DATA, DATA),) if has_volume else ()
    return Layout((*volume, (home, APP), ("/", _IMAGE)))


def is_below(path: str, directory: str) -> bool:
    """Whether a path is the directory or in it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def in_image(workdir: str, path: str) -> str:
    """Returns the normalised path in the image; "" if it has characters that aren't followed."""
    if not _SAFE.match(path):
        return ""
    return posixpath.normpath(posixpath.join("/", workdir, path)).replace("//", "/")
