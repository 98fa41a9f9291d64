"""A cache of downloads that can neither be used nor removed costs no build."""

from pathlib import Path

from clock import MovableClock
from moorage.engines.disks.caches import Caches
from moorage.engines.disks.downloads import Downloads
from moorage.engines.disks.templates import DiskTemplates

ALICE = "0x" + "a1" * 20


async def test_build_goes_without_downloads_that_cannot_be_removed(
    tmp_path: Path, clock: MovableClock
) -> None:
    caches = Caches(
        directory=tmp_path / "caches", wallet_bytes=1 << 24, total_bytes=1 << 24, clock=clock
    )
    templates = DiskTemplates(directory=tmp_path / "templates", clock=clock)
    downloads = Downloads(templates=templates, caches=caches, mount_points=tmp_path / "mounts")
    wallets = caches.of(ALICE)
    assert wallets is not None
    (wallets / "downloads.img").mkdir()  # no program here makes that, nor removes it

    async with downloads.leased(ALICE, 1000) as directory:
        assert directory is None
        assert downloads.renew(ALICE, 1000) is None
    async with downloads.leased(ALICE, 1000) as directory:  # it was given back
        assert directory is None
