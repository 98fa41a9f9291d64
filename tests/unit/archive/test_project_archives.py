"""The archive of a project: a manifest first, and nothing that the manifest does not list."""

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest
from Crypto.PublicKey import ECC

from moorage.archive.project import (
    FILES,
    VOLUME,
    ArchiveRefused,
    Manifest,
    OpenArchive,
    Part,
    open_archive,
    seal,
    unseal,
    write_archive,
)

MANIFEST = Manifest(project="shop", wallet="0x" + "ab" * 20, made_at="2026-11-30T00:00:00.000Z")
CONTENT = {FILES: b"files", VOLUME: b"volume" * 300}


def listed(content: Mapping[str, bytes] = CONTENT) -> list[Part]:
    return [
        Part(name=name, sha256=hashlib.sha256(text).hexdigest(), size_bytes=len(text))
        for name, text in content.items()
    ]


def packed(manifest: Manifest, content: Mapping[str, bytes] = CONTENT) -> io.BytesIO:
    """An archive as another program would write it."""
    out = io.BytesIO()
    document = msgspec.json.encode(manifest)
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in {"manifest.json": document, **content}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    out.seek(0)
    return out


def with_parts(*parts: Part) -> Manifest:
    return msgspec.structs.replace(MANIFEST, parts=list(parts))


def content_of(archive: OpenArchive, name: str) -> bytes:
    part, out = archive.manifest.part(name), io.BytesIO()
    assert part is not None
    archive.copy_part(part, out)
    return out.getvalue()


def test_archive_has_its_manifest_first_and_any_tar_reads_it(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in CONTENT}
    for name, text in CONTENT.items():
        files[name].write_bytes(text)
    manifest = with_parts(*listed())
    made = write_archive(manifest, files, tmp_path / "shop.tar")
    content = made.path.read_bytes()
    assert (made.sha256, made.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    with tarfile.open(made.path) as archive:
        assert archive.getnames() == ["manifest.json", FILES, VOLUME]
    with made.path.open("rb") as source:
        archive_read = open_archive(source)
        assert archive_read.manifest == manifest
        assert {name: content_of(archive_read, name) for name in CONTENT} == CONTENT


def test_part_that_was_changed_is_refused() -> None:
    archive = open_archive(packed(with_parts(*listed()), {**CONTENT, FILES: b"other"}))
    with pytest.raises(ArchiveRefused, match="digest does not match"):
        content_of(archive, FILES)
    assert content_of(archive, VOLUME) == CONTENT[VOLUME]


def linked() -> io.BytesIO:
    """A link in the place of a part."""
    out = io.BytesIO()
    document = msgspec.json.encode(with_parts(Part(name=FILES, sha256="0" * 64, size_bytes=0)))
    with tarfile.open(fileobj=out, mode="w") as archive:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(document)
        archive.addfile(entry, io.BytesIO(document))
        link = tarfile.TarInfo(FILES)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    out.seek(0)
    return out


FIRST, SECOND = listed()


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(io.BytesIO, id="empty"),
        pytest.param(lambda: io.BytesIO(b"x" * 4096), id="no-archive"),
        pytest.param(lambda: packed(with_parts(FIRST)), id="more-than-listed"),
        pytest.param(lambda: packed(with_parts(SECOND, FIRST)), id="another-order"),
        pytest.param(lambda: packed(with_parts(FIRST, FIRST)), id="listed-twice"),
        pytest.param(
            lambda: packed(
                with_parts(Part(name="../out", sha256="", size_bytes=1)), {"../out": b"x"}
            ),
            id="unknown-part",
        ),
        pytest.param(
            lambda: packed(with_parts(msgspec.structs.replace(FIRST, size_bytes=4), SECOND)),
            id="another-size",
        ),
        pytest.param(
            lambda: packed(with_parts(msgspec.structs.replace(FIRST, size_bytes=1 << 62), SECOND)),
            id="huge",
        ),
        pytest.param(
            lambda: packed(msgspec.structs.replace(with_parts(*listed()), format=2)),
            id="later-format",
        ),
        pytest.param(
            lambda: packed(msgspec.structs.replace(MANIFEST, project="x" * (2 << 20)), {}),
            id="manifest-too-large",
        ),
        pytest.param(linked, id="link"),
    ],
)
def test_what_is_no_archive_of_a_project_is_refused(make: Callable[[], io.BytesIO]) -> None:
    with pytest.raises(ArchiveRefused):
        open_archive(make())


def test_sealed_text_is_opened_by_the_private_key_alone() -> None:
    private, public = pair()
    sealed = seal(b"TOKEN=hush", public)
    assert b"hush" not in sealed
    assert unseal(sealed, private) == b"TOKEN=hush"
    assert seal(b"TOKEN=hush", public) != sealed
    other, _ = pair()
    with pytest.raises(ValueError, match="MAC"):
        unseal(sealed, other)
    with pytest.raises(ValueError, match="MAC"):
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), private)


@pytest.mark.parametrize("key", ["", "ab", "zz" * 32, "00" * 32])
def test_nothing_is_sealed_to_what_is_no_key(key: str) -> None:
    """All zeros is a point of low order: everybody knows what it agrees on (RFC 7748 §6.1)."""
    with pytest.raises(ValueError, match=r"hex|32 bytes|Invalid"):
        seal(b"", key)


def pair() -> tuple[str, str]:
    """A private key and its public one, in hex."""
    key = ECC.generate(curve="Curve25519")
    return bytes(key.seed).hex(), bytes(key.public_key().export_key(format="raw")).hex()
