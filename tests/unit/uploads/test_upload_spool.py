"""Where contents wait, and what is left afterwards: nothing."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.uploads.room import Spool, sweep_spool

KIB = 1024


def put(spool: Spool, data: bytes, piece: int = 48 * KIB) -> None:
    for start in range(0, len(data), piece):
        spool.write(data[start : start + piece])


def test_small_contents_touch_no_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "never", memory_bytes=100)
    for size in (60, 40, 0):
        put(spool, b"x" * size)
        content = spool.finish()
        assert (content.size, content.read(1000), content.file) == (size, b"x" * size, None)
    assert not spool.on_disk
    spool.close()
    assert not (tmp_path / "never").exists()


def test_contents_beyond_memory_go_to_a_private_file(tmp_path: Path) -> None:
    parent = tmp_path / "spool"
    spool = Spool(parent, memory_bytes=100)
    small, large, larger = b"s" * 101, b"l" * (100 * KIB), b"m" * (64 * KIB + 1)
    found = []
    for data in (small, large, small, larger, b"tiny"):
        put(spool, data)
        found.append((spool.finish(), data))
    (file,) = parent.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(parent.stat().st_mode) == 0o700
    assert [content.read(1 << 20) for content, _ in found] == [data for _, data in found]
    assert [content.read(5) for content, _ in found] == [data[:5] for _, data in found]
    assert found[-1][0].file is None
    spool.close()
    spool.close()
    assert not list(parent.iterdir())


def test_closing_amid_a_content_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_bytes=0)
    put(spool, b"x" * (200 * KIB))
    assert spool.on_disk
    spool.close()
    assert not list(tmp_path.iterdir())


def test_discarded_content_frees_what_it_took(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory_bytes=100)
    put(spool, b"x" * 100)
    spool.discard(spool.finish())
    put(spool, b"y" * 100)
    assert spool.finish().file is None
    put(spool, b"z" * (65 * KIB))
    content = spool.finish()
    assert content.file is not None
    assert content.file.path.stat().st_size == 65 * KIB
    spool.discard(content)
    assert content.file.path.stat().st_size == 0
    spool.close()


@given(st.lists(st.lists(st.binary(max_size=40), max_size=5), max_size=8), st.integers(0, 200))
def test_contents_come_back_whole(
    tmp_path_factory: pytest.TempPathFactory, contents: list[list[bytes]], memory_bytes: int
) -> None:
    spool = Spool(tmp_path_factory.getbasetemp() / "spool-of-pieces", memory_bytes=memory_bytes)
    found = []
    for pieces in contents:
        for piece in pieces:
            spool.write(piece)
        found.append(spool.finish())
    assert [content.read(1000) for content in found] == [b"".join(pieces) for pieces in contents]
    held = sum(content.size for content in found if content.file is None)
    assert held <= memory_bytes
    spool.close()


def test_sweeping_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    assert sweep_spool(tmp_path / "not there") == 0
    abandoned = Spool(tmp_path, memory_bytes=0)
    put(abandoned, b"x" * (100 * KIB))
    (tmp_path / "other").mkdir()
    assert sweep_spool(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    with pytest.raises(FileNotFoundError):
        abandoned.close()
