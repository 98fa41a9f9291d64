"""Blank disks are copies of one, which this very process made."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from moorage.clock import SystemClock
from moorage.engines.disks import disk as module
from moorage.engines.disks.disk import DiskTemplates, is_clean, make_image

SIZE = 16 * 1024 * 1024


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the file systems that are made, and not copied."""
    sizes = []

    def noted(image: Path, size_bytes: int) -> None:
        sizes.append(size_bytes)
        make_image(image, size_bytes)

    monkeypatch.setattr(module, "make_image", noted)
    return sizes


@pytest.fixture
def blanks(tmp_path: Path) -> DiskTemplates:
    blanks = DiskTemplates(directory=tmp_path / "blanks", clock=SystemClock())
    blanks.clear()
    return blanks


def test_each_size_is_made_once_however_many_want_it_at_once(
    blanks: DiskTemplates, made: list[int], tmp_path: Path
) -> None:
    images = [tmp_path / f"{number}.img" for number in range(8)]
    with ThreadPoolExecutor(max_workers=8) as threads:
        list(threads.map(lambda image: blanks.put(image, SIZE), images))
    blanks.put(tmp_path / "larger.img", 2 * SIZE)
    assert made == [SIZE, 2 * SIZE]
    assert all(is_clean(image) and image.stat().st_size == SIZE for image in images)
    assert len({image.read_bytes() for image in images}) == 1
    assert (tmp_path / "larger.img").stat().st_size == 2 * SIZE


def test_disk_takes_the_place_of_what_was_there_and_is_nobody_elses(
    blanks: DiskTemplates, tmp_path: Path
) -> None:
    one, other = tmp_path / "one.img", tmp_path / "other.img"
    blanks.put(one, SIZE)
    other.write_bytes(b"of before")
    blanks.put(other, SIZE)
    other.write_bytes(b"written to")
    blanks.put(tmp_path / "third.img", SIZE)
    assert one.read_bytes() == (tmp_path / "third.img").read_bytes() != other.read_bytes()


def test_what_an_earlier_process_left_is_not_used(
    blanks: DiskTemplates, made: list[int], tmp_path: Path
) -> None:
    (blanks.directory / f"{SIZE}.img").write_bytes(b"cut off by a crash")
    blanks.put(tmp_path / "disk.img", SIZE)
    assert made == [SIZE]
    assert is_clean(tmp_path / "disk.img")


def test_blank_that_somebody_removed_is_made_again(
    blanks: DiskTemplates, made: list[int], tmp_path: Path
) -> None:
    blanks.put(tmp_path / "disk.img", SIZE)
    blanks.clear()
    blanks.put(tmp_path / "disk.img", SIZE)
    assert made == [SIZE, SIZE]
