"""Path patterns of an upload: what they match, and that they leave nothing behind."""

import tracemalloc

import pytest

from moorage.planning.reading.folder import covers, matches, parts


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("*.js", "a.js", True),
        ("*.js", "a.js\n", False),
        ("src/*.js", "src/a.js", True),
        ("**/a?", "x/y/ab", True),
        ("[ab].js", "c.js", False),
        ("[!ab].js", "c.js", True),
        ("*" * 513, "a", False),
    ],
)
def test_parts_match_names(glob: str, path: str, expected: bool) -> None:
    assert matches(parts(glob), path.split("/")) is expected


def test_what_is_within_a_directory_is_covered() -> None:
    assert covers(parts("node_*"), ["node_modules", "a", "b.js"])
    assert not covers(parts("node_*"), ["src", "a.js"])


def test_long_patterns_of_strangers_are_not_kept() -> None:
    tracemalloc.start()
    try:
        for number in range(20):
            covers([f"{number}{'a*' * 10_000}"], ["x"])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2 * 1024 * 1024
