"""Turns a directory into an upload. The same files always give the same bytes."""

import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from moorage.archive.project import (
    PAGE_VARIABLES,
    VARIABLES,
    ArchiveRefused,
    Manifest,
    open_archive,
    unseal,
)
from moorage.sdk.client import File, Files, Zip
from moorage.sdk.errors import DirectoryInvalid
from moorage.wire.deploy import ExportUpload

MAX_UPLOAD_BYTES = 50 * 1024 * 1024
"""A larger archive is deployed where it was made, by its digest alone."""


class OpenExport(NamedTuple):
    """An archive on this machine."""

    content: bytes | None  # None: too large to be sent
    sha256: str
    manifest: Manifest
    run: dict[str, str]  # values of variables, if their key lies beside it
    build: dict[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def upload(self) -> ExportUpload:
        """What names it in a deploy."""
        return ExportUpload(sha256=self.sha256)


def read_export(path: Path) -> OpenExport:
    """Reads an archive, and the variables that the key beside it opens.

    Raises DirectoryInvalid if it is no archive of a project, or the key opens nothing of it.
    """
    try:
        with path.open("rb") as source:
            sha256 = hashlib.file_digest(source, "sha256").hexdigest()
            archive = open_archive(source)
            part, key = archive.manifest.part(VARIABLES), Path(f"{path}.key")
            values: dict[str, dict[str, str]] = {}
            if part is not None and key.exists():
                sealed = bytearray()
                archive.copy_part(part, _Into(sealed))
                values = msgspec.json.decode(
                    unseal(bytes(sealed), key.read_text().strip()), type=dict[str, dict[str, str]]
                )
    except (OSError, ArchiveRefused, ValueError, msgspec.MsgspecError) as error:
        raise DirectoryInvalid(f"{path} can't be deployed: {error}") from error
    small = path.stat().st_size <= MAX_UPLOAD_BYTES
    return OpenExport(
        content=path.read_bytes() if small else None,
        sha256=sha256,
        manifest=archive.manifest,
        run=values.get("run", {}),
        build=values.get("build", {}),
    )


class _Into:
    def __init__(self, content: bytearray) -> None:
        self._content = content

    def write(self, piece: bytes) -> None:
        self._content += piece


IGNORE_FILES = (".gitignore", ".moorageignore")

DEFAULTS = (
    ".git",
    ".moorage/",
    "node_modules/",
    ".venv/",
    "venv/",
    "__pycache__/",
    "*.pyc",
    ".DS_Store",
    ".env*",
    *("!.env*.example", "!.env*.sample", "!.env*.template", "!.env.dist"),
)
"""Left out unless included again with `!`: histories, what builds make again, secrets.

A .env or .env.production with nothing but variables of pages (`VITE_…`) is sent nevertheless.
An example of a .env file has none, and says which variables the app needs.
"""


class Rule(msgspec.Struct, frozen=True):
    """One pattern. `base` is the directory it came from, relative, with a trailing `/` or empty."""

    base: str
    regex: re.Pattern[str]
    directories_only: bool
    keeps: bool

    def matches(self, path: str, *, is_directory: bool) -> bool:
        """Whether the pattern matches `path`, relative to the top with `/` between parts."""
        if self.directories_only and not is_directory:
            return False
        return path.startswith(self.base) and bool(self.regex.fullmatch(path, len(self.base)))


def read_rules(lines: Iterable[str], *, base: str = "") -> tuple[Rule, ...]:
    """Returns the rules of an ignore file's lines, in order; some lines have no pattern."""
    rules = (_read_rule(line, base) for line in lines)
    return tuple(rule for rule in rules if rule is not None)


def is_ignored(path: str, rules: Iterable[Rule], *, is_directory: bool) -> bool:
    """Whether `path` is left out: the last rule that matches decides."""
    if path == ".git" or path.endswith("/.git"):
        return True
    left_out = False
    for rule in rules:
        if rule.keeps == left_out and rule.matches(path, is_directory=is_directory):
            left_out = not rule.keeps
    return left_out


def _read_rule(line: str, base: str) -> Rule | None:
    text = line.rstrip("\r\n")
    pattern = text.rstrip(" ")
    backslashes = len(pattern) - len(pattern.rstrip("\\"))
    pattern = pattern + " " if backslashes % 2 and pattern != text else pattern
    if not pattern or pattern.startswith("#"):
        return None
    keeps = pattern.startswith("!")
    pattern = pattern[1:] if keeps else pattern
    directories_only = pattern.endswith("/")
    pattern = pattern.rstrip("/")
    anchored = "/" in pattern
    pattern = pattern.lstrip("/")
    if not pattern:
        return None
    try:
        regex = re.compile(
            ("" if anchored else "(?:.*/)?")
            + "".join(_translate_token(token) for token in _TOKENS.finditer(pattern)),
            re.DOTALL,
        )
    except KeyError:  # an unknown character class
        return None
    return Rule(base=base, regex=regex, directories_only=directories_only, keeps=keeps)


_TOKENS = re.compile(
    r"(?P<leading>(?:(?<=^)|(?<=/))\*\*/)"  # any directories, or none
    r"|(?P<trailing>(?<=/)\*\*$)"  # everything below
    r"|(?P<stars>\*+)"
    r"|(?P<one>\?)"
    r"|\[(?P<not>[!^]?)(?P<set>\]?(?:\[:\w*:\]|\\.|[^\]\\])*)\]"
    r"|\\(?P<escaped>.)"
    r"|(?P<plain>.)",
    re.DOTALL,
)
_MEMBERS = re.compile(
    r"\[:(?P<class>\w*):\]|\\?(?P<low>(?<=\\).|[^\\])-\\?(?P<high>(?<=\\).|[^\\])"
    r"|\\?(?P<one>.)",
    re.DOTALL,
)
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


def _translate_token(token: re.Match[str]) -> str:
    if token["leading"]:
        return "(?:.*/)?"
    if token["trailing"]:
        return ".+"
    if token["stars"]:
        return "[^/]*"
    if token["one"]:
        return "[^/]"
    if token["set"] is not None:
        members = "".join(_translate_member(each) for each in _MEMBERS.finditer(token["set"]))
        if token["not"]:
            return f"[^/{members}]"
        return f"(?!/)[{members}]" if members else "(?!)"
    return re.escape(token["escaped"] or token["plain"])


def _translate_member(member: re.Match[str]) -> str:
    """Translates a part of a set. Raises KeyError for an unknown class."""
    if member["class"] is not None:
        return _CLASSES[member["class"]]
    if member["one"] is not None:
        return re.escape(member["one"])
    low, high = member["low"], member["high"]
    return f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""


BODY_BYTES = 50_000_000
"""The contract's 50 MB, in decimal units: the smaller meaning."""

_OVERHEAD_BYTES = 256 * 1024  # the request's other fields, at their longest
_UNPACKED_BYTES = 256 * 1024 * 1024
_FILES = 5_000
_DEPTH = 64

# Few small files are sent one by one, which a person can read; everything else is packed.
_ONE_BY_ONE_FILES = 100
_ONE_BY_ONE_BYTES = 256 * 1024

# Gateways refuse what looks like a zip bomb, so a file this compressible is stored as it is.
_SUSPICIOUS_RATIO = 50
_SUSPICIOUS_BYTES = 1024 * 1024

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


class Collected(msgspec.Struct, frozen=True):
    """An upload, its size, and warnings of files that were left out."""

    upload: Files | Zip
    file_count: int
    total_bytes: int
    warnings: tuple[str, ...]


def read_upload(path: Path) -> Collected | OpenExport:
    """Reads what is to be deployed: an archive, or the files of a directory.

    Raises DirectoryInvalid.
    """
    return read_export(path) if path.is_file() else collect(path)


class Listing(msgspec.Struct, frozen=True):
    """What an upload would hold: each file's path and size, and `warnings` as in `Collected`."""

    sizes: dict[str, int]
    warnings: tuple[str, ...]


class _Found(msgspec.Struct, frozen=True):
    path: str
    size: int
    executable: bool


def collect(directory: Path) -> Collected:
    """Reads the files of `directory` that `sdk.ignore` does not leave out, ready to upload.

    Symbolic links and special files are skipped and named in `warnings`, as are files that look
    like secrets. Raises DirectoryInvalid if it is no directory, holds nothing to upload or more
    than the contract's 50 MB or 5,000 files, or if a file can't be read.
    """
    found, warnings = _find(directory)
    total = sum(item.size for item in found)
    upload = _pack(directory, found, total)
    return Collected(upload=upload, file_count=len(found), total_bytes=total, warnings=warnings)


def list_files(directory: Path) -> Listing:
    """Lists the files that `collect` would upload, without reading them.

    Raises DirectoryInvalid as `collect` does, except for the packed size, which is not known here.
    """
    found, warnings = _find(directory)
    return Listing(sizes={item.path: item.size for item in found}, warnings=warnings)


def _find(directory: Path) -> tuple[list[_Found], tuple[str, ...]]:
    """Returns the files to upload, and the warnings. Raises DirectoryInvalid."""
    if not directory.exists():
        raise DirectoryInvalid(f"{directory} does not exist")
    if not directory.is_dir():
        raise DirectoryInvalid(f"{directory} is not a directory")
    warnings: list[str] = []
    found: list[_Found] = []
    total = 0
    for item in _walk(directory, warnings):
        found.append(item)
        total += item.size
        if len(found) > _FILES or total > _UNPACKED_BYTES:
            raise _too_much(directory, found)
    if not found:
        raise DirectoryInvalid(
            f"{directory} holds nothing to upload: it is empty, or all of it is ignored"
        )
    return found, tuple(warnings)


def _pack(directory: Path, found: list[_Found], total: int) -> Files | Zip:
    one_by_one = (
        len(found) <= _ONE_BY_ONE_FILES
        and total <= _ONE_BY_ONE_BYTES
        and not any(item.executable for item in found)  # only an archive holds a file's mode
    )
    if one_by_one:
        return Files(
            files=tuple(
                File(path=item.path, content=_read(directory / item.path)) for item in found
            )
        )
    data = _zip(directory, found)
    if len(data) * 4 // 3 + _OVERHEAD_BYTES > BODY_BYTES:
        raise _too_much(directory, found)
    return Zip(data=data, filename=f"{directory.resolve().name or 'upload'}.zip")


def _zip(directory: Path, found: list[_Found]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for item in found:
            content = _read(directory / item.path)
            entry = zipfile.ZipInfo(item.path, _ZIP_EPOCH)
            entry.create_system = 3  # Unix, whose modes `external_attr` holds
            entry.external_attr = (stat.S_IFREG | (0o755 if item.executable else 0o644)) << 16
            entry.compress_type = _compression(content)
            archive.writestr(entry, content)
    return buffer.getvalue()


def _compression(content: bytes) -> int:
    if len(content) < _SUSPICIOUS_BYTES:
        return zipfile.ZIP_DEFLATED
    packed = len(zlib.compress(content))
    suspicious = len(content) > packed * _SUSPICIOUS_RATIO
    return zipfile.ZIP_STORED if suspicious else zipfile.ZIP_DEFLATED


def _walk(directory: Path, warnings: list[str]) -> Iterator[_Found]:
    """Yields the files, sorted by name; a directory's own files come before those below it."""
    defaults = read_rules(DEFAULTS)
    pending = [("", defaults)]
    while pending:
        prefix, rules = pending.pop()
        here = directory / prefix
        rules += _rules_in(here, base=prefix)
        below = []
        for entry in _entries(here):
            path = prefix + entry.name
            is_directory = entry.is_dir(follow_symlinks=False)
            is_left_out = is_ignored(path, rules, is_directory=is_directory)
            if is_left_out and entry.name in (".env", ".env.production"):
                is_left_out = (
                    not entry.is_file(follow_symlinks=False)
                    or is_ignored(path, rules[len(defaults) :], is_directory=False)
                    or PAGE_VARIABLES.fullmatch(_read(here / entry.name)) is None
                )
            if is_left_out:
                if entry.name.startswith(".env"):
                    warnings.append(
                        f"{path} was not uploaded: what the app reads of it goes in --env "
                        "NAME=VALUE, what its build reads in --build-env NAME=VALUE"
                    )
            elif is_directory:
                below.append((f"{path}/", rules))
            elif entry.is_file(follow_symlinks=False):
                yield _found(entry, path)
            else:
                kind = "a symbolic link" if entry.is_symlink() else "not a regular file"
                warnings.append(f"{path} was not uploaded: it is {kind}")
        if below and prefix.count("/") >= _DEPTH:
            raise DirectoryInvalid(f"{here} is more than {_DEPTH} directories deep")
        pending.extend(reversed(below))


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DirectoryInvalid(f"{directory} can't be read: {error.strerror}") from error


def _found(entry: os.DirEntry[str], path: str) -> _Found:
    try:
        path.encode()
        facts = entry.stat(follow_symlinks=False)
    except UnicodeEncodeError as error:
        raise DirectoryInvalid(f"the name of {path!r} is not UTF-8") from error
    except OSError as error:
        raise DirectoryInvalid(f"{path} can't be read: {error.strerror}") from error
    executable = bool(facts.st_mode & stat.S_IXUSR)
    return _Found(path=path, size=facts.st_size, executable=executable)


def _rules_in(directory: Path, *, base: str) -> tuple[Rule, ...]:
    rules: tuple[Rule, ...] = ()
    for name in IGNORE_FILES:
        file = directory / name
        if file.is_file():
            lines = _read(file).decode(errors="replace").splitlines()
            rules += read_rules(lines, base=base)
    return rules


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DirectoryInvalid(f"{file} can't be read: {error.strerror}") from error


def _too_much(directory: Path, found: list[_Found]) -> DirectoryInvalid:
    largest = sorted(found, key=lambda item: item.size, reverse=True)[:3]
    named = ", ".join(f"{item.path} ({item.size / 1e6:.1f} MB)" for item in largest)
    return DirectoryInvalid(
        f"{directory} holds more than can be uploaded (50 MB packed, 256 MiB unpacked, "
        f"{_FILES:,} files). The largest: {named}. Leave out what a build makes again in "
        ".moorageignore"
    )
