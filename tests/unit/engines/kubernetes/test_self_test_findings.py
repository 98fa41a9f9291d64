from typing import Any

import msgspec
import pytest

from moorage.engines.kubernetes.self_test import Findings, lacking, unproven

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
