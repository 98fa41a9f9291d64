"""One directory of an upload, as planning reads it."""

import random

import pytest

from moorage.planning.reading.folder import Folder
from support.engines.memory_tree import MemoryTree

NAMES = [f"{place}{name}" for place in ("", "a/", "a/b/", "a-b/", "z.py/") for name in "cd"]
PATHS = [f"{name}{ending}" for name in NAMES for ending in (".py", ".ts", ".d.ts", "", ".")]


@pytest.mark.parametrize("directory", ["", "a", "a/b", "a-b", "none"])
def test_names_of_an_ending_are_those_that_end_so(directory: str) -> None:
    paths = random.Random(directory).sample(PATHS, len(PATHS))
    root = Folder(MemoryTree(dict.fromkeys(paths, "")))
    folder = root.below(directory) if directory else root
    for endings in ((".py",), (".ts", ".py"), (".go",), ()):
        expected = sorted(name for name in folder.names() if name.endswith(endings))
        assert list(folder.ending(*endings)) == expected


def test_source_is_the_beginning_of_a_file_or_nothing() -> None:
    folder = Folder(MemoryTree({"a/big.js": b"\xff" * 100_000})).below("a")
    assert folder.source("big.js") == b"\xff" * 65_536
    assert (folder.source("other.js"), folder.source(None)) == (b"", b"")
    assert folder.plain("big.js") == "\N{REPLACEMENT CHARACTER}" * 65_536


def test_what_is_made_for_a_folder_is_made_once_for_each() -> None:
    root = Folder(MemoryTree({"a/b": ""}))
    made = iter(range(9))
    assert [root.once("n", lambda: next(made)) for _ in range(3)] == [0, 0, 0]
    assert root.below("a").once("n", lambda: next(made)) == 1
    assert root.below("a").once("n", lambda: next(made)) == 1
