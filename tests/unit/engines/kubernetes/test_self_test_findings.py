"""What the self-test of a cluster finds, and a builder that is away."""

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from moorage.engines.dockerd.builder import Builder
from moorage.engines.images.image import parse_repository
from moorage.engines.images.registry import Credentials, Registry
from moorage.engines.kubernetes.images import RegistryImages
from moorage.engines.kubernetes.self_test import Findings, lacking, unproven
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


SOUND = Findings(
    uid=1000,
    has_token=False,
    writes_root=False,
    kernel="6.1.0-guest",
    reached=[],
    cap_eff="0000000000000000",
    cap_bnd="0000000000000000",
    no_new_privs="1",
    seccomp="2",
)
NODES = [{"metadata": {"name": "n1"}, "status": {"nodeInfo": {"kernelVersion": "6.1.0"}}}]
POD = {"spec": {"nodeName": "n1"}}


def test_pod_that_can_do_nothing_is_isolated() -> None:
    assert lacking(SOUND, is_virtual=False) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reached": ["169.254.169.254:80"]}, "169.254.169.254:80"),
        ({"uid": 0}, "root"),
        ({"has_token": True}, "token"),
        ({"writes_root": True}, "readOnlyRootFilesystem"),
        ({"no_new_privs": "0"}, "allowPrivilegeEscalation"),
        ({"cap_eff": "00000000a80425fb"}, "capabilities"),
        ({"cap_bnd": "0000000000000400"}, "capabilities"),
        ({"seccomp": "0"}, "seccomp"),
    ],
)
def test_each_way_out_is_told_with_what_mends_it(change: dict[str, Any], words: str) -> None:
    (sentence,) = lacking(msgspec.structs.replace(SOUND, **change), is_virtual=False)
    assert words in sentence
    assert ": " in sentence


def test_pod_that_says_nothing_is_not_isolated() -> None:
    assert lacking(None, is_virtual=True)


def test_kernel_of_its_own_is_judged_by_user_and_network_alone() -> None:
    of_guest = msgspec.structs.replace(SOUND, seccomp="0", cap_eff="f", no_new_privs="")
    assert lacking(of_guest, is_virtual=True) == []
    assert lacking(msgspec.structs.replace(of_guest, reached=["10.0.0.1:443"]), is_virtual=True)


def test_runtime_class_is_proved_by_another_kernel_than_the_nodes() -> None:
    assert unproven(SOUND, POD, NODES, runtime_class="kata") == []
    same = msgspec.structs.replace(SOUND, kernel="6.1.0")
    (sentence,) = unproven(same, POD, NODES, runtime_class="kata")
    assert "kata" in sentence
