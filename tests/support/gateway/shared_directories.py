"""Directories below `tmp_path_factory` of fixtures that several tests share.

pytest itself removes what each test made, and of these either all at the end of a run or none. Here
they go with their fixtures, so that a run keeps what failed, and at no time more than it needs.
"""

import shutil
from collections.abc import Generator
from pathlib import Path

import pytest

_known: set[Path] = set()  # those of fixtures that live


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """What the fixture made goes with it, unless a test has failed meanwhile."""
    if fixturedef.scope == "function" or fixturedef.argname == "tmp_path_factory":
        return (yield)
    base: Path = request.getfixturevalue("tmp_path_factory").getbasetemp()
    before, made = set(base.iterdir()), set[Path]()
    failed = request.session.testsfailed

    def remove() -> None:  # runs last, as it is added first
        if request.session.testsfailed != failed:
            return
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        for path in made:
            assert not [line for line in mounts if Path(line.split()[4]).is_relative_to(path)]
            _known.discard(path)
            if path.is_symlink():  # to the newest of a name
                path.unlink()
            else:
                shutil.rmtree(path)

    request.addfinalizer(remove)
    try:
        return (yield)
    finally:
        made |= set(base.iterdir()) - before - _known  # without those of fixtures that it needed
        _known.update(made)
