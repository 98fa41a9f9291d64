"""Which lines of a stage are its install: those that read nothing but lists of packages.

They are run by themselves, and what they made is kept for later builds with the same lists: as an
image's layers are, but each stage for itself.
"""

import posixpath
from dataclasses import dataclass, field
from itertools import islice

from moorage.planning.dockerfile.upload import Upload

# Of files that say what is installed and how, rather than what the app does.
_ENDINGS = frozenset(
    (
        *(".json", ".jsonc", ".json5", ".lock", ".lockb", ".toml", ".txt", ".yaml", ".yml"),
        *(".cfg", ".ini", ".mod", ".sum", ".work", ".gemspec", ".prisma", ".patch", ".in"),
    )
)
_NAMES = frozenset(("Gemfile", "Pipfile", "setup.py", "rust-toolchain"))
_FILES_LIMIT = 100  # of a stage


@dataclass(kw_only=True)
class Install:
    """A stage's install: the first lines of its script, up to a RUN."""

    lines: int = 0
    shell: tuple[str, ...] = ()  # among them, what the rest of the script needs again
    has_run: bool = False
    inputs: set[str] = field(default_factory=set)  # files of the upload that the lines read
    seen: set[str] = field(default_factory=set)  # that the script has read so far
    is_open: bool = True  # nothing else was read so far

    def reads(self, entries: list[str], upload: Upload) -> None:
        """Ends the install before lines that read other files than lists of packages."""
        if not self.is_open:
            return
        files = (name for entry in entries for name in upload.files(entry))
        found = list(islice(files, _FILES_LIMIT + 1 - len(self.seen)))
        self.seen.update(found)
        self.is_open = (
            len(self.seen) <= _FILES_LIMIT
            and all(map(_is_list, found))
            and all(map(upload.is_whole, entries))
        )

    def follows(self, other: "Install") -> None:
        """Ends the install before lines that read what another stage's build makes."""
        self.is_open = self.is_open and other.is_open

    def ran(self, script: list[str], shell: list[str]) -> None:
        """Takes the lines so far for the install's."""
        if self.is_open:
            self.lines, self.shell, self.inputs = len(script), tuple(shell), {*self.seen}
            self.has_run = True

    def ends(self, script: list[str]) -> None:
        """Takes all lines of a stage that read nothing else: others may need the whole of it."""
        if self.is_open:
            self.lines, self.inputs = len(script), {*self.seen}


def _is_list(name: str) -> bool:
    base = posixpath.basename(name)
    return base.startswith(".") or base in _NAMES or posixpath.splitext(base)[1] in _ENDINGS
