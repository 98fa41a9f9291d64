"""How far disks can still grow, where those at rest are measured seldom."""

from pathlib import Path

from moorage.engines.disks.disk import IMAGE, Growths

SIZE_BYTES = 1024 * 1024
MAX_LOOKS = 60  # two minutes: an app that ran between two looks is measured by then


def made(directory: Path, name: str) -> Path:
    """Returns the image of a new disk, on which nothing is written yet."""
    image = directory / name / IMAGE
    image.parent.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    return image


def fill(image: Path) -> None:
    image.write_bytes(bytes(SIZE_BYTES - 1) + b"\n")


def test_disk_in_use_is_measured_each_time(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    assert growths.measure(tmp_path, in_use={"app"}) == {"app": SIZE_BYTES}
    fill(image)
    assert growths.measure(tmp_path, in_use={"app"}) == {"app": 0}


def test_disk_is_measured_once_more_after_its_last_use(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    growths.measure(tmp_path, in_use=set())
    growths.measure(tmp_path, in_use={"app"})
    fill(image)
    assert growths.measure(tmp_path, in_use=set()) == {"app": 0}


def test_disk_at_rest_is_measured_now_and_then(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    growths.measure(tmp_path, in_use=set())
    fill(image)
    looks = [growths.measure(tmp_path, in_use=set()) for _ in range(MAX_LOOKS)]
    assert looks[0] == {"app": SIZE_BYTES}
    assert looks[-1] == {"app": 0}


def test_disks_that_come_and_go_are_seen_at_once(tmp_path: Path) -> None:
    image, growths = made(tmp_path, "app"), Growths()
    growths.measure(tmp_path, in_use=set())
    image.unlink()
    image.parent.rmdir()
    made(tmp_path, "another")
    (tmp_path / "without a disk").mkdir()
    assert growths.measure(tmp_path, in_use=set()) == {"another": SIZE_BYTES}
