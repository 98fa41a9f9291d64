"""Which Pythons a lock file's packages have wheels for."""

import pytest

from memory_tree import MemoryTree
from moorage.planning.python.wheels import wheels
from moorage.planning.reading.folder import Folder
from moorage.planning.reading.semver import Version


def allowed(lock: str, *, file: str = "poetry.lock") -> list[int]:
    found = wheels(Folder(MemoryTree({file: lock})))
    return [minor for minor in range(9, 15) if found.allows(Version(3, minor, 0))]


ALL = [9, 10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("names", "minors"),
    [
        ((), ALL),
        (("a-1.0.tar.gz",), ALL),
        (("a-1.0-py3-none-any.whl",), ALL),
        (("a-1.0-cp311-cp311-manylinux2014_x86_64.whl",), [11]),
        (("a-1.0-cp311-cp311-musllinux_1_1_x86_64.manylinux2014_x86_64.whl",), [11]),
        (("a-1.0-1-cp311-cp311-linux_x86_64.whl", "a-1.0-cp312-cp312-linux_x86_64.whl"), [11, 12]),
        (("a-1.0-cp311-cp311-win_amd64.whl",), ALL),
        (("a-1.0-cp313-cp313t-manylinux2014_x86_64.whl",), ALL),
        (("a-1.0-cp38-abi3-manylinux2014_x86_64.whl", "a-1.0-cp39-cp39-linux_x86_64.whl"), ALL),
        (("a-1.0-cp311-cp311-linux_x86_64.whl", "b-2-cp312-cp312-linux_x86_64.whl"), []),
    ],
)
def test_pythons_are_those_that_every_package_has_a_wheel_for(
    names: tuple[str, ...], minors: list[int]
) -> None:
    assert allowed("".join(f'{{file = "{name}"}}\n' for name in names)) == minors
    urls = "".join(f'{{ url = "https://files.example/ab/{name}", size = 1 }}\n' for name in names)
    assert allowed(urls, file="uv.lock") == minors


def test_package_that_decides_is_named() -> None:
    lock = '{file = "grpcio-1.0-cp311-cp311-linux_x86_64.whl"}'
    found = wheels(Folder(MemoryTree({"poetry.lock": lock})))
    assert (found.lacking(Version(3, 13, 0)), found.lacking(Version(3, 11, 0))) == ("grpcio", "")


def test_lock_file_that_is_too_large_decides_nothing() -> None:
    lock = '{file = "a-1.0-cp311-cp311-linux_x86_64.whl"}\n' + "#" * 3_000_000
    assert allowed(lock) == ALL
