"""What the files of an upload say that it is: `kinds.toml`, and the words of a refusal."""

from itertools import islice
from typing import NamedTuple

import msgspec

from moorage.planning.plan import Stack
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.formats import table

_NAMES = 4  # in the sentence
_NAME_CHARACTERS = 24
_NAMES_READ = 5_000
_DEPTH = 3  # directories in one another


class _Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of `kinds.toml`; see the words at its top."""

    kind: str = ""
    files: str = ""
    step: str = ""
    language: str = ""
    programs: str = ""
    manifests: str = ""
    compiled: str = ""
    runtimes: str = ""
    stack: str = ""


class _Other(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A row of `kinds.toml` for uploads that are no web apps."""

    kind: str
    file: str
    says: tuple[str, ...]
    step: str = ""
    unless: str = ""


_KINDS = msgspec.convert(table("kinds")["kind"], tuple[_Kind, ...])
_OTHERS = msgspec.convert(table("kinds")["other"], tuple[_Other, ...])
_OTHERS_OF = {it.file: [row for row in _OTHERS if row.file == it.file] for it in _OTHERS}
_ROWS = {name: row for row, it in reversed([*enumerate(_KINDS)]) for name in it.files.split()}
RUNTIMES = {
    name: (Stack(it.stack or it.language), it.language)
    for it in _KINDS
    for name in it.runtimes.split()
}
"""By the word of settings.runtime, the stack and the program whose version it may name."""
LANGUAGE_OF = {program: it.language for it in _KINDS for program in it.programs.split()}
"""By program, the language that brings it."""
COMPILED = tuple((it.language, tuple(it.compiled.split())) for it in _KINDS if it.compiled)
"""Languages, with the ends of names of files that an app of theirs has."""
MANIFESTS = tuple(name for it in _KINDS for name in it.manifests.split())
"""Files with which a directory is an app of its own."""


class Known(NamedTuple):
    """A file that says what an upload is, what that is, and the step that would help."""

    file: str = ""
    kind: str = ""
    step: str = ""

    @property
    def sentence(self) -> str:
        """Says what the file is; "" without one."""
        if not self.kind:
            return ""
        article = self.kind if self.kind.startswith(("a ", "an ")) else f"{self.kind}'s"
        article = self.kind if "'s" in self.kind else article
        return f" {short(self.file)} is {article}" + (
            "." if self.step else ", which this gateway does not run."
        )


def known(folder: Folder, *, follows_any: bool = True) -> Known:
    """Returns what a file says of the upload: one right inside goes before others.

    Unless any Dockerfile can be followed, one of a language that is not here says less than that.
    """
    for names in (folder.files(), islice(folder.names(), _NAMES_READ)):
        rows = sorted((row, name) for name in names if (row := _row(name)) is not None)
        foreign = [it for it in rows if _KINDS[it[0]].kind and not _KINDS[it[0]].step]
        if rows:
            row, name = rows[0] if follows_any or not foreign else foreign[0]
            return Known(name, _KINDS[row].kind, _KINDS[row].step)
    return Known()


def no_web_app(folder: Folder, otherwise: str) -> str:
    """Returns the refusal of an upload of which a file says that nobody visits it; "" for others.

    `otherwise` is the step for what a Dockerfile may run.
    """
    for pattern, rows in _OTHERS_OF.items():
        file = folder.first(pattern) if pattern[0] != "*" else _only(folder, pattern[1:])
        if not file:
            continue
        text = folder.plain(file)
        for row in rows:
            if all(it in text for it in row.says) and not any(
                f'"{word}"' in text for word in row.unless.split()
            ):
                where, step = folder.path(file), row.step or otherwise
                return f"{where} says that this is {row.kind}, which does not run here. {step}"
    return ""


def _only(folder: Folder, ending: str) -> str:
    """Returns the only file with this ending right inside, beside no usual beginning of an app."""
    if folder.first("package.json", "index.html", "requirements.txt", "pyproject.toml", "go.mod"):
        return ""
    names = [name for name in folder.files() if name.endswith(ending)]
    return names[0] if len(names) == 1 else ""


def is_foreign(folder: Folder) -> bool:
    """Whether the upload is plainly of a language that no stack knows."""
    found = known(folder)
    return bool(found.kind) and not found.step


def _row(path: str) -> int | None:
    """Returns the number of the row that knows a file; None for hidden and other files."""
    name = path.rpartition("/")[2]
    if path.startswith(".") or "/." in path or path.count("/") > _DEPTH:
        return None
    return _ROWS.get(name, _ROWS.get(f"*.{name.rpartition('.')[2]}"))


def listed(entries: list[str]) -> str:
    """Returns the first names, and how many there are more."""
    if not entries:
        return "no files"
    shown = [short(name) for name in entries[:_NAMES]]
    more = len(entries) - len(shown)
    if more:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def short(name: str) -> str:
    """Returns a name, cut to a readable length."""
    return f"{name[: _NAME_CHARACTERS - 1]}…" if len(name) > _NAME_CHARACTERS else name
