"""What git leaves out is left out of an upload, whatever the ignore files say."""

import subprocess
import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from moorage.sdk import archive

NAMES = ["a", "b", "build", "x", "a.log", "keep", "#a", "!b", "a b", "logs", "[c]"]
PARTS = [
    *("a", "b", "build", "x", "keep", "logs", "a b", r"a\ ", r"\#a", r"\!b", r"\a", r"\[c\]"),
    *("*", "**", "?", "a*", "*.log", "*.l[!x]g", "[ab]", "[!a]", "[^b]", "[a-c].log", "[z-a]"),
    *("[]-a]", "[!]]", "[a-]", "[-a]*", r"[\]a]", "[a-c-x]*", "[[:alpha:]]", "[[:lower:]]*"),
    *("[[:punct:]]a", "[a[:space:]]*", "[[:nope:]]"),
]
PATHS = st.lists(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join), min_size=3, max_size=14
)
PATTERNS = st.builds(
    lambda keeps, root, parts, directory, end: keeps + root + "/".join(parts) + directory + end,
    st.sampled_from(["", "", "!"]),
    st.sampled_from(["", "", "/"]),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
    st.sampled_from(["", "", " ", "  ", "\r"]),
)
IGNORE_FILES = st.dictionaries(
    st.sampled_from(["", "a/", "x/", "a/b/"]), st.lists(PATTERNS, min_size=1, max_size=4)
)


def fill(root: Path, paths: list[str], ignore_files: dict[str, list[str]]) -> None:
    """A tree of empty files; where a path is a file already, nothing lies below it."""
    for path in paths:
        file = root / path
        if not file.exists() and not any(above.is_file() for above in file.parents):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    for directory, lines in ignore_files.items():
        if (root / directory).is_dir():
            (root / directory / ".gitignore").write_text("\n".join(lines))


def kept_by_git(root: Path) -> set[str]:
    nothing = ["-c", "core.excludesFile=/dev/null"]
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    listed = ["git", *nothing, "ls-files", "--others", "--exclude-standard", "-z"]
    found = subprocess.run(listed, cwd=root, check=True, capture_output=True).stdout.decode()
    return set(found.split("\0")) - {""}


def kept_by_us(root: Path) -> set[str]:
    kept: set[str] = set()
    pending: list[tuple[str, tuple[archive.Rule, ...]]] = [("", ())]
    while pending:
        base, rules = pending.pop()
        file = root / base / ".gitignore"
        lines = file.read_bytes().decode().split("\n") if file.exists() else []
        rules += archive.read_rules(lines, base=base)
        for entry in (root / base).iterdir():
            path = base + entry.name
            if archive.is_ignored(path, rules, is_directory=entry.is_dir()):
                continue
            if entry.is_dir():
                pending.append((f"{path}/", rules))
            else:
                kept.add(path)
    return kept


@given(paths=PATHS, ignore_files=IGNORE_FILES)
def test_git_and_the_client_leave_out_the_same(
    paths: list[str], ignore_files: dict[str, list[str]]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        fill(root, paths, ignore_files)
        assert kept_by_us(root) == kept_by_git(root)
