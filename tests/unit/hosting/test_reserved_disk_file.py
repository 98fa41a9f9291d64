"""Ballast is dropped when the disk is full, and taken up again when there is as much to spare."""

from pathlib import Path

from moorage.hosting.keeping.space import ReservedDiskFile

SIZE = 1 << 20


def test_ballast_is_held_until_less_is_free_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "ballast"
    ballast = ReservedDiskFile(path, SIZE)
    ballast.adjust(free_bytes=10 * SIZE, spare_bytes=SIZE)
    assert not path.exists()  # taking it would touch the reserve
    ballast.adjust(free_bytes=10 * SIZE, spare_bytes=SIZE + 1)
    assert path.stat().st_blocks * 512 >= SIZE
    ballast.adjust(free_bytes=SIZE, spare_bytes=-SIZE)
    assert path.exists()
    ballast.adjust(free_bytes=SIZE - 1, spare_bytes=-SIZE)
    assert not path.exists()
    ballast.adjust(free_bytes=2 * SIZE, spare_bytes=0)
    assert not path.exists()


def test_no_ballast_without_a_reserve(tmp_path: Path) -> None:
    ReservedDiskFile(tmp_path / "ballast", 0).adjust(free_bytes=SIZE, spare_bytes=SIZE)
    assert list(tmp_path.iterdir()) == []
