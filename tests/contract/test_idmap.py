"""Mounts on which an app owns what on disk is nobody's on this machine."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.engines.disks.disk import AppDisk, make_image, mount_image
from moorage.engines.host import mounts
from moorage.engines.host import mounts as kernel

pytestmark = pytest.mark.root

ONE, OTHER = 1_999_999_990, 1_999_999_992


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[AppDisk]:
    made = AppDisk(image=tmp_path / "disk.img", mount_point=tmp_path / "mounted")
    make_image(made.image, 0)
    made.give_to(ONE)
    yield made
    made.remove()


def as_user(uid: int, *command: str) -> "subprocess.CompletedProcess[str]":
    switch = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return subprocess.run([*switch, *command], check=False, capture_output=True, text=True, cwd="/")


def reachable(path: Path) -> None:
    for parent in path.parents:
        if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
            parent.chmod(0o711)


def test_files_are_the_slots_own_and_on_disk_nobodys(disk: AppDisk) -> None:
    reachable(disk.app)
    assert as_user(ONE, "touch", str(disk.app / "made")).returncode == 0
    assert (disk.app / "made").stat().st_uid == ONE
    disk.unmount()
    disk.mount(OTHER)
    status = (disk.app / "made").stat()
    assert (status.st_uid, status.st_gid) == (OTHER, OTHER)
    assert as_user(ONE, "touch", str(disk.app / "made")).returncode != 0
    listed = subprocess.check_output(
        ["debugfs", "-R", "stat app/made", str(disk.image)], text=True, stderr=subprocess.DEVNULL
    )
    assert "User:  1000   Group:  1000" in listed


def test_two_slots_own_one_directory_at_a_time(disk: AppDisk, tmp_path: Path) -> None:
    disk.unmount()
    mount_image(disk.image, disk.mount_point)
    views = {ONE: tmp_path / "one", OTHER: tmp_path / "other"}
    for uid, view in views.items():
        view.mkdir()
        mounts.mount_mapped(disk.app, view, uid)
    try:
        for uid, view in views.items():
            reachable(view / "any")
            assert as_user(uid, "sh", "-c", f"echo {uid} >> {view}/both").returncode == 0
        assert (disk.app / "both").read_text() == f"{ONE}\n{OTHER}\n"
        assert as_user(ONE, "touch", str(views[OTHER] / "both")).returncode != 0
    finally:
        for view in views.values():
            kernel.unmount(view)


def test_roots_files_stay_roots_and_no_other_owner_is_possible(disk: AppDisk) -> None:
    (disk.mount_point / "kept").touch()
    assert (disk.mount_point / "kept").stat().st_uid == 0
    with pytest.raises(OSError, match="Value too large"):
        os.chown(disk.app, OTHER, OTHER)


def test_mount_that_can_not_be_mapped_leaves_nothing(
    disk: AppDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.unmount()

    def refuse(view: int, owners: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(kernel, "map_owners", refuse)
    with pytest.raises(mounts.IdmapUnsupported, match=r"Linux 5\.12"):
        disk.mount(ONE)
    assert not disk.mounted
