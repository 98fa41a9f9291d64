"""A directory as an upload, without what ignore files name; and the deploy of what was read."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from moorage.archive.project import Manifest
from moorage.records.project import Kind, ProjectStatus
from moorage.sdk import archive
from moorage.sdk.archive import (
    DEFAULTS,
    Collected,
    OpenExport,
    collect,
    is_ignored,
    list_files,
    read_rules,
)
from moorage.sdk.client import Client, Files, Settings, Zip
from moorage.sdk.errors import DirectoryInvalid
from moorage.sdk.payer import deploy_request
from moorage.wire.deploy import ExportUpload
from moorage.wire.projects import ProjectItem, ProjectList


def left(path: str, *lines: str, base: str = "", directory: bool = False) -> bool:
    return is_ignored(path, read_rules(lines, base=base), is_directory=directory)


@pytest.mark.parametrize(
    ("pattern", "path", "directory", "expected"),
    [
        ("a.txt", "a.txt", False, True),
        ("a.txt", "x/y/a.txt", False, True),
        ("a.txt", "xa.txt", False, False),
        ("/a.txt", "a.txt", False, True),
        ("/a.txt", "x/a.txt", False, False),
        ("x/a.txt", "x/a.txt", False, True),
        ("x/a.txt", "y/x/a.txt", False, False),
        ("build/", "build", True, True),
        ("build/", "build", False, False),
        ("build/", "x/build", True, True),
        ("*.log", "x/a.log", False, True),
        ("x/*.log", "x/a.log", False, True),
        ("x/*.log", "x/y/a.log", False, False),
        ("?.txt", "a.txt", False, True),
        ("?.txt", "ab.txt", False, False),
        ("[ab].txt", "b.txt", False, True),
        ("[!ab].txt", "b.txt", False, False),
        ("[a-c].txt", "b.txt", False, True),
        ("**/x/a", "x/a", False, True),
        ("**/x/a", "y/z/x/a", False, True),
        ("x/**", "x/y/z", False, True),
        ("x/**", "x", True, False),
        ("x/**/a", "x/a", False, True),
        ("x/**/a", "x/y/z/a", False, True),
        ("x**a", "xyza", False, True),
        ("a.b", "axb", False, False),
        (r"\#a", "#a", False, True),
        (r"\!a", "!a", False, True),
        ("# a", "# a", False, False),
        ("", "a", False, False),
        ("/", "a", True, False),
        ("a ", "a", False, True),
        ("a\r\n", "a", False, True),
        ("[", "[", False, True),
        ("(a|b)+", "(a|b)+", False, True),
        ("[[:digit:]].txt", "1.txt", False, True),
        ("[[:digit:]].txt", "a.txt", False, False),
        ("[![:upper:]_].txt", "A.txt", False, False),
        ("[[:none:]]", "n", False, False),
        ("[z-a]", "m", False, False),
        ("[!z-a]", "m", False, True),
        ("[]a]", "]", False, True),
        (r"[\]a]", "]", False, True),
        ("[a-]", "-", False, True),
        ("x[!a]y", "x/y", False, False),
        ("?", "é", False, True),
        ("a\\ ", "a ", False, True),
        ("a\\ ", "a", False, False),
        ("a\\\\ ", "a\\", False, True),
    ],
)
def test_pattern(pattern: str, path: str, *, directory: bool, expected: bool) -> None:
    assert left(path, pattern, directory=directory) is expected


def test_last_match_decides() -> None:
    assert not left("keep.log", "*.log", "!keep.log")
    assert left("keep.log", "!keep.log", "*.log")


def test_rules_of_a_directory_reach_only_below_it() -> None:
    assert left("x/a", "/a", base="x/")
    assert not left("a", "a", base="x/")
    assert left("x/y/a", "a", base="x/")


@pytest.mark.parametrize(
    "path", [".env", ".env.local", "x/.env.production", "__pycache__", "x/node_modules", ".venv"]
)
def test_defaults_leave_secrets_and_what_builds_make_again(path: str) -> None:
    assert left(path, *DEFAULTS, directory="env" not in path or "venv" in path)


@pytest.mark.parametrize(
    "path",
    [".env.example", "x/.env.sample", ".env.template", ".env.dist", ".env.local.example"],
)
def test_example_of_a_file_of_secrets_is_uploaded(path: str) -> None:
    assert not left(path, *DEFAULTS)


def test_default_can_be_taken_back() -> None:
    assert not left(".env.shared", *DEFAULTS, "!.env.shared")


@pytest.mark.parametrize("path", [".git", "x/.git"])
def test_git_always_stays_behind(path: str) -> None:
    assert left(path, "!.git", directory=True)


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


@pytest.mark.parametrize(
    ("text", "ignored", "is_sent"),
    [
        ('# pages\nVITE_URL="https://x.example"\n\nNEXT_PUBLIC_KEY = k\n', "", True),
        ("VITE_URL=https://x.example\nSECRET=1\n", "", False),
        ("VITE_URL=http://localhost:3001\n", "", False),
        ("VITE_URL=https://x.example\n", ".env\n", False),
        ("VITE_A= VITE_A= VITE_A=" * 5_000 + "\nSECRET=1", "", False),
    ],
)
def test_env_file_is_sent_if_pages_show_all_of_it(
    tmp_path: Path, text: str, ignored: str, *, is_sent: bool
) -> None:
    fill(tmp_path, index__html="", __env=text, __gitignore=ignored)
    assert (".env" in list_files(tmp_path).sizes) == is_sent


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


class OneProject(Client):
    """A gateway with one project, `shop`, whose title is `Corner shop`; it stores exports."""

    def __init__(self) -> None:
        super().__init__("http://gateway.invalid")
        self.contents: list[bytes] = []

    async def projects(self) -> ProjectList:
        """Lists it."""
        shop = ProjectItem(
            id="p",
            name="shop",
            display_name="Corner shop",
            description="",
            kind=Kind.WEB,
            status=ProjectStatus.ACTIVE,
            url=None,
            created_at="",
        )
        return ProjectList(wallet="0xa", count=1, projects=[shop])

    async def store_export(self, content: bytes) -> ExportUpload:
        """Notes what is stored."""
        self.contents.append(content)
        return ExportUpload(sha256="ab" * 32)


EXPORT = OpenExport(
    content=b"tar",
    sha256="ab" * 32,
    manifest=Manifest(project="old", wallet="0xa", made_at="", display_name="Old title"),
    run={"MODE": "slow", "TOKEN": "t"},
    build={},
)
UNTITLED = EXPORT._replace(
    manifest=Manifest(project="old", wallet="0xa", made_at="", display_name="old")
)


@pytest.mark.parametrize(
    ("found", "name", "given", "title"),
    [
        (EXPORT, "new", None, "Old title"),
        (UNTITLED, "new", None, "new"),
        (EXPORT, "shop", None, "Corner shop"),
        (EXPORT, "shop", "Mine", "Mine"),
        (Collected(Files(()), 0, 0, ()), "new", None, "new"),
        (Collected(Files(()), 0, 0, ()), "shop", None, "Corner shop"),
    ],
)
async def test_a_project_keeps_its_title_and_a_new_one_gets_the_exports(
    found: Collected | OpenExport, name: str, given: str | None, title: str
) -> None:
    request = await deploy_request(
        OneProject(),
        found,
        name=name,
        display_name=given,
        description=None,
        months=1,
        settings=Settings(),
    )
    assert request.display_name == title


async def test_an_export_is_stored_and_named_and_its_variables_yield_to_those_given() -> None:
    client = OneProject()
    request = await deploy_request(
        client,
        EXPORT,
        name="new",
        display_name=None,
        description=None,
        months=1,
        settings=Settings(run_envs={"MODE": "fast"}),
    )
    assert client.contents == [b"tar"]
    assert request.upload == ExportUpload(sha256="ab" * 32)
    assert request.settings.run_envs == {"MODE": "fast", "TOKEN": "t"}
    assert request.settings.build_vars is None
