"""A deploy from a project's archive: its files, settings and volume, which may be anybody's."""

import io
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from moorage.archive.project import FILES, VOLUME, Manifest, part_of, write_archive
from moorage.archive.tree import write_tree
from moorage.errors import InvalidField, UploadInvalid
from moorage.uploads.reader import Exports, ExportSource, ReceivedBody, read_upload
from moorage.uploads.room import UploadLimits
from support.clients.parsing_in_place import InPlace
from support.clients.upload_bodies import contents, stream

SHA256 = "ab" * 32
VOLUME_BYTES = 1 << 20
BODY = {"uniqueName": "shop", "displayName": "Shop", "upload": {"type": "export", "sha256": SHA256}}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    directory = tmp_path / "app"
    (directory / "public").mkdir(parents=True)
    (directory / "index.js").write_text("listen()")
    (directory / "public/again.js").hardlink_to(directory / "index.js")
    (directory / "run.sh").write_text("echo")
    (directory / "run.sh").chmod(0o755)
    (directory / "out").symlink_to("/etc/passwd")
    return directory


def exported(
    tmp_path: Path, app: Path, *, volume: Path | None = None, settings: dict[str, Any] | None = None
) -> Path:
    """An archive as a gateway makes it."""
    draft = tmp_path / f"draft-{len(list(tmp_path.iterdir()))}"
    draft.mkdir()
    parts, files = [], {}
    for name, tree in ((FILES, app), (VOLUME, volume)):
        if tree is not None:
            files[name] = draft / name
            made = write_tree(tree, files[name], max_bytes=1 << 30)
            parts.append(
                part_of(files[name], name=name, content_bytes=made.content_bytes, entries=1)
            )
    manifest = Manifest(
        project="old",
        wallet="0x",
        made_at="2026-11-30T00:00:00.000Z",
        settings={
            key: msgspec.Raw(json.dumps(value).encode()) for key, value in (settings or {}).items()
        },
        parts=parts,
    )
    return write_archive(manifest, files, draft / "export.tar").path


async def received(
    archive: Path | BinaryIO, tmp_path: Path, *, is_own: bool = False, **settings: Any
) -> ReceivedBody:
    async def opened(sha256: str) -> ExportSource:
        assert sha256 == SHA256
        file = archive.open("rb") if isinstance(archive, Path) else archive
        return ExportSource(file, is_own=is_own)

    body = json.dumps(BODY | {"settings": settings}).encode()
    return await read_upload(
        stream(body),
        content_length=len(body),
        limits=UploadLimits(),
        spool_dir=tmp_path / "spool",
        parser=InPlace(),
        exports=Exports(opened, VOLUME_BYTES),
    )


async def test_files_and_settings_come_from_the_export(tmp_path: Path, app: Path) -> None:
    archive = exported(tmp_path, app, settings={"port": 8080, "runCommand": "node index.js"})
    got = await received(archive, tmp_path, port=9090)
    assert contents(got) == {
        "index.js": b"listen()",
        "public/again.js": b"listen()",
        "run.sh": b"echo",
    }
    assert got.upload.content("run.sh").executable
    settings = got.request.settings
    assert (settings.port, settings.run_command) == (9090, "node index.js")
    assert got.upload.volume is None
    got.upload.close()


async def test_volume_comes_along_as_it_was_unless_it_is_not_wanted(
    tmp_path: Path, app: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "kept").write_text("kept")
    archive = exported(tmp_path, app, volume=volume, settings={"volume": True})
    got = await received(archive, tmp_path)
    assert got.request.settings.volume
    assert got.upload.volume is not None
    got.upload.volume.write(tmp_path / "taken")
    assert (tmp_path / "taken").read_bytes() == (archive.parent / VOLUME).read_bytes()
    got.upload.close()
    without = await received(archive, tmp_path, volume=False)
    assert (without.upload.volume, without.request.settings.volume) == (None, False)
    without.upload.close()


async def refused(archive: Path | BinaryIO, tmp_path: Path, *, match: str) -> None:
    with pytest.raises(UploadInvalid, match=match):
        await received(archive, tmp_path)
    spool = tmp_path / "spool"
    assert not spool.exists() or not list(spool.iterdir())


async def test_volume_that_does_not_fit_is_refused_before_anybody_pays(
    tmp_path: Path, app: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "large").write_bytes(b"x" * (VOLUME_BYTES + 1))
    archive = exported(tmp_path, app, volume=volume, settings={"volume": True})
    await refused(archive, tmp_path, match="a volume has 1,048,576 here")


async def test_volume_that_lies_about_its_size_is_refused_before_anybody_pays(
    tmp_path: Path, app: Path
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "large").write_bytes(b"x" * (VOLUME_BYTES + 1))
    archive = exported(tmp_path, app, volume=volume, settings={"volume": True})
    text = archive.read_bytes()
    true = f'"content_bytes": {VOLUME_BYTES + 1}'.encode()
    assert true in text
    lying = io.BytesIO(text.replace(true, b'"content_bytes": 0000001'.replace(b"000000", b" " * 6)))
    named = tmp_path / "lying.tar"
    named.write_bytes(lying.getvalue())
    await refused(named, tmp_path, match="more than may be in it")


@pytest.mark.parametrize("name", [FILES, VOLUME])
async def test_part_that_was_changed_on_the_way_is_refused(
    tmp_path: Path, app: Path, name: str
) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "kept").write_text("kept")
    archive = exported(tmp_path, app, volume=volume, settings={"volume": True})
    part = (archive.parent / name).read_bytes()
    text = bytearray(archive.read_bytes())
    text[text.index(part) + len(part) // 2] ^= 1
    archive.write_bytes(text)
    await refused(archive, tmp_path, match="digest does not match")


async def test_files_are_bounded_as_those_of_any_upload(tmp_path: Path, app: Path) -> None:
    with (app / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    await refused(exported(tmp_path, app), tmp_path, match="more than 268,435,456 bytes")
    (app / "sparse").unlink()
    deep = app / "/".join(["d"] * 70)
    deep.mkdir(parents=True)
    (deep / "file").touch()
    await refused(exported(tmp_path, app), tmp_path, match="folders|deep|components|nested")


async def test_settings_of_the_manifest_are_checked_as_a_requests(
    tmp_path: Path, app: Path
) -> None:
    archive = exported(tmp_path, app, settings={"port": 0})
    await refused(archive, tmp_path, match=r"settings\.port")
    archive = exported(tmp_path, app, settings={"rootShell": True})
    await refused(archive, tmp_path, match="rootShell")


async def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    await refused(io.BytesIO(b"PK" + os.urandom(4096)), tmp_path, match="is no export")


async def test_export_is_named_by_a_digest_and_nothing_else(tmp_path: Path) -> None:
    body = json.dumps(BODY | {"upload": {"type": "export", "sha256": "x", "data": ""}}).encode()
    with pytest.raises(InvalidField):
        await read_upload(
            stream(body),
            content_length=None,
            limits=UploadLimits(),
            spool_dir=tmp_path / "spool",
            parser=InPlace(),
        )
