"""A cache of downloads that can neither be used nor removed costs no build."""

from pathlib import Path

import pytest

from moorage.engines.disks.caches import Caches, Downloads
from moorage.engines.disks.disk import DiskTemplates
from support.gateway.clock import MovableClock

ALICE = "0x" + "a1" * 20


@pytest.mark.parametrize("in_the_way", ["caches", "deployment"])
async def test_build_goes_without_downloads_that_cannot_be_removed(
    tmp_path: Path, clock: MovableClock, in_the_way: str
) -> None:
    caches = Caches(
        directory=tmp_path / "caches", wallet_bytes=1 << 24, total_bytes=1 << 24, clock=clock
    )
    templates = DiskTemplates(directory=tmp_path / "templates", clock=clock)
    downloads = Downloads(
        templates=templates, caches=caches, mount_points=tmp_path / "mounts", size_bytes=1 << 24
    )
    deployment = tmp_path / "deployments/one"
    deployment.mkdir(parents=True)
    place = caches.of(ALICE) if in_the_way == "caches" else deployment
    assert place is not None
    (place / "downloads.img").mkdir()  # no program here makes that, nor removes it

    for _ in range(2):  # the first gives it back
        async with downloads.leased(deployment, ALICE, 1000) as directory:
            assert directory is None
