from pathlib import Path

import pytest

from moorage.whole_file import create_file, read_file, replace_file


def test_replaced_file_holds_the_newest_content(tmp_path: Path) -> None:
    path = tmp_path / "port"
    replace_file(path, b"8545")
    replace_file(path, b"8546")
    assert path.read_bytes() == b"8546"


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 100_000])
def test_file_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    replace_file(path, b"x" * size)
    assert read_file(str(path)) == b"x" * size


def test_created_file_keeps_what_came_first(tmp_path: Path) -> None:
    path = tmp_path / "challenges.key"
    create_file(path, b"first")
    create_file(path, b"second")
    assert path.read_bytes() == b"first"


def test_file_is_its_owners_even_where_another_was_readable(tmp_path: Path) -> None:
    path = tmp_path / "relayer.key"
    path.touch(mode=0o644)
    replace_file(path, b"secret")
    assert path.stat().st_mode & 0o777 == 0o600


def test_nothing_else_is_left_beside_it(tmp_path: Path) -> None:
    for write in (create_file, create_file, replace_file):
        write(tmp_path / "file", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
