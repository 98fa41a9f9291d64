"""Which names an upload may hold."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.errors import UploadInvalid
from moorage.uploads.room import UploadLimits
from moorage.uploads.unpacking import PathSet, check_path, is_clutter

LIMITS = UploadLimits(path_length=300, path_depth=4, component_length=255)


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "index.html",
        ".env",
        ".github/workflows/ci.yml",
        "src/[...slug]/page.tsx",
        "a b/ü/名前.txt",
        "a..b",
        "...",
        "..a",
        "-rf",
        "ab:c",
        "x" * 255,
        "1/2/3/4",
        "\U0001f600.png",
    ],
)
def test_relative_paths_pass(path: str) -> None:
    check_path(path, LIMITS)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "is empty"),
        ("/etc/passwd", "absolute"),
        ("//host/share", "absolute"),
        ("C:/windows", "absolute"),
        ("c:x", "absolute"),
        ("..", "'..'"),
        ("../a", "'..'"),
        ("a/../b", "'..'"),
        ("a/..", "'..'"),
        (".", "'.'"),
        ("./a", "'.'"),
        ("a/./b", "'.'"),
        ("a//b", "empty component"),
        ("a/", "empty component"),
        ("a\\b", "backslash"),
        ("..\\a", "backslash"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\n", "control"),
        ("a\x7f", "control"),
        ("a\x85", "control"),
        ("a\u202etxt.exe", "control"),
        ("a\ud800", "control"),
        ("x" * 256, "component longer than 255"),
        ("ü" * 128, "component longer than 255"),
        ("/".join(["x" * 100] * 3), "longer than 300 bytes"),
        ("1/2/3/4/5", "deeper than 4"),
    ],
)
def test_unsafe_paths_are_refused_by_name(path: str, problem: str) -> None:
    with pytest.raises(UploadInvalid, match=problem) as refused:
        check_path(path, LIMITS)
    assert refused.value.path == path


@given(st.text(alphabet="ab./\\:\0 C\n~-é", max_size=12))
def test_what_passes_names_one_file_below_the_root(path: str) -> None:
    try:
        check_path(path, UploadLimits())
    except UploadInvalid:
        return
    components = path.split("/")
    assert all(component not in ("", ".", "..") for component in components)
    assert not set(path) & set("\\\0\n")
    assert path[1:2] != ":" or not path[0].isalpha() or not path[0].isascii()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("README.md", "readme.md"),
        ("src/a.js", "SRC/A.js"),
        ("Src/a.js", "src/b.js"),
        ("x/Straße", "x/STRASSE"),
        ("é", unicodedata.normalize("NFD", "é")),
        ("ﬁle", "file"),
        ("㎒", "mhz"),
        ("K", "\u212a"),  # Kelvin sign
    ],
)
def test_names_that_some_file_system_confuses_are_refused(first: str, second: str) -> None:
    for one, other in ((first, second), (second, first)):
        paths = PathSet(UploadLimits())
        paths.add_file(one)
        with pytest.raises(UploadInvalid, match="only in letter case or Unicode form") as refused:
            paths.add_file(other)
        assert refused.value.path == other


@pytest.mark.parametrize("path", ["a/b", "a"])
def test_name_that_is_there_twice_is_refused(path: str) -> None:
    paths = PathSet(UploadLimits())
    paths.add_file(path)
    with pytest.raises(UploadInvalid, match="is there twice"):
        paths.add_file(path)


@pytest.mark.parametrize(
    "order", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "A"), ("A", "a/b/c"), ("x/a/b", "x/a")]
)
def test_file_that_is_a_folder_too_is_refused(order: tuple[str, str]) -> None:
    paths = PathSet(UploadLimits())
    paths.add_file(order[0])
    with pytest.raises(UploadInvalid, match="file and a folder"):
        paths.add_file(order[1])


def test_folders_meet_files_and_folders_like_files_do() -> None:
    paths = PathSet(UploadLimits())
    paths.add_folder("src")
    paths.add_folder("src")
    paths.add_file("src/a")
    with pytest.raises(UploadInvalid, match="file and a folder"):
        paths.add_folder("src/a")
    with pytest.raises(UploadInvalid, match="letter case"):
        paths.add_folder("SRC")
    with pytest.raises(UploadInvalid, match="file and a folder"):
        paths.add_file("src")


def test_files_are_counted() -> None:
    paths = PathSet(UploadLimits(files=2))
    paths.add_file("a")
    paths.add_file("b")
    with pytest.raises(UploadInvalid, match="more than 2 files"):
        paths.add_file("c")


@pytest.mark.parametrize("path", [".DS_Store", "a/.DS_Store", "__MACOSX/a/._b", "__MACOSX/"])
def test_what_macos_leaves_is_clutter(path: str) -> None:
    assert is_clutter(path)


@pytest.mark.parametrize("path", ["x.DS_Store", ".DS_Store/a", "a/__MACOSX/b", "__MACOSX", "._a"])
def test_what_only_looks_like_it_is_not(path: str) -> None:
    assert not is_clutter(path)
