"""The archive of a project: a tar with a manifest first, then the parts that the manifest lists.

| entry | has |
|---|---|
| `manifest.json` | `Manifest`: the format's version, what the project is, and each part's digest |
| `files.tar.gz` | the app's files, as `archive.tree` writes them |
| `volume.tar.gz` | what is below /data |
| `build.log`, `runtime.log` | the logs of the version that served |
| `variables.sealed` | the variables, sealed to the key that the request named |

An archive may be anybody's: only what the manifest lists is read, in its order, and each part's
size and digest must be what the manifest says. Blocking.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from moorage.archive.tree import Sink
from moorage.imports import hidden

FORMAT = 1
MANIFEST = "manifest.json"
FILES, VOLUME, VARIABLES = "files.tar.gz", "volume.tar.gz", "variables.sealed"
LOGS = ("build.log", "runtime.log")
KEY_BYTES = 32
"""The length of a key of X25519 (RFC 7748)."""

_PARTS = (FILES, VOLUME, *LOGS, VARIABLES)
_MAX_MANIFEST_BYTES = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_PIECE_BYTES = 1 << 20
_INFO = b"moorage: variables of an export, 1"


class ArchiveRefused(ValueError):
    """This is no archive of a project, or a damaged one; the message says why."""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an archive."""

    name: str
    sha256: str  # of its bytes in the archive
    size_bytes: int  # in the archive
    content_bytes: int = 0  # of a tree: what its files have
    entries: int = 0  # of a tree: files, directories and links


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The document `manifest.json`."""

    format: int = FORMAT
    project: str
    wallet: str
    made_at: str  # ISO 8601
    display_name: str = ""
    description: str = ""
    settings: dict[str, msgspec.Raw] = {}  # of a deploy's body, without variables
    domains: list[str] = []
    variables: list[str] = []  # the names of those of the app
    build_variables: list[str] = []
    sealed_to: str | None = None  # the public key, in hex; None: values were left out
    left_out: dict[str, str] = {}  # what is not in the archive, and why
    parts: list[Part] = []

    def part(self, name: str) -> Part | None:
        """Returns the part of this name, if there is one."""
        return next((it for it in self.parts if it.name == name), None)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """An archive that was written."""

    path: Path
    sha256: str
    size_bytes: int


def part_of(path: Path, *, name: str, content_bytes: int = 0, entries: int = 0) -> Part:
    """Returns the part that a file is to be."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Part(
        name=name,
        sha256=digest,
        size_bytes=path.stat().st_size,
        content_bytes=content_bytes,
        entries=entries,
    )


def write_archive(manifest: Manifest, files: Mapping[str, Path], target: Path) -> Archive:
    """Writes the manifest and its parts, which are in `files` by name. Raises OSError."""
    document = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    with target.open("xb") as out:
        os.fchmod(out.fileno(), 0o600)
        written = _Digest(out)
        _put(written, MANIFEST, len(document))
        written.write(document + bytes(-len(document) % _BLOCK))
        for part in manifest.parts:
            _put(written, part.name, part.size_bytes)
            with files[part.name].open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    written.write(piece)
            written.write(bytes(-part.size_bytes % _BLOCK))
        written.write(bytes(2 * _BLOCK))
        return Archive(path=target, sha256=written.sha256, size_bytes=out.tell())


@dataclass(frozen=True)
class OpenArchive:
    """An archive that is read; `source` can be sought in, and stays its caller's."""

    source: BinaryIO
    manifest: Manifest
    offsets: Mapping[str, int]

    def copy_part(self, part: Part, out: Sink) -> None:
        """Writes a part to `out`. Raises ArchiveRefused if it is another than the manifest says."""
        self.source.seek(self.offsets[part.name])
        digest, left = hashlib.sha256(), part.size_bytes
        while left:
            piece = self.source.read(min(left, _PIECE_BYTES))
            if not piece:
                raise ArchiveRefused("the archive ends too early")
            digest.update(piece)
            out.write(piece)
            left -= len(piece)
        if digest.hexdigest() != part.sha256:
            raise ArchiveRefused(f"{part.name} is damaged: its digest does not match")


def open_archive(source: BinaryIO) -> OpenArchive:
    """Reads the manifest, and finds the parts. Raises ArchiveRefused."""
    size = _header(source, 0, MANIFEST)
    if size > _MAX_MANIFEST_BYTES:
        raise ArchiveRefused("the manifest is too large")
    try:
        manifest = msgspec.json.decode(source.read(size), type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveRefused(f"the manifest can't be read: {error}") from error
    if manifest.format != FORMAT:
        raise ArchiveRefused(f"the archive's format is {manifest.format}; {FORMAT} is known here")
    at, offsets = _BLOCK + size + -size % _BLOCK, dict[str, int]()
    for part in manifest.parts:
        if part.name not in _PARTS or part.name in offsets or part.size_bytes < 0:
            raise ArchiveRefused(f"the manifest has a part that can't be: {part.name[:64]!r}")
        if _header(source, at, part.name) != part.size_bytes:
            raise ArchiveRefused(f"{part.name} has another size than the manifest says")
        offsets[part.name] = at + _BLOCK
        at += _BLOCK + part.size_bytes + -part.size_bytes % _BLOCK
    source.seek(at)
    if source.read(_BLOCK) != bytes(_BLOCK):
        raise ArchiveRefused("something follows that the manifest does not list")
    return OpenArchive(source, manifest, offsets)


def seal(content: bytes, public_key: str) -> bytes:
    """Seals for who has the private key (HPKE, RFC 9180: X25519, HKDF-SHA256, AES-256-GCM).

    `public_key` is in hex. Returns the encapsulated key and the sealed text. Raises ValueError for
    a key that is none.
    """
    with hidden("cffi"):
        from Crypto.Protocol import DH, HPKE  # noqa: PLC0415  (1.6 MiB, seldom needed)

    receiver = DH.import_x25519_public_key(_key(public_key))
    sender = HPKE.new(receiver_key=receiver, aead_id=HPKE.AEAD.AES256_GCM, info=_INFO)
    return bytes(sender.enc + sender.seal(content))


def unseal(content: bytes, private_key: str) -> bytes:
    """Opens what `seal` has sealed; `private_key` is in hex. Raises ValueError."""
    from Crypto.Protocol import DH, HPKE  # noqa: PLC0415

    receiver = DH.import_x25519_private_key(_key(private_key))
    enc, sealed = content[:KEY_BYTES], content[KEY_BYTES:]
    opened = HPKE.new(receiver_key=receiver, aead_id=HPKE.AEAD.AES256_GCM, info=_INFO, enc=enc)
    return bytes(opened.unseal(sealed))


def new_key() -> tuple[str, str]:
    """Returns a new private key and its public one, in hex."""
    from Crypto.PublicKey import ECC  # noqa: PLC0415

    key = ECC.generate(curve="Curve25519")
    return bytes(key.seed).hex(), bytes(key.public_key().export_key(format="raw")).hex()


def _key(text: str) -> bytes:
    content = bytes.fromhex(text)
    if len(content) != KEY_BYTES:
        raise ValueError("a key of X25519 has 32 bytes")
    return content


class _Digest:
    """Takes a digest of what is written."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of all so far, in hex."""
        return self._digest.hexdigest()

    def write(self, content: bytes) -> None:
        """Writes all of it."""
        self._digest.update(content)
        self._out.write(content)


def _put(out: _Digest, name: str, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    out.write(entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))


def _header(source: BinaryIO, at: int, name: str) -> int:
    """Returns the size of the entry at a place, which must have this name."""
    source.seek(at)
    try:
        header = tarfile.TarInfo.frombuf(source.read(_BLOCK), "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise ArchiveRefused(f"the archive can't be read: {error}") from error
    if header.name != name or not header.isreg() or header.size < 0:
        raise ArchiveRefused(f"the archive has no {name} where it should be")
    return header.size


PAGE_VARIABLES = re.compile(
    rb"(?:\s|#[^\n]*+|(?:VITE|(?:NEXT_|NUXT_|EXPO_)?PUBLIC|REACT_APP|VUE_APP|GATSBY)_\w+[ \t]*="
    rb"(?![^\n]*(?:localhost|127\.0\.0\.1))[^\n]*+)*+"
)
"""A .env file with nothing but variables that builds write into pages: none is a secret.

None is an address of this machine either, which a page must not call.
"""
