"""The builder may be away when a gateway starts: what else the gateway does goes on."""

from pathlib import Path
from typing import cast

import pytest

from moorage.engines.dockerd.builder import Builder
from moorage.engines.images.image import parse_repository
from moorage.engines.images.registry import Credentials, Registry
from moorage.engines.kubernetes.images import RegistryImages
from moorage.errors import ConfigurationInvalid, DeployFailed, FailureCause, IsolationMissing


class Address:
    """Where a builder is reached when nothing keeps it away."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.opened = 0

    async def open(self) -> Builder:
        if self.faults:
            raise self.faults.pop(0)
        self.opened += 1
        return cast("Builder", object())


async def images(address: Address) -> RegistryImages:
    registry = Registry(Credentials({}))
    await registry.close()
    return RegistryImages(
        registry,
        parse_repository("registry.example/apps"),
        made_by="tests",
        credentials=Credentials({}),
        opened=address.open,
        scratch=Path("/nowhere"),
    )


async def test_builder_that_is_away_fails_builds_alone_and_is_used_once_it_is_back() -> None:
    address = Address(IsolationMissing(("away",)), OSError("away"))
    made = await images(address)
    assert await made.open() is None
    image = "registry.example/apps/wallet:first"
    with pytest.raises(DeployFailed, match="not there just now") as failed:
        await made.fetch_files(image, Path("/nowhere"), without=(), max_bytes=1)
    assert failed.value.cause is FailureCause.NO_CAPACITY
    assert await made.open() is await made.open() is not None
    assert address.opened == 1


async def test_builder_that_can_never_be_reached_is_told_at_the_start() -> None:
    with pytest.raises(ConfigurationInvalid):
        await (await images(Address(ConfigurationInvalid("no ca.pem")))).open()
