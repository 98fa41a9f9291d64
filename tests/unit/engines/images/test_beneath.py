"""A layer has what is other than beneath it, and removes what is gone."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from moorage.engines.images.beneath import Beneath, found_in, read
from moorage.engines.images.layer import LayerBounds, Place, write_layer

BOUNDS = LayerBounds(max_bytes=1 << 20)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory as an install has left it."""
    app = tmp_path / "app"
    for name in ("a/one", "a/two", "b/deep/three"):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(name)
    (app / "link").symlink_to("a/one")
    return app


def laid(app: Path) -> Beneath:
    return found_in([(app, "app")], but=Beneath())


def names(app: Path, over: Beneath) -> list[str]:
    """What a layer has."""
    out = io.BytesIO()
    write_layer([Place(app, "app")], out, BOUNDS, over=over)
    out.seek(0)
    with tarfile.open(fileobj=out) as layer:
        return layer.getnames()


def test_unchanged_files_are_left_out(app: Path) -> None:
    assert names(app, laid(app)) == ["app"]


def test_changed_and_added_files_are_written_with_the_directories_above(app: Path) -> None:
    over = laid(app)
    (app / "a/one").write_text("other")
    os.utime(app / "a/one", ns=(0, 0))  # whatever time it says
    (app / "b/deep/added").touch()
    assert names(app, over) == [
        "app",
        "app/a",
        "app/a/one",
        "app/b",
        "app/b/deep",
        "app/b/deep/added",
    ]


def test_what_is_gone_is_removed_and_what_is_in_it_with_it(app: Path) -> None:
    over = laid(app)
    (app / "a/two").unlink()
    (app / "b/deep/three").unlink()
    (app / "b/deep").rmdir()
    (app / "b").rmdir()
    assert names(app, over) == ["app", "app/a", "app/a/.wh.two", "app/.wh.b"]


def test_directory_in_place_of_a_link_is_written(app: Path) -> None:
    over = laid(app)
    (app / "link").unlink()
    (app / "link").mkdir()
    assert names(app, over) == ["app", "app/link"]


def test_files_of_the_upload_are_no_part_of_what_was_installed(app: Path) -> None:
    """Neither are directories that have nothing else; none of it is removed."""
    upload = Beneath(dict.fromkeys(["app", "app/a", "app/a/one", "app/b", "app/gone"]))
    (app / "a/two").unlink()
    assert names(app, upload) == ["app", "app/b", "app/b/deep", "app/b/deep/three", "app/link"]
    installed = found_in([(app, "app")], but=upload)
    assert installed.roots() == ["app/b/deep", "app/link"]


def test_list_is_read_as_it_was_written(app: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"line\nand \xff")
    (app / odd).touch()
    laid(app).write(tmp_path / "list")
    assert names(app, read(tmp_path / "list")) == ["app"]
    (app / odd).unlink()
    assert names(app, read(tmp_path / "list")) == ["app", f"app/.wh.{odd}"]


def test_nothing_lies_beneath_where_there_is_no_list(tmp_path: Path) -> None:
    assert "app" not in read(tmp_path / "none")
