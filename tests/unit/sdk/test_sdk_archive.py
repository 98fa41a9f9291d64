"""A directory as an upload."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from moorage.sdk import archive
from moorage.sdk.archive import collect, list_files
from moorage.sdk.client import Files, Zip
from moorage.sdk.errors import DirectoryInvalid


def fill(directory: Path, **files: str) -> Path:
    for name, content in files.items():
        path = directory / name.replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return directory


def paths(directory: Path) -> list[str]:
    upload = collect(directory).upload
    if isinstance(upload, Files):
        return [file.path for file in upload.files]
    return zipfile.ZipFile(io.BytesIO(upload.data)).namelist()


def test_few_small_files_go_one_by_one(tmp_path: Path) -> None:
    fill(tmp_path, index__html="<h1>", **{"src/app__js": "1"})
    collected = collect(tmp_path)
    assert isinstance(collected.upload, Files)
    assert [(file.path, file.content) for file in collected.upload.files] == [
        ("index.html", b"<h1>"),
        ("src/app.js", b"1"),
    ]
    assert (collected.file_count, collected.total_bytes, collected.warnings) == (2, 5, ())


@pytest.mark.parametrize("reason", ["many", "large", "executable"])
def test_all_else_is_packed(tmp_path: Path, reason: str) -> None:
    fill(tmp_path, a="#!/bin/sh\n")
    if reason == "many":
        fill(tmp_path, **{f"f{number}": "" for number in range(100)})
    elif reason == "large":
        fill(tmp_path, b="x" * (256 * 1024))
    else:
        (tmp_path / "a").chmod(0o755)
    upload = collect(tmp_path).upload
    assert isinstance(upload, Zip)
    entry = zipfile.ZipFile(io.BytesIO(upload.data)).getinfo("a")
    assert entry.external_attr >> 16 == (0o100755 if reason == "executable" else 0o100644)


def test_same_files_make_the_same_bytes_whatever_their_dates(tmp_path: Path) -> None:
    for name in ("one", "two"):
        fill(tmp_path / name / "app", b="x" * 300_000, **{"z/a": "1", "a/z": "2"})
    os.utime(tmp_path / "two" / "app" / "b", (1, 1))
    assert collect(tmp_path / "one" / "app").upload == collect(tmp_path / "two" / "app").upload


def test_ignore_files_are_respected_in_every_directory(tmp_path: Path) -> None:
    fill(
        tmp_path,
        **{
            "__gitignore": "dist/\n*.log\n",
            "__moorageignore": "!dist/\nnotes\n",
            "a__log": "",
            "notes": "",
            "dist/app__js": "",
            "sub/__gitignore": "local\n",
            "sub/local": "",
            "sub/kept": "",
            "local": "",
            "node_modules/x/index__js": "",
        },
    )
    assert paths(tmp_path) == [
        ".gitignore",
        ".moorageignore",
        "local",
        "dist/app.js",
        "sub/.gitignore",
        "sub/kept",
    ]


def test_secret_stays_behind_and_is_named(tmp_path: Path) -> None:
    fill(tmp_path, index__html="", __env="KEY=1", **{"sub/__env__local": "KEY=2"})
    collected = collect(tmp_path)
    assert paths(tmp_path) == ["index.html"]
    assert [warning.split(" ", 1)[0] for warning in collected.warnings] == [
        ".env",
        "sub/.env.local",
    ]


def test_links_and_special_files_are_skipped_and_named(tmp_path: Path) -> None:
    fill(tmp_path, index__html="")
    (tmp_path / "secret").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    collected = collect(tmp_path)
    assert paths(tmp_path) == ["index.html"]
    assert collected.warnings == (
        "loop was not uploaded: it is a symbolic link",
        "pipe was not uploaded: it is not a regular file",
        "secret was not uploaded: it is a symbolic link",
    )


def test_compressible_file_is_stored_so_that_it_is_no_bomb(tmp_path: Path) -> None:
    fill(tmp_path, zeros="0" * 2_000_000)
    upload = collect(tmp_path).upload
    assert isinstance(upload, Zip)
    entry = zipfile.ZipFile(io.BytesIO(upload.data)).getinfo("zeros")
    assert entry.compress_type == zipfile.ZIP_STORED


@pytest.mark.parametrize("content", ["missing", "file", "empty", "ignored"])
def test_nothing_to_upload_is_refused(tmp_path: Path, content: str) -> None:
    target = tmp_path / "app"
    if content == "file":
        target.write_text("")
    elif content != "missing":
        target.mkdir()
    if content == "ignored":
        fill(target, __env="KEY=1")
    with pytest.raises(DirectoryInvalid):
        collect(target)


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_FILES", 3)
    fill(tmp_path, a="", b="", c="")
    collect(tmp_path)
    fill(tmp_path, d="")
    with pytest.raises(DirectoryInvalid, match="more than can be uploaded"):
        collect(tmp_path)


def test_too_large_a_body_names_the_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "BODY_BYTES", 700_000)
    (tmp_path / "random").write_bytes(os.urandom(300_000))
    collect(tmp_path)
    (tmp_path / "video").write_bytes(os.urandom(400_000))
    with pytest.raises(DirectoryInvalid, match=r"video \(0\.4 MB\), random \(0\.3 MB\)"):
        collect(tmp_path)


def test_listed_files_are_those_that_are_uploaded(tmp_path: Path) -> None:
    fill(tmp_path, **{"src/app__js": "1234", "node_modules/x/a__js": "", ".env": "KEY=1"})
    fill(tmp_path, **{".gitignore": "out/\n", "out/a": "", "kept": ""})
    (tmp_path / "link").symlink_to("/etc/passwd")
    listing = list_files(tmp_path)
    assert sorted(listing.sizes) == sorted(paths(tmp_path)) == [".gitignore", "kept", "src/app.js"]
    assert listing.sizes["src/app.js"] == 4
    assert listing.warnings == collect(tmp_path).warnings
    assert {warning.split()[0] for warning in listing.warnings} == {".env", "link"}


def test_listing_is_bounded_like_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_FILES", 3)
    fill(tmp_path, a="", b="", c="")
    assert len(list_files(tmp_path).sizes) == 3
    fill(tmp_path, d="")
    with pytest.raises(DirectoryInvalid, match="more than can be uploaded"):
        list_files(tmp_path)
    with pytest.raises(DirectoryInvalid, match="not a directory"):
        list_files(tmp_path / "a")
