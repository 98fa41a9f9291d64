"""Which slot a deployment gets."""

import ipaddress
import sys
from pathlib import Path

import pytest

from moorage.engines.isolation import slots

FOUR = "10.201.0.0/28"  # has four slots


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS_DIRECTORY", tmp_path / "slots")
    monkeypatch.setattr(slots, "NETNS_DIRECTORY", tmp_path / "netns")
    monkeypatch.setattr(slots, "ROUTES", tmp_path / "route")
    (tmp_path / "netns").mkdir()
    routes(tmp_path)


def routes(tmp_path: Path, *networks: str, refused: str = "192.0.2.0/24") -> None:
    """The kernel's table of routes: addresses in hex, the last byte first (on most machines)."""
    lines = ["Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT"]
    for network in map(ipaddress.IPv4Network, networks):
        address, mask = (
            f"{int.from_bytes(it.packed, sys.byteorder):08X}"
            for it in (network.network_address, network.netmask)
        )
        flags = "0200" if network == ipaddress.IPv4Network(refused) else "0001"
        lines.append(f"eth0\t{address}\t00000000\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0  ")
    (tmp_path / "route").write_text("\n".join(lines) + "\n")


def holder(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


def test_lowest_number_is_given_first(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abc"]
    assert [slots.claim(FOUR, each).number for each in holders] == [0, 1, 2]
    slots.release(1, holders[1])
    assert slots.claim(FOUR, holder(tmp_path, "d")).number == 1


def test_wanted_number_is_kept_unless_another_has_it(tmp_path: Path) -> None:
    mine, other = holder(tmp_path, "mine"), holder(tmp_path, "other")
    assert slots.claim(FOUR, mine, wanted=3).number == 3
    assert slots.claim(FOUR, mine, wanted=3).number == 3
    assert slots.claim(FOUR, other, wanted=3).number == 0


def test_number_of_what_is_gone_is_given_again_when_no_other_is_left(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abcd"]
    for each in holders:
        slots.claim(FOUR, each)
    with pytest.raises(slots.NoSlotFree):
        slots.claim(FOUR, holder(tmp_path, "late"))
    holders[2].rmdir()
    assert slots.claim(FOUR, tmp_path / "late").number == 2


def test_number_with_a_network_left_is_not_given_again(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abcd"]
    for each in holders:
        slots.claim(FOUR, each)
    holders[2].rmdir()
    (tmp_path / "netns" / "mo12ab-2").touch()
    with pytest.raises(slots.NoSlotFree):
        slots.claim(FOUR, holder(tmp_path, "late"))


def test_number_whose_addresses_the_machine_routes_is_somebody_elses(tmp_path: Path) -> None:
    """What made the network may have left no file, or one in a directory of its own."""
    everything, apps_and_more = "0.0.0.0/0", "10.0.0.0/8"
    routes(tmp_path, everything, apps_and_more, FOUR, "10.201.0.0/30", "10.201.0.9/32")
    assert slots.free(FOUR) == 2
    mine, other = holder(tmp_path, "mine"), holder(tmp_path, "other")
    assert slots.claim(FOUR, mine, wanted=2).number == 1
    assert slots.claim(FOUR, other).number == 3
    assert slots.free(FOUR) == 0
    with pytest.raises(slots.NoSlotFree):
        slots.claim(FOUR, holder(tmp_path, "late"))


def test_network_that_the_machine_refuses_is_nobodys(tmp_path: Path) -> None:
    """As a gateway has it refuse the addresses that no app has, maybe of a part of the subnet."""
    routes(tmp_path, "10.201.0.0/24", refused="10.201.0.0/24")
    assert slots.claim("10.201.0.0/16", holder(tmp_path, "a")).number == 0


def test_number_of_what_is_gone_is_not_given_again_while_it_is_routed(tmp_path: Path) -> None:
    holders = [holder(tmp_path, name) for name in "abcd"]
    for each in holders:
        slots.claim(FOUR, each)
    for gone in holders[2:]:
        gone.rmdir()
    routes(tmp_path, "10.201.0.8/30")
    assert slots.free(FOUR) == 1
    assert slots.claim(FOUR, holder(tmp_path, "late")).number == 3


def test_own_number_is_kept_with_its_network(tmp_path: Path) -> None:
    mine = holder(tmp_path, "mine")
    slots.claim(FOUR, mine, wanted=1)
    routes(tmp_path, "10.201.0.4/30")
    assert slots.claim(FOUR, mine, wanted=1).number == 1


def test_what_is_free_is_what_can_still_be_claimed(tmp_path: Path) -> None:
    assert slots.free(FOUR) == 4
    holders = [holder(tmp_path, name) for name in "abcd"]
    for left, each in zip((3, 2, 1, 0), holders, strict=True):
        slots.claim(FOUR, each)
        assert slots.free(FOUR) == left
    holders[2].rmdir()
    assert slots.free(FOUR) == 1
    slots.release(1, holders[1])
    assert slots.free(FOUR) >= 1
