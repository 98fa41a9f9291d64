"""The check of a disk that a killed gateway began holds up the next gateway, until it has ended."""

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from moorage.engines.disks.disk import check_image, make_image

# A gateway whose e2fsck takes long, on the image that is its argument.
GATEWAY = """\
import subprocess, sys
from pathlib import Path
from moorage.engines.disks import disk
from moorage.engines.host import processes

def slow(argv, *, accept=(), pass_fds=()):
    checking = subprocess.Popen(["sleep", "600"], pass_fds=pass_fds)
    print(checking.pid, flush=True)
    checking.wait()

processes.run = slow
disk.check_image(Path(sys.argv[1]))
"""


def is_locked(image: Path) -> bool:
    with image.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = tmp_path / "disk.img"
    make_image(image, 16 * 1024 * 1024)
    return image


def test_disk_waits_for_the_check_of_a_killed_gateway(image: Path) -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(image)], stdout=subprocess.PIPE, text=True
    )
    assert gateway.stdout is not None
    checking = int(gateway.stdout.readline())
    gateway.kill()
    gateway.wait()
    gateway.stdout.close()
    assert is_locked(image)

    done = threading.Event()

    def check() -> None:
        check_image(image)
        done.set()

    next_gateway = threading.Thread(target=check)
    next_gateway.start()
    assert not done.is_set()
    subprocess.run(["kill", "-KILL", str(checking)], check=True)
    assert done.wait(60)
    next_gateway.join()
    assert not is_locked(image)
