"""What stays behind, case by case as gitignore(5) describes it."""

import pytest

from moorage.sdk.archive import DEFAULTS, is_ignored, read_rules


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


def test_default_can_be_taken_back() -> None:
    assert not left(".env.example", *DEFAULTS, "!.env.example")


@pytest.mark.parametrize("path", [".git", "x/.git"])
def test_git_always_stays_behind(path: str) -> None:
    assert left(path, "!.git", directory=True)
